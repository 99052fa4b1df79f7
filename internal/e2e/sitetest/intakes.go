package sitetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// AlarmEvent posts an alarm on a host of the cluster and returns it as the router's CloudEvent.
func (s *Site) AlarmEvent(cluster string, host int, from, to string) event.Event {
	s.T.Helper()
	cl := s.VC.Cluster(cluster)
	ev, err := s.VC.PostAlarm(s.T.Context(), simulation.AlarmChange{
		Name: "cluster-cpu-above-80", Entity: cl.Hosts[host].Ref, From: from, To: to, Cluster: cl.Ref,
	})
	if err != nil {
		s.T.Fatal(err)
	}
	e := event.New()
	e.SetID(fmt.Sprintf("ev-%d-%d", NextID.Add(1), ev.Key))
	e.SetSource(s.VC.URL())
	e.SetType("com.vmware.event.router/event")
	e.SetSubject("AlarmStatusChangedEvent")
	e.SetTime(ev.CreatedTime)
	if err := e.SetData(event.ApplicationJSON, ev); err != nil {
		s.T.Fatal(err)
	}
	return e
}

// PlainEvent is an event that is no alarm.
func PlainEvent() event.Event {
	e := event.New()
	e.SetID(fmt.Sprintf("run-%d", NextID.Add(1)))
	e.SetSource("preempctl-run")
	e.SetType(preemption.RunEventType)
	e.SetTime(time.Now())
	return e
}

// AlarmRequest is what the original function sends for an alarm on a host of the cluster.
func (s *Site) AlarmRequest(cluster string, c preemption.Criticality) preemption.WorkflowRequest {
	return preemption.WorkflowRequest{Tag: "preemptible", Criticality: c, Event: s.AlarmEvent(cluster, 0, "green", "red")}
}

// Signal sends a request as existing clients do.
func (s *Site) Signal(id string, req any) {
	s.T.Helper()
	_, err := s.Temporal.SignalWithStartWorkflow(s.T.Context(), s.ID(id), preemption.SignalChannel, req,
		client.StartWorkflowOptions{ID: s.ID(id), TaskQueue: s.Queue}, preemption.WorkflowName)
	if err != nil {
		s.T.Fatal(err)
	}
}

// ID makes a workflow id this site's own, for all sites share one server.
func (s *Site) ID(id string) string { return s.Queue + "." + id }

// State queries current_state.
func (s *Site) State(id string) (r preemptapi.Response) {
	s.T.Helper()
	v, err := s.Temporal.QueryWorkflow(s.T.Context(), s.ID(id), "", preemption.WorkFlowQueryType)
	// A query waits for a worker that was killed a moment ago, or for a busy one, and gives up before a test should.
	for deadline := time.Now().Add(time.Minute); timedOut(err) && time.Now().Before(deadline); {
		v, err = s.Temporal.QueryWorkflow(s.T.Context(), s.ID(id), "", preemption.WorkFlowQueryType)
	}
	if err != nil {
		s.T.Fatal(err)
	}
	var text string
	if err := v.Get(&text); err != nil {
		s.T.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		s.T.Fatalf("current_state is no JSON: %v\n%s", err, text)
	}
	return r
}

func timedOut(err error) bool {
	var late *serviceerror.DeadlineExceeded
	var dropped *serviceerror.Canceled       // the worker that was given the query died with it
	var again *serviceerror.WorkflowNotReady // its task is tried again
	var grown *serviceerror.QueryFailed      // among others: its history grew while the worker read it
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &late) || errors.As(err, &dropped) || errors.As(err, &again) || errors.As(err, &grown)
}

// Until polls the intake until ok says so.
func (s *Site) Until(id, what string, ok func(preemptapi.Response) bool) preemptapi.Response {
	s.T.Helper()
	return s.UntilWithin(time.Minute, id, what, ok)
}

// UntilWithin is Until with a time limit of its own.
func (s *Site) UntilWithin(d time.Duration, id, what string, ok func(preemptapi.Response) bool) preemptapi.Response {
	s.T.Helper()
	var last preemptapi.Response
	deadline := time.Now().Add(d)
	for time.Now().Before(deadline) {
		if last = s.State(id); ok(last) {
			return last
		}
		time.Sleep(20 * time.Millisecond)
	}
	b, _ := json.MarshalIndent(last, "", " ")
	s.T.Fatalf("never: %s; last state:\n%s", what, b)
	return last
}

// Done waits until the intake's last round has ended.
func (s *Site) Done(id string) preemptapi.RoundResult {
	s.T.Helper()
	return *s.Until(id, "the round ended", func(r preemptapi.Response) bool {
		return r.Round != nil && r.State != preemptapi.IntakeRunning
	}).Round
}

// Round waits for a round workflow to close, and returns its result even where it failed.
func (s *Site) Round(id string) preemptapi.RoundResult {
	s.T.Helper()
	var r preemptapi.RoundResult
	res, err := preemptapi.ResultOf(s.Temporal.GetWorkflow(s.T.Context(), id, "").Get(s.T.Context(), &r), r)
	if err == nil {
		return res
	}
	return r
}

// Attribute reads the custom attribute of a VM.
func (s *Site) Attribute(vm types.ManagedObjectReference) (a preempt.Attribute, ok bool) {
	s.T.Helper()
	text, ok := s.VC.Attribute(vm, preemption.AttributeKey)
	if !ok || text == "" {
		return a, false
	}
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		s.T.Fatalf("the attribute of %s is no JSON: %v", vm, err)
	}
	return a, true
}

// Agree checks that what vCenter says of every VM matches the reported result: off and annotated exactly
// where the round claims it, and nothing else touched.
func (s *Site) Agree(results ...preemptapi.RoundResult) {
	s.T.Helper()
	claimed := map[string]preemptapi.VMOutcome{}
	for _, r := range results {
		for _, t := range r.Targets {
			if !t.Outcome.Ours() {
				continue
			}
			if _, twice := claimed[t.Ref.Value]; twice {
				s.T.Errorf("%s is claimed twice", t.Name)
			}
			claimed[t.Ref.Value] = t
		}
	}
	for _, vm := range s.VC.VMs() {
		t, ours := claimed[vm.Ref.Value]
		_, annotated := s.Attribute(vm.Ref)
		off := s.VC.PowerState(vm.Ref) == types.VirtualMachinePowerStatePoweredOff
		switch {
		case ours && !off:
			s.T.Errorf("%s is reported %s and is on", vm.Name, t.Outcome)
		case ours && annotated != t.Annotated:
			s.T.Errorf("%s: reported annotated=%v, is %v", vm.Name, t.Annotated, annotated)
		case !ours && annotated:
			s.T.Errorf("%s carries the attribute and is in no result", vm.Name)
		}
	}
}

// Ledger reads the ledger's state.
func (s *Site) Ledger() (st ledger.State) {
	s.T.Helper()
	v, err := s.Temporal.QueryWorkflow(s.T.Context(), ledger.WorkflowID(s.Queue), "", ledger.QueryState)
	if err != nil {
		s.T.Fatal(err)
	}
	if err := v.Get(&st); err != nil {
		s.T.Fatal(err)
	}
	return st
}

// Ask sends a request by update, as preemptctl run --wait does.
func (s *Site) Ask(id string, r preemption.WorkflowRequest) preemptapi.Decision {
	s.T.Helper()
	op := s.Temporal.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
		ID: s.ID(id), TaskQueue: s.Queue, WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
	}, preemption.WorkflowName)
	h, err := s.Temporal.UpdateWithStartWorkflow(s.T.Context(), client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: op,
		UpdateOptions: client.UpdateWorkflowOptions{
			UpdateName: preemption.RequestUpdate, Args: []any{r}, WaitForStage: client.WorkflowUpdateStageCompleted,
		},
	})
	if err != nil {
		s.T.Fatal(err)
	}
	var d preemptapi.Decision
	if err := h.Get(s.T.Context(), &d); err != nil {
		s.T.Fatal(err)
	}
	return d
}

// PersonRequest is what preemptctl sends for a person.
func PersonRequest(c preemption.Criticality) preemption.WorkflowRequest {
	return preemption.WorkflowRequest{Tag: "preemptible", Criticality: c, Event: PlainEvent(), Origin: preemption.OriginPerson}
}

// OffIn counts the tagged VMs of a cluster that are off.
func (s *Site) OffIn(cluster string) (n int) {
	for _, vm := range s.VC.TaggedVMs(cluster) {
		if s.VC.PowerState(vm.Ref) == "poweredOff" {
			n++
		}
	}
	return n
}

// Change signals an alarm change, as our triggers do for falls.
func (s *Site) Change(id, cluster string, host int, from, to string) {
	s.T.Helper()
	s.Changes(id, s.Changed(cluster, host, from, to))
}

// Changed posts an alarm change in vCenter and returns what is signalled of it.
func (s *Site) Changed(cluster string, host int, from, to string) preemption.AlarmChange {
	s.T.Helper()
	cl := s.VC.Cluster(cluster)
	ev, err := s.VC.PostAlarm(s.T.Context(), simulation.AlarmChange{
		Name: "cluster-cpu-above-80", Entity: cl.Hosts[host].Ref, From: from, To: to, Cluster: cl.Ref,
	})
	if err != nil {
		s.T.Fatal(err)
	}
	c := preemption.AlarmChange{
		Alarm: "cluster-cpu-above-80", Entity: "HostSystem:" + cl.Hosts[host].Ref.Value, Scope: s.Cluster(cluster).String(),
		From: from, To: to, Time: ev.CreatedTime, EventKey: int64(ev.Key),
	}
	if to == "red" || to == "yellow" {
		c.Request, _ = json.Marshal(preemption.WorkflowRequest{Tag: "preemptible", Criticality: preemption.CriticalityHigh})
	}
	return c
}

// Changes sends one signal of alarm changes.
func (s *Site) Changes(id string, payload any) {
	s.T.Helper()
	_, err := s.Temporal.SignalWithStartWorkflow(s.T.Context(), s.ID(id), preemption.AlarmSignal, payload,
		client.StartWorkflowOptions{ID: s.ID(id), TaskQueue: s.Queue}, preemption.WorkflowName)
	if err != nil {
		s.T.Fatal(err)
	}
}

// padded is a change of an alarm that carries a whole event of about n bytes, as earlier receivers signalled it.
func (s *Site) padded(host int, from, to string, n int) preemption.AlarmChange {
	s.T.Helper()
	c := s.Changed("cluster-a", host, from, to)
	e := s.AlarmEvent("cluster-a", host, from, to)
	var data map[string]any
	s.Must(json.Unmarshal(e.Data(), &data))
	data["fullFormattedMessage"] = strings.Repeat("x", n)
	s.Must(e.SetData(event.ApplicationJSON, data))
	c.Request, _ = json.Marshal(preemption.WorkflowRequest{Tag: "preemptible", Criticality: preemption.CriticalityHigh, Event: e})
	return c
}

// Backlog sends n changes while no worker runs, then starts one: all are decided, and a later fall is acted upon.
func (s *Site) Backlog(n, size int) {
	s.T.Helper()
	c := s.padded(0, "green", "red", size)
	for i := range n {
		c.Time, c.EventKey = c.Time.Add(time.Second), c.EventKey+1
		c.From, c.To = "yellow", "red"
		if i%2 == 1 {
			c.From, c.To = "red", "yellow"
		}
		s.Changes("alarm", c)
	}
	s.Worker()
	s.UntilWithin(3*time.Minute, "alarm", "all were decided", func(r preemptapi.Response) bool { return r.Requests >= n })
	c.Time, c.EventKey, c.From, c.To, c.Request = c.Time.Add(time.Second), c.EventKey+1, "yellow", "green", nil
	s.Changes("alarm", c)
	s.UntilWithin(time.Minute, "alarm", "the fall was acted upon", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
}
