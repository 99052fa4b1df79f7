package standalone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

const (
	scenarioTimeout = 2 * time.Minute // for a machine that is very slow; usually a few seconds
	pollEvery       = 50 * time.Millisecond
	longestWait     = 5 * time.Second // for the end of a cooldown
)

// scenario is the one preemption that a simulation shows.
type scenario struct {
	*stack
	meddle func(*stack) // of tests; nil otherwise

	before []vmState // of every VM, before the alarm
	usage  usage     // of the contended cluster, before the alarm
	names  map[string]string
	told   bool // the plan was shown
}

type usage struct{ cpu, memory float64 }

func newScenario(s *stack, meddle func(*stack)) *scenario {
	names := map[string]string{}
	for _, vm := range s.vcenter.VMs() {
		names[vm.Ref.Value] = vm.Name
	}
	return &scenario{stack: s, meddle: meddle, names: names}
}

// play shows the scenario and checks it. Its error says what went wrong; what vCenter says against the result is part
// of it.
func (s *scenario) play(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, scenarioTimeout,
		fmt.Errorf("the scenario did not end within %s: look at the workflows with preemptctl, or set DEBUG=true", scenarioTimeout))
	defer cancel()
	s.describe()
	s.before, s.usage = states(s.vcenter), s.measure()
	stop := newObserver(s.vcenter, s.out).watch(pollEvery)
	result, err := s.preempt(ctx)
	stop()
	if err != nil {
		return err
	}
	s.report(result)
	if err := s.fall(ctx); err != nil {
		return err
	}
	if s.meddle != nil {
		s.meddle(s.stack)
	}
	err = s.check(result)
	if !s.once {
		s.suggest(s.cooledDown(ctx, result))
	}
	return err
}

// cooledDown waits for the end of the cooldown where that is soon, so that what is suggested works at once. It returns
// the end where that is too far away to wait for.
func (s *scenario) cooledDown(ctx context.Context, r preempt.RoundResult) (end time.Time) {
	end = r.EndedAt.Add(s.policies()["default"].Cooldown.D() + pollEvery)
	left := time.Until(end)
	if left > longestWait {
		return end
	}
	select {
	case <-ctx.Done():
	case <-time.After(left):
	}
	return time.Time{}
}

func (s *scenario) measure() usage {
	cpu, mem := s.vcenter.Usage(contended)
	return usage{cpu, mem}
}

func (s *scenario) describe() {
	for _, c := range s.vcenter.Inventory().Clusters {
		cpu, mem := s.vcenter.Usage(c.Name)
		s.out.say("vCenter", "%s: %d hosts, %d VMs of which %d are tagged %s, %.0f %% CPU, %.0f %% memory",
			c.Name, len(c.Hosts), len(c.VMs), len(s.vcenter.TaggedVMs(c.Name)), preemption.DefaultTag, cpu, mem)
	}
}

// preempt raises the alarm, asks for the preemption as the original function does, and follows it to its end.
func (s *scenario) preempt(ctx context.Context) (preempt.RoundResult, error) {
	ev, err := s.postAlarm(ctx, "green", "red")
	if err != nil {
		return preempt.RoundResult{}, err
	}
	e, err := s.dress(ev)
	if err != nil {
		return preempt.RoundResult{}, err
	}
	req := preemption.WorkflowRequest{Tag: preemption.DefaultTag, Criticality: preemption.CriticalityHigh, Event: e}
	_, err = s.client.SignalWithStartWorkflow(ctx, alarmName, preemption.SignalChannel, req,
		client.StartWorkflowOptions{ID: alarmName, TaskQueue: s.queue()}, preemption.WorkflowName)
	if err != nil {
		return preempt.RoundResult{}, fmt.Errorf("signal and start %s %q: %w", preemption.WorkflowName, alarmName, err)
	}
	s.out.say("request", "%s %q: %s, VMs tagged %s", preemption.WorkflowName, alarmName, req.Criticality, req.Tag)
	id, err := s.roundID(ctx)
	if err != nil {
		return preempt.RoundResult{}, err
	}
	return s.follow(ctx, id)
}

// postAlarm changes the alarm on the first host of the contended cluster, where the alarm is defined.
func (s *scenario) postAlarm(ctx context.Context, from, to string) (types.AlarmStatusChangedEvent, error) {
	c := s.vcenter.Cluster(contended)
	ev, err := s.vcenter.PostAlarm(ctx, simulation.AlarmChange{Name: alarmName, Entity: c.Hosts[0].Ref, From: from, To: to, Cluster: c.Ref})
	if err != nil {
		return ev, err
	}
	s.out.say("alarm", "%s on %s of %s: %s to %s", alarmName, c.Hosts[0].Name, c.Name, from, to)
	return ev, nil
}

// dress puts the alarm's event into a CloudEvent as the VMware Event Router does. The source also names this
// simulation: event keys begin anew in each, and the same key from the same source would be the same request.
func (s *scenario) dress(ev types.AlarmStatusChangedEvent) (event.Event, error) {
	e := event.New()
	e.SetID(strconv.Itoa(int(ev.Key)))
	e.SetSource(s.vcenter.URL() + "#" + strconv.FormatInt(ev.CreatedTime.UnixNano(), 36))
	e.SetType("com.vmware.event.router/event")
	e.SetSubject("AlarmStatusChangedEvent")
	e.SetTime(ev.CreatedTime)
	if err := e.SetData(event.ApplicationJSON, ev); err != nil {
		return e, fmt.Errorf("put the alarm's event into a CloudEvent: %w", err)
	}
	return e, nil
}

// intake asks the workflow how things stand.
func (s *scenario) intake(ctx context.Context) (r preempt.Response, err error) {
	v, err := s.client.QueryWorkflow(ctx, alarmName, "", preemption.WorkFlowQueryType)
	if err != nil {
		return r, err
	}
	var text string
	if err := v.Get(&text); err != nil {
		return r, err
	}
	return r, json.Unmarshal([]byte(text), &r)
}

// roundID waits until the workflow has started its round.
func (s *scenario) roundID(ctx context.Context) (id string, err error) {
	err = poll(ctx, "ask workflow "+alarmName+" for its round", func() (bool, error) {
		r, err := s.intake(ctx)
		switch {
		case err != nil:
			return false, err
		case r.RoundID != "":
			id = r.RoundID
			return true, nil
		case r.LastDecision != nil && r.LastDecision.Verdict != preempt.Started:
			return true, fmt.Errorf("workflow %s did not start a round: %s: %s", alarmName, r.LastDecision.Verdict, r.LastDecision.Reason)
		}
		return false, nil
	})
	return id, err
}

// follow shows the round while it runs, and returns its result.
func (s *scenario) follow(ctx context.Context, id string) (result preempt.RoundResult, err error) {
	err = poll(ctx, "ask round "+id+" how it stands", func() (bool, error) {
		v, err := s.client.QueryWorkflow(ctx, id, "", preempt.RoundStateQuery)
		if err != nil {
			return false, err
		}
		var r preempt.RoundResult
		if err := v.Get(&r); err != nil {
			return false, err
		}
		s.tell(r)
		return !r.EndedAt.IsZero(), nil
	})
	if err != nil {
		return result, err
	}
	result, err = preempt.ResultOf(s.client.GetWorkflow(ctx, id, "").Get(ctx, &result), result)
	if err != nil {
		return result, fmt.Errorf("read the result of round %s: %w", id, err)
	}
	s.tell(result)
	s.out.say("done", "round %s in %s: %s", result.State, result.EndedAt.Sub(result.StartedAt).Round(time.Millisecond), id)
	if result.State == preempt.RoundFailed {
		return result, fmt.Errorf("round %s failed: %s", id, result.Reason)
	}
	return result, nil
}

// fall turns the alarm green, as the trigger tells it, and waits until nothing stands or waits any more.
func (s *scenario) fall(ctx context.Context) error {
	r, err := s.intake(ctx)
	if err != nil {
		return fmt.Errorf("ask workflow %s which alarms stand: %w", alarmName, err)
	}
	ev, err := s.postAlarm(ctx, "red", "green")
	if err != nil {
		return err
	}
	for _, level := range r.Levels {
		change := preemption.AlarmChange{
			Alarm: level.Alarm, Entity: level.Entity, Scope: level.Scope, From: ev.From, To: ev.To,
			Time: ev.CreatedTime, EventKey: int64(ev.Key),
		}
		if err := s.client.SignalWorkflow(ctx, alarmName, "", preemption.AlarmSignal, change); err != nil {
			return fmt.Errorf("tell workflow %s that the alarm fell: %w", alarmName, err)
		}
	}
	err = poll(ctx, "wait until workflow "+alarmName+" knows that the alarm fell", func() (bool, error) {
		r, err := s.intake(ctx)
		return err == nil && len(r.Levels) == 0 && len(r.Deferred) == 0 && r.State != "running", err
	})
	if err == nil {
		s.out.say("done", "workflow %s knows of no alarm any more and will not act again", alarmName)
	}
	return err
}

// poll calls f until it says that it is through. An error of f is final only with that word: otherwise it is tried
// again, for a workflow that has only just begun cannot answer yet.
func poll(ctx context.Context, what string, f func() (through bool, err error)) error {
	var last error
	for {
		through, err := f()
		if through {
			return err
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s: %w", what, context.Cause(ctx)), last)
		case <-time.After(pollEvery):
		}
	}
}

// ref is a reference of the simulator as the policy's noun.
func ref(r types.ManagedObjectReference) policy.Ref { return policy.Ref{Type: r.Type, Value: r.Value} }
