package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// alarmEvent posts an alarm on a host of the cluster and returns it as the router's CloudEvent.
func (s *site) alarmEvent(cluster string, host int, from, to string) event.Event {
	s.t.Helper()
	cl := s.vc.Cluster(cluster)
	ev, err := s.vc.PostAlarm(s.t.Context(), simulation.AlarmChange{
		Name: "cluster-cpu-above-80", Entity: cl.Hosts[host].Ref, From: from, To: to, Cluster: cl.Ref,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	e := event.New()
	e.SetID(fmt.Sprintf("ev-%d-%d", nextID.Add(1), ev.Key))
	e.SetSource(s.vc.URL())
	e.SetType("com.vmware.event.router/event")
	e.SetSubject("AlarmStatusChangedEvent")
	e.SetTime(ev.CreatedTime)
	if err := e.SetData(event.ApplicationJSON, ev); err != nil {
		s.t.Fatal(err)
	}
	return e
}

// plainEvent is an event that is no alarm.
func plainEvent() event.Event {
	e := event.New()
	e.SetID(fmt.Sprintf("run-%d", nextID.Add(1)))
	e.SetSource("preempctl-run")
	e.SetType(preemption.RunEventType)
	e.SetTime(time.Now())
	return e
}

// alarmRequest is what the original function sends for an alarm on a host of the cluster.
func (s *site) alarmRequest(cluster string, c preemption.Criticality) preemption.WorkflowRequest {
	return preemption.WorkflowRequest{Tag: "preemptible", Criticality: c, Event: s.alarmEvent(cluster, 0, "green", "red")}
}

// signal sends a request as existing clients do.
func (s *site) signal(id string, req any) {
	s.t.Helper()
	_, err := s.c.SignalWithStartWorkflow(s.t.Context(), s.id(id), preemption.SignalChannel, req,
		client.StartWorkflowOptions{ID: s.id(id), TaskQueue: s.queue}, preemption.WorkflowName)
	if err != nil {
		s.t.Fatal(err)
	}
}

// id makes a workflow id this site's own, for all sites share one server.
func (s *site) id(id string) string { return s.queue + "." + id }

// state queries current_state.
func (s *site) state(id string) (r preemptapi.Response) {
	s.t.Helper()
	v, err := s.c.QueryWorkflow(s.t.Context(), s.id(id), "", preemption.WorkFlowQueryType)
	// A query waits for a worker that was killed a moment ago, or for a busy one, and gives up before a test should.
	for deadline := time.Now().Add(time.Minute); timedOut(err) && time.Now().Before(deadline); {
		v, err = s.c.QueryWorkflow(s.t.Context(), s.id(id), "", preemption.WorkFlowQueryType)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	var text string
	if err := v.Get(&text); err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		s.t.Fatalf("current_state is no JSON: %v\n%s", err, text)
	}
	return r
}

func timedOut(err error) bool {
	var late *serviceerror.DeadlineExceeded
	var dropped *serviceerror.Canceled       // the worker that was given the query died with it
	var again *serviceerror.WorkflowNotReady // its task is tried again
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &late) || errors.As(err, &dropped) || errors.As(err, &again)
}

// until polls the intake until ok says so.
func (s *site) until(id, what string, ok func(preemptapi.Response) bool) preemptapi.Response {
	s.t.Helper()
	return s.untilWithin(30*time.Second, id, what, ok)
}

func (s *site) untilWithin(d time.Duration, id, what string, ok func(preemptapi.Response) bool) preemptapi.Response {
	s.t.Helper()
	var last preemptapi.Response
	deadline := time.Now().Add(d)
	for time.Now().Before(deadline) {
		if last = s.state(id); ok(last) {
			return last
		}
		time.Sleep(20 * time.Millisecond)
	}
	b, _ := json.MarshalIndent(last, "", " ")
	s.t.Fatalf("never: %s; last state:\n%s", what, b)
	return last
}

// done waits until the intake's last round has ended.
func (s *site) done(id string) preemptapi.RoundResult {
	s.t.Helper()
	return *s.until(id, "the round ended", func(r preemptapi.Response) bool {
		return r.Round != nil && r.State != "running"
	}).Round
}

// round waits for a round workflow to close, and returns its result even where it failed.
func (s *site) round(id string) preemptapi.RoundResult {
	s.t.Helper()
	var r preemptapi.RoundResult
	res, err := preemptapi.ResultOf(s.c.GetWorkflow(s.t.Context(), id, "").Get(s.t.Context(), &r), r)
	if err == nil {
		return res
	}
	return r
}

// attribute reads the custom attribute of a VM.
func (s *site) attribute(vm types.ManagedObjectReference) (a preempt.Attribute, ok bool) {
	s.t.Helper()
	text, ok := s.vc.Attribute(vm, preemption.AttributeKey)
	if !ok || text == "" {
		return a, false
	}
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		s.t.Fatalf("the attribute of %s is no JSON: %v", vm, err)
	}
	return a, true
}

// agree checks that what vCenter says of every VM matches the reported result: off and annotated exactly
// where the round claims it, and nothing else touched.
func (s *site) agree(results ...preemptapi.RoundResult) {
	s.t.Helper()
	claimed := map[string]preemptapi.VMOutcome{}
	for _, r := range results {
		for _, t := range r.Targets {
			if !t.Outcome.Ours() {
				continue
			}
			if _, twice := claimed[t.Ref.Value]; twice {
				s.t.Errorf("%s is claimed twice", t.Name)
			}
			claimed[t.Ref.Value] = t
		}
	}
	for _, vm := range s.vc.VMs() {
		t, ours := claimed[vm.Ref.Value]
		_, annotated := s.attribute(vm.Ref)
		off := s.vc.PowerState(vm.Ref) == types.VirtualMachinePowerStatePoweredOff
		switch {
		case ours && !off:
			s.t.Errorf("%s is reported %s and is on", vm.Name, t.Outcome)
		case ours && annotated != t.Annotated:
			s.t.Errorf("%s: reported annotated=%v, is %v", vm.Name, t.Annotated, annotated)
		case !ours && annotated:
			s.t.Errorf("%s carries the attribute and is in no result", vm.Name)
		}
	}
}

// ledger reads the ledger's state.
func (s *site) ledger() (st ledger.State) {
	s.t.Helper()
	v, err := s.c.QueryWorkflow(s.t.Context(), ledger.WorkflowID(s.queue), "", ledger.QueryState)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := v.Get(&st); err != nil {
		s.t.Fatal(err)
	}
	return st
}
