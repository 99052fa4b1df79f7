package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// ask sends a request by update, as preemptctl run --wait does.
func (s *site) ask(id string, r preemption.WorkflowRequest) preemptapi.Decision {
	s.t.Helper()
	op := s.c.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
		ID: s.id(id), TaskQueue: s.queue, WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
	}, preemption.WorkflowName)
	h, err := s.c.UpdateWithStartWorkflow(s.t.Context(), client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: op,
		UpdateOptions: client.UpdateWorkflowOptions{
			UpdateName: preemption.RequestUpdate, Args: []any{r}, WaitForStage: client.WorkflowUpdateStageCompleted,
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	var d preemptapi.Decision
	if err := h.Get(s.t.Context(), &d); err != nil {
		s.t.Fatal(err)
	}
	return d
}

func person(c preemption.Criticality) preemption.WorkflowRequest {
	return preemption.WorkflowRequest{Tag: "preemptible", Criticality: c, Event: plainEvent(), Origin: preemption.OriginPerson}
}

// off counts the tagged VMs of a cluster that are off.
func (s *site) off(cluster string) (n int) {
	for _, vm := range s.vc.TaggedVMs(cluster) {
		if s.vc.PowerState(vm.Ref) == "poweredOff" {
			n++
		}
	}
	return n
}

func TestARequestWithoutAnEventPreemptsEverythingTagged(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.MaxVMs = 50 }))
	s.worker()
	s.signal("cli", preemption.WorkflowRequest{Tag: "preemptible", Criticality: preemption.CriticalityHigh})
	r := s.done("cli")
	if r.State != preemptapi.RoundCompleted || len(r.Preempted()) != 12 {
		t.Fatalf("want all 12 tagged VMs, got %s %d: %s", r.State, len(r.Preempted()), r.Reason)
	}
	s.agree(r)
	a, _ := s.attribute(s.vc.TaggedVMs("cluster-a")[0].Ref)
	if _, err := preemption.ParseEvent(a.Event); err != nil {
		t.Errorf("the attribute's event must be a CloudEvent still: %v", err)
	}
}

func TestGarbageIsRejectedWithAReasonAndTheWorkflowLivesOn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.worker()
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
		s.signal("alarm", b)
	}
	res := s.until("alarm", "all are rejected", func(r preemptapi.Response) bool { return len(r.Rejections) == len(bad) })
	for _, r := range res.Rejections {
		if r.Reason == "" || r.Time.IsZero() {
			t.Errorf("a rejection without reason or time: %+v", r)
		}
	}
	if s.off("") != 0 {
		t.Fatal("garbage turned VMs off")
	}
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	if r := s.done("alarm"); len(r.Preempted()) != 6 {
		t.Fatalf("the good request after the garbage: %+v", r)
	}
	if err := s.c.CancelWorkflow(t.Context(), s.id("alarm"), ""); err != nil {
		t.Fatal(err)
	}
	var final preemptapi.Response
	if err := s.c.GetWorkflow(t.Context(), s.id("alarm"), "").Get(t.Context(), &final); err != nil {
		t.Fatalf("garbage must not make it uncancellable: %v", err)
	}
	if len(final.VirtualMachines) != 6 || final.WorkflowName != preemption.WorkflowName {
		t.Errorf("the result must tell what was done: %+v", final)
	}
}

func TestCurrentStateAnswersTheDocumentedFieldsAsAJSONString(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.worker()
	req := s.alarmRequest("cluster-a", preemption.CriticalityHigh)
	req.ReplyTo = "http://broker.invalid/x"
	s.signal("alarm", req)
	s.until("alarm", "VMs are preempted", func(r preemptapi.Response) bool { return len(r.VirtualMachines) > 0 })
	v, err := s.c.QueryWorkflow(t.Context(), s.id("alarm"), "", preemption.WorkFlowQueryType)
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
	if typed.WorkflowID != s.id("alarm") || typed.RunID == "" || typed.WorkflowName != preemption.WorkflowName ||
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
	s := newSite(t)
	s.worker()
	s.signal("alarm", "garbage")
	v, err := s.c.QueryWorkflow(t.Context(), s.id("alarm"), "", preemption.WorkFlowQueryType)
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
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.MaxVMs, p.Cooldown = 2, clock.Duration(100*time.Millisecond) }))
	s.worker()
	req := s.alarmRequest("cluster-a", preemption.CriticalityHigh)
	s.signal("alarm", req)
	s.done("alarm")
	time.Sleep(300 * time.Millisecond) // past the cooldown: only the deduplication holds it back
	req.Event.SetID("drawn-anew-by-the-router")
	s.signal("alarm", req)
	s.signal("another-id", req)
	s.until("alarm", "both were taken", func(r preemptapi.Response) bool { return r.Requests == 2 })
	s.until("another-id", "it was decided", func(r preemptapi.Response) bool {
		return r.LastDecision != nil && r.LastDecision.Verdict == preemptapi.Duplicate
	})
	if n := s.off("cluster-a"); n != 2 {
		t.Errorf("one event, delivered thrice to two ids, took %d VMs; 2 is the plan's limit", n)
	}
}

func TestTwoHostsOfOneClusterAreOnePreemptionAndOneGreenUndoesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.MaxVMs = 2 }))
	s.vc.SetTaskDelay(300 * time.Millisecond)
	s.worker()
	for host := range 2 {
		s.signal("alarm", preemption.WorkflowRequest{
			Tag: "preemptible", Criticality: preemption.CriticalityHigh, Event: s.alarmEvent("cluster-a", host, "green", "red"),
		})
	}
	s.change("alarm", "cluster-a", 0, "red", "green")
	r := s.done("alarm")
	if r.State != preemptapi.RoundCompleted || len(r.Preempted()) != 2 || s.off("cluster-a") != 2 {
		t.Fatalf("want one round of 2 that one host's green does not withdraw, got %+v", r)
	}
	if up := s.state("alarm").Levels; len(up) != 1 || up[0].Entity != "HostSystem:"+s.vc.Cluster("cluster-a").Hosts[1].Ref.Value {
		t.Errorf("the second host still stands: %+v", up)
	}
}

// change signals an alarm change, as our triggers do for falls.
func (s *site) change(id, cluster string, host int, from, to string) {
	s.t.Helper()
	s.changes(id, s.changed(cluster, host, from, to))
}

// changed posts an alarm change in vCenter and returns what is signalled of it.
func (s *site) changed(cluster string, host int, from, to string) preemption.AlarmChange {
	s.t.Helper()
	cl := s.vc.Cluster(cluster)
	ev, err := s.vc.PostAlarm(s.t.Context(), simulation.AlarmChange{
		Name: "cluster-cpu-above-80", Entity: cl.Hosts[host].Ref, From: from, To: to, Cluster: cl.Ref,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	c := preemption.AlarmChange{
		Alarm: "cluster-cpu-above-80", Entity: "HostSystem:" + cl.Hosts[host].Ref.Value, Scope: s.cluster(cluster).String(),
		From: from, To: to, Time: ev.CreatedTime, EventKey: int64(ev.Key),
	}
	if to == "red" || to == "yellow" {
		c.Request, _ = json.Marshal(preemption.WorkflowRequest{Tag: "preemptible", Criticality: preemption.CriticalityHigh})
	}
	return c
}

// changes sends one signal of alarm changes.
func (s *site) changes(id string, payload any) {
	s.t.Helper()
	_, err := s.c.SignalWithStartWorkflow(s.t.Context(), s.id(id), preemption.AlarmSignal, payload,
		client.StartWorkflowOptions{ID: s.id(id), TaskQueue: s.queue}, preemption.WorkflowName)
	if err != nil {
		s.t.Fatal(err)
	}
}

func TestAnUnknownAlarmStateHoldsAndThenFalls(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.MaxVMs, p.GrayTimeout = 2, clock.Duration(time.Second) }))
	s.worker()
	s.change("alarm", "cluster-a", 0, "green", "red")
	s.done("alarm")
	s.change("alarm", "cluster-a", 0, "red", "gray")
	if up := s.until("alarm", "gray is known", func(r preemptapi.Response) bool { return len(r.Levels) == 1 && r.Levels[0].Colour == "gray" }); up.Levels[0].Rank == 0 {
		t.Errorf("gray must hold: %+v", up.Levels)
	}
	s.until("alarm", "gray counts as fallen", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
}

func TestAnIdleIntakeCompletesBeforeItsClientsTimeout(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.worker()
	_, err := s.c.SignalWithStartWorkflow(t.Context(), s.id("cli"), preemption.SignalChannel, person(preemption.CriticalityHigh),
		client.StartWorkflowOptions{ID: s.id("cli"), TaskQueue: s.queue, WorkflowExecutionTimeout: 10 * time.Second}, preemption.WorkflowName)
	if err != nil {
		t.Fatal(err)
	}
	var res preemptapi.Response
	if err := s.c.GetWorkflow(t.Context(), s.id("cli"), "").Get(t.Context(), &res); err != nil {
		t.Fatalf("it must not end as timed out: %v", err)
	}
	if res.State != preemptapi.RoundCompleted || len(res.VirtualMachines) != 10 {
		t.Errorf("%s, %d VMs", res.State, len(res.VirtualMachines))
	}
}

func TestAPlanTouchesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.worker()
	var r preemptapi.RoundResult
	run, err := s.c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: s.id("plan"), TaskQueue: s.queue},
		preemptapi.PlanType, s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	if err == nil {
		err = run.Get(t.Context(), &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	if r.State != preemptapi.RoundPlanned || len(r.Targets) != 6 || r.SparedCount[policy.OutOfScope] != 6 || r.PolicyHash == "" {
		t.Errorf("%+v", r)
	}
	if s.off("") != 0 {
		t.Error("a plan turned VMs off")
	}
}

func TestAnObservingPolicyTouchesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.Mode = policy.ModeObserve }))
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	if r := s.done("alarm"); r.State != preemptapi.RoundObserved || len(r.Targets) != 6 || len(r.Preempted()) != 0 {
		t.Errorf("%+v", r)
	}
	if s.off("") != 0 {
		t.Error("an observing policy turned VMs off")
	}
}

func TestAClusterThatThisVCenterDoesNotHaveIsRefusedAndNeverWidened(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.worker()
	req := s.alarmRequest("cluster-a", preemption.CriticalityHigh)
	var data map[string]any
	if err := json.Unmarshal(req.Event.Data(), &data); err != nil {
		t.Fatal(err)
	}
	data["computeResource"].(map[string]any)["computeResource"] = map[string]any{"type": "ClusterComputeResource", "value": "domain-c999"}
	if err := req.Event.SetData(event.ApplicationJSON, data); err != nil {
		t.Fatal(err)
	}
	s.signal("alarm", req)
	r := s.done("alarm")
	if r.State != preemptapi.RoundFailed || !strings.Contains(r.Reason, "domain-c999") || s.off("") != 0 {
		t.Errorf("want it refused by reference, got %s %q, %d off", r.State, r.Reason, s.off(""))
	}
	if st := s.state("alarm"); st.State != preemptapi.RoundFailed || st.Failure == "" {
		t.Errorf("the status must show the failure: %+v", st)
	}
}

func TestARoundWhoseWorkflowWasTerminatedFreesItsScope(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.Criticality.Low.GracePeriod = clock.Duration(time.Hour) }))
	for _, vm := range s.vc.TaggedVMs("") {
		s.vc.IgnoreShutdown(vm.Ref)
	}
	s.worker()
	d := s.ask("cli", person(preemption.CriticalityLow))
	if d.Verdict != preemptapi.Started {
		t.Fatalf("%+v", d)
	}
	if got := s.ask("cli", person(preemption.CriticalityLow)); got.Verdict != preemptapi.Refused || got.RoundID != d.RoundID {
		t.Errorf("a second person beside a running round: %+v", got)
	}
	if err := s.c.TerminateWorkflow(t.Context(), d.RoundID, "", "an operator's hand"); err != nil {
		t.Fatal(err)
	}
	res := s.until("cli", "the intake finds out", func(r preemptapi.Response) bool { return r.State == preemptapi.RoundFailed })
	if !strings.Contains(res.Failure, "Terminated") {
		t.Errorf("the status must say how the round ended: %q", res.Failure)
	}
	deadline := time.Now().Add(10 * time.Second)
	for len(s.ledger().Reserved) > 0 && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
	}
	if d := s.ask("cli", person(preemption.CriticalityLow)); d.Verdict != preemptapi.Started {
		t.Errorf("the scope is still held: %+v", d)
	}
}
