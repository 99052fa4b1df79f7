package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

func TestARequestWithoutAnEventPreemptsEverythingTagged(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.MaxVMs = 50 }))
	s.Worker()
	s.Signal("cli", preemption.WorkflowRequest{Tag: "preemptible", Criticality: preemption.CriticalityHigh})
	r := s.Done("cli")
	if r.State != preemptapi.RoundCompleted || len(r.Preempted()) != 12 {
		t.Fatalf("want all 12 tagged VMs, got %s %d: %s", r.State, len(r.Preempted()), r.Reason)
	}
	s.Agree(r)
	a, _ := s.Attribute(s.VC.TaggedVMs("cluster-a")[0].Ref)
	if _, err := preemption.ParseEvent(a.Event); err != nil {
		t.Errorf("the attribute's event must be a CloudEvent still: %v", err)
	}
}

func TestGarbageIsRejectedWithAReasonAndTheWorkflowLivesOn(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	bad := []any{
		"no request at all", 42, nil,
		[]byte{0xff, 0x00},
		map[string]any{"tag": []int{1}},
		map[string]any{"tag": "", "criticality": "HIGH"},
		map[string]any{"tag": "preemptible", "criticality": "SEVERE"},
		map[string]any{"tag": "preemptible", "criticality": "HIGH", "event": map[string]any{"id": "x"}},
		map[string]any{"tag": "preemptible", "criticality": "HIGH", "event": "text"},
		map[string]any{"tag": "preemptible", "criticality": "HIGH", "x": strings.Repeat("y", preemption.MaxRequestBytes)},
	}
	for _, b := range bad {
		s.Signal("alarm", b)
	}
	res := s.Until("alarm", "all are rejected", func(r preemptapi.Response) bool { return len(r.Rejections) == len(bad) })
	for _, r := range res.Rejections {
		if r.Reason == "" || r.Time.IsZero() {
			t.Errorf("a rejection without reason or time: %+v", r)
		}
	}
	if s.OffIn("") != 0 {
		t.Fatal("garbage turned VMs off")
	}
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	if r := s.Done("alarm"); len(r.Preempted()) != 6 {
		t.Fatalf("the good request after the garbage: %+v", r)
	}
	if err := s.Temporal.CancelWorkflow(t.Context(), s.ID("alarm"), ""); err != nil {
		t.Fatal(err)
	}
	var final preemptapi.Response
	if err := s.Temporal.GetWorkflow(t.Context(), s.ID("alarm"), "").Get(t.Context(), &final); err != nil {
		t.Fatalf("garbage must not make it uncancellable: %v", err)
	}
	if len(final.VirtualMachines) != 6 || final.WorkflowName != preemption.WorkflowName {
		t.Errorf("the result must tell what was done: %+v", final)
	}
}

func TestCurrentStateAnswersTheDocumentedFieldsAsAJSONString(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	req := s.AlarmRequest("cluster-a", preemption.CriticalityHigh)
	req.ReplyTo = "http://broker.invalid/x"
	s.Signal("alarm", req)
	s.Until("alarm", "VMs are preempted", func(r preemptapi.Response) bool { return len(r.VirtualMachines) > 0 })
	v, err := s.Temporal.QueryWorkflow(t.Context(), s.ID("alarm"), "", preemption.WorkFlowQueryType)
	if err != nil {
		t.Fatal(err)
	}
	var text string
	if err := v.Get(&text); err != nil {
		t.Fatalf("the answer is no JSON string: %v", err)
	}
	var typed preemption.WorkflowResponse
	if err := json.Unmarshal([]byte(text), &typed); err != nil {
		t.Fatalf("an existing client cannot read it: %v\n%s", err, text)
	}
	if typed.WorkflowID != s.ID("alarm") || typed.RunID == "" || typed.WorkflowName != preemption.WorkflowName ||
		typed.LastPreemption.IsZero() || len(typed.VirtualMachines) != 6 || typed.Tag != "preemptible" ||
		typed.Criticality != "HIGH" || typed.Event.ID() != req.Event.ID() || typed.ReplyTo != req.ReplyTo {
		t.Errorf("%+v", typed)
	}
	var fields map[string]any
	_ = json.Unmarshal([]byte(text), &fields)
	ref := fields["virtualMachines"].([]any)[0].(map[string]any)
	if ref["Type"] != "VirtualMachine" || ref["Value"] == "" {
		t.Errorf("references are written %v", ref)
	}
}

func TestTheStateBeforeAnyRoundIsReadableByExistingClients(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	s.Signal("alarm", "garbage")
	v, err := s.Temporal.QueryWorkflow(t.Context(), s.ID("alarm"), "", preemption.WorkFlowQueryType)
	if err != nil {
		t.Fatal(err)
	}
	var text string
	_ = v.Get(&text)
	for _, want := range []string{`"lastPreemptionTime":"0001-01-01T00:00:00Z"`, `"virtualMachines":[]`, `"event":{"specversion":"1.0"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing in %s", want, text)
		}
	}
}

func TestARedeliveredAlarmActsOnce(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.MaxVMs, p.Cooldown = 2, clock.Duration(100*time.Millisecond) }))
	s.Worker()
	req := s.AlarmRequest("cluster-a", preemption.CriticalityHigh)
	s.Signal("alarm", req)
	s.Done("alarm")
	time.Sleep(300 * time.Millisecond) // past the cooldown: only the deduplication holds it back
	req.Event.SetID("drawn-anew-by-the-router")
	s.Signal("alarm", req)
	s.Signal("another-id", req)
	s.Until("alarm", "both were taken", func(r preemptapi.Response) bool { return r.Requests == 2 })
	s.Until("another-id", "it was decided", func(r preemptapi.Response) bool {
		return r.LastDecision != nil && r.LastDecision.Verdict == preemptapi.Duplicate
	})
	if n := s.OffIn("cluster-a"); n != 2 {
		t.Errorf("one event, delivered thrice to two ids, took %d VMs; 2 is the plan's limit", n)
	}
}

func TestTwoHostsOfOneClusterAreOnePreemptionAndOneGreenUndoesNothing(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.MaxVMs = 2 }))
	s.VC.SetTaskDelay(300 * time.Millisecond)
	s.Worker()
	for host := range 2 {
		s.Signal("alarm", preemption.WorkflowRequest{
			Tag: "preemptible", Criticality: preemption.CriticalityHigh, Event: s.AlarmEvent("cluster-a", host, "green", "red"),
		})
	}
	s.Change("alarm", "cluster-a", 0, "red", "green")
	r := s.Done("alarm")
	if r.State != preemptapi.RoundCompleted || len(r.Preempted()) != 2 || s.OffIn("cluster-a") != 2 {
		t.Fatalf("want one round of 2 that one host's green does not withdraw, got %+v", r)
	}
	if up := s.State("alarm").Levels; len(up) != 1 || up[0].Entity != "HostSystem:"+s.VC.Cluster("cluster-a").Hosts[1].Ref.Value {
		t.Errorf("the second host still stands: %+v", up)
	}
}

func TestAnUnknownAlarmStateHoldsAndThenFalls(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.MaxVMs, p.GrayTimeout = 2, clock.Duration(time.Second) }))
	s.Worker()
	s.Change("alarm", "cluster-a", 0, "green", "red")
	s.Done("alarm")
	s.Change("alarm", "cluster-a", 0, "red", "gray")
	if up := s.Until("alarm", "gray is known", func(r preemptapi.Response) bool { return len(r.Levels) == 1 && r.Levels[0].Colour == "gray" }); up.Levels[0].Rank == 0 {
		t.Errorf("gray must hold: %+v", up.Levels)
	}
	s.Until("alarm", "gray counts as fallen", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
}

func TestAnIdleIntakeCompletesBeforeItsClientsTimeout(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	_, err := s.Temporal.SignalWithStartWorkflow(t.Context(), s.ID("cli"), preemption.SignalChannel, sitetest.PersonRequest(preemption.CriticalityHigh),
		client.StartWorkflowOptions{ID: s.ID("cli"), TaskQueue: s.Queue, WorkflowExecutionTimeout: 10 * time.Second}, preemption.WorkflowName)
	if err != nil {
		t.Fatal(err)
	}
	var res preemptapi.Response
	if err := s.Temporal.GetWorkflow(t.Context(), s.ID("cli"), "").Get(t.Context(), &res); err != nil {
		t.Fatalf("it must not end as timed out: %v", err)
	}
	if res.State != preemptapi.IntakeCompleted || len(res.VirtualMachines) != 10 {
		t.Errorf("%s, %d VMs", res.State, len(res.VirtualMachines))
	}
}

func TestAPlanTouchesNothing(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	var r preemptapi.RoundResult
	run, err := s.Temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: s.ID("plan"), TaskQueue: s.Queue},
		preemptapi.PlanType, s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	if err == nil {
		err = run.Get(t.Context(), &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	if r.State != preemptapi.RoundPlanned || len(r.Targets) != 6 || r.SparedCount[policy.OutOfScope] != 6 || r.PolicyHash == "" {
		t.Errorf("%+v", r)
	}
	if s.OffIn("") != 0 {
		t.Error("a plan turned VMs off")
	}
}

func TestAnObservingPolicyTouchesNothing(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.Mode = policy.ModeObserve }))
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	if r := s.Done("alarm"); r.State != preemptapi.RoundObserved || len(r.Targets) != 6 || len(r.Preempted()) != 0 {
		t.Errorf("%+v", r)
	}
	if s.OffIn("") != 0 {
		t.Error("an observing policy turned VMs off")
	}
}

func TestAClusterThatThisVCenterDoesNotHaveIsRefusedAndNeverWidened(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	req := s.AlarmRequest("cluster-a", preemption.CriticalityHigh)
	var data map[string]any
	if err := json.Unmarshal(req.Event.Data(), &data); err != nil {
		t.Fatal(err)
	}
	data["computeResource"].(map[string]any)["computeResource"] = map[string]any{"type": "ClusterComputeResource", "value": "domain-c999"}
	if err := req.Event.SetData(event.ApplicationJSON, data); err != nil {
		t.Fatal(err)
	}
	s.Signal("alarm", req)
	r := s.Done("alarm")
	if r.State != preemptapi.RoundFailed || !strings.Contains(r.Reason, "domain-c999") || s.OffIn("") != 0 {
		t.Errorf("want it refused by reference, got %s %q, %d off", r.State, r.Reason, s.OffIn(""))
	}
	if st := s.State("alarm"); st.State != preemptapi.IntakeFailed || st.Failure == "" {
		t.Errorf("the status must show the failure: %+v", st)
	}
}

func TestARoundWhoseWorkflowWasTerminatedFreesItsScope(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.Criticality.Low.GracePeriod = clock.Duration(time.Hour) }))
	for _, vm := range s.VC.TaggedVMs("") {
		s.VC.IgnoreShutdown(vm.Ref)
	}
	s.Worker()
	d := s.Ask("cli", sitetest.PersonRequest(preemption.CriticalityLow))
	if d.Verdict != preemptapi.Started {
		t.Fatalf("%+v", d)
	}
	if got := s.Ask("cli", sitetest.PersonRequest(preemption.CriticalityLow)); got.Verdict != preemptapi.Refused || got.RoundID != d.RoundID {
		t.Errorf("a second person beside a running round: %+v", got)
	}
	if err := s.Temporal.TerminateWorkflow(t.Context(), d.RoundID, "", "an operator's hand"); err != nil {
		t.Fatal(err)
	}
	res := s.Until("cli", "the intake finds out", func(r preemptapi.Response) bool { return r.State == preemptapi.IntakeFailed })
	if !strings.Contains(res.Failure, "Terminated") {
		t.Errorf("the status must say how the round ended: %q", res.Failure)
	}
	deadline := time.Now().Add(10 * time.Second)
	for len(s.Ledger().Reserved) > 0 && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
	}
	if d := s.Ask("cli", sitetest.PersonRequest(preemption.CriticalityLow)); d.Verdict != preemptapi.Started {
		t.Errorf("the scope is still held: %+v", d)
	}
}
