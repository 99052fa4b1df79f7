package standalone

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/api/enums/v1"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

const (
	scenarioTimeout = 2 * time.Minute // for a machine that is very slow; usually a few seconds
	pollEvery       = 50 * time.Millisecond
	longestWait     = 5 * time.Second // for the end of a cooldown
)

// scenario is what a simulation shows: the preemptions of an alarm that is posted in vCenter, which the watch sees, and of
// one that comes as a CloudEvent, which the receiver takes; and room for a VM that vCenter refuses to start.
type scenario struct {
	*stack
	meddle func(*stack) // of tests; nil otherwise
	names  map[string]string
	posted int32 // events made up so far
	seen   *observer
}

// act is one preemption.
type act struct {
	*scenario
	cluster string // in need
	colour  string // that the alarm turns to
	change  func(ctx context.Context, from, to string) error

	before []vmState // of every VM, before the alarm
	usage  usage     // of the cluster, before the alarm
	told   bool      // the plan was shown
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
	s.seen = newObserver(s.vcenter, s.out)
	defer s.seen.watch(pollEvery)()
	first := &act{scenario: s, cluster: contended, colour: "red"}
	first.change = first.postAlarm
	last, err := first.play(ctx)
	if err == nil {
		second := &act{scenario: s, cluster: other, colour: "yellow"}
		second.change = second.postEvent
		last, err = second.play(ctx)
	}
	if err == nil {
		err = s.makeRoom(ctx)
	}
	if last.RoundID == "" {
		return err
	}
	if !s.once {
		s.suggest(s.cooledDown(ctx, last))
	}
	return err
}

// play raises the alarm, follows what that starts, lets the alarm fall, and checks every VM.
func (a *act) play(ctx context.Context) (preemptapi.RoundResult, error) {
	a.before, a.usage = states(a.vcenter), a.measure()
	result, err := a.preempt(ctx)
	if err != nil {
		return result, err
	}
	a.report(result)
	if a.meddle != nil {
		a.meddle(a.stack)
	}
	if err := a.check(result); err != nil {
		return result, err
	}
	a.score.rounds++
	a.score.preempted += len(result.Preempted())
	if err := a.vcenter.SetClusterUsage(a.cluster, calmCPU, calmCPU); err != nil {
		return result, err
	}
	a.out.say("load", "%s calms down to %.0f %% CPU", a.cluster, calmCPU)
	if err := a.fall(ctx); err != nil {
		return result, err
	}
	if !a.policies()["default"].Restore.Enabled {
		return result, nil
	}
	a.score.returns = true
	return result, a.restored(ctx, result)
}

// restored follows the way back, and checks that everything is on again.
func (a *act) restored(ctx context.Context, r preemptapi.RoundResult) error {
	if len(r.Preempted()) == 0 {
		return nil
	}
	id := preemptapi.RestoreID(a.queue(), r.Scope)
	var back preemptapi.RestoreResult
	err := poll(ctx, "ask restore "+id+" how it stands", func() (bool, error) {
		v, err := a.client.QueryWorkflow(ctx, id, "", preemptapi.RestoreStateQuery)
		if err != nil {
			return false, err
		}
		back = preemptapi.RestoreResult{}
		if err := v.Get(&back); err != nil {
			return false, err
		}
		return !back.EndedAt.IsZero() && back.StartedAt.After(r.StartedAt), nil
	})
	if err != nil {
		return err
	}
	for _, vm := range back.VMs {
		a.out.say("restored", "%-*s  %s%s", nameWidth, vm.Name, vm.Outcome, because(vm.Reason.String()))
	}
	a.out.say("done", "restore %s: %s", back.State, id)
	for _, vm := range r.Preempted() {
		for _, now := range states(a.vcenter) {
			if ref(now.Ref) == vm && now.Power != types.VirtualMachinePowerStatePoweredOn {
				return fmt.Errorf("%s did not come back: restore %s ended as %s", now.Name, id, back.State)
			}
		}
	}
	a.score.restored += len(r.Preempted())
	return nil
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// cooledDown waits for the end of the cooldown where that is soon, so that what is suggested works at once. It returns
// the end where that is too far away to wait for.
func (s *scenario) cooledDown(ctx context.Context, r preemptapi.RoundResult) (end time.Time) {
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

func (a *act) measure() usage {
	cpu, mem := a.vcenter.Usage(a.cluster)
	return usage{cpu, mem}
}

func (s *scenario) describe() {
	for _, c := range s.vcenter.Inventory().Clusters {
		cpu, mem := s.vcenter.Usage(c.Name)
		s.out.say("vCenter", "%s: %s, %s of which %d are tagged %s, %.0f %% CPU, %.0f %% memory",
			c.Name, shown.Count(len(c.Hosts), "host"), shown.Count(len(c.VMs), "VM"), len(s.vcenter.TaggedVMs(c.Name)), preemption.DefaultTag, cpu, mem)
	}
}

// preempt raises the alarm and follows what that starts to its end.
func (a *act) preempt(ctx context.Context) (preemptapi.RoundResult, error) {
	if err := a.change(ctx, "green", a.colour); err != nil {
		return preemptapi.RoundResult{}, err
	}
	id, err := a.roundID(ctx)
	if err != nil {
		return preemptapi.RoundResult{}, err
	}
	return a.follow(ctx, id, a.tell)
}

// postAlarm changes the alarm on the first host of the cluster, in vCenter: the watch sees it.
func (a *act) postAlarm(ctx context.Context, from, to string) error {
	c := a.vcenter.Cluster(a.cluster)
	_, err := a.vcenter.PostAlarm(ctx, simulation.AlarmChange{Name: alarmName, Entity: c.Hosts[0].Ref, From: from, To: to, Cluster: c.Ref})
	if err == nil {
		a.out.say("alarm", "%s on %s of %s: %s to %s", alarmName, c.Hosts[0].Name, c.Name, from, to)
	}
	return err
}

// postEvent sends the change as a router of events does, as a CloudEvent over HTTP. vCenter itself knows nothing of it.
func (a *act) postEvent(ctx context.Context, from, to string) error {
	c := a.vcenter.Cluster(a.cluster)
	a.posted++
	e, err := a.dress(types.AlarmStatusChangedEvent{
		AlarmEvent: types.AlarmEvent{
			Event: types.Event{
				Key: a.posted, CreatedTime: time.Now().UTC(),
				ComputeResource: &types.ComputeResourceEventArgument{EntityEventArgument: types.EntityEventArgument{Name: c.Name}, ComputeResource: c.Ref},
				Host:            &types.HostEventArgument{EntityEventArgument: types.EntityEventArgument{Name: c.Hosts[0].Name}, Host: c.Hosts[0].Ref},
			},
			Alarm: types.AlarmEventArgument{EntityEventArgument: types.EntityEventArgument{Name: alarmName}, Alarm: a.vcenter.Alarm(alarmName)},
		},
		Source: types.ManagedEntityEventArgument{EntityEventArgument: types.EntityEventArgument{Name: c.Name}, Entity: c.Ref},
		Entity: types.ManagedEntityEventArgument{EntityEventArgument: types.EntityEventArgument{Name: c.Hosts[0].Name}, Entity: c.Hosts[0].Ref},
		From:   from, To: to,
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.events, bytes.NewReader(e))
	if err != nil {
		return fmt.Errorf("make a request to the receiver: %w", err)
	}
	req.Header.Set("Content-Type", event.ApplicationCloudEventsJSON)
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("send a CloudEvent to the receiver: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000)) // only for the error's text
		return fmt.Errorf("the receiver answers a CloudEvent with %s: %s", resp.Status, text)
	}
	a.out.say("event", "%s on %s of %s: %s to %s, as a CloudEvent to %s, which answers %s", alarmName, c.Hosts[0].Name, c.Name, from, to, a.events, resp.Status)
	return nil
}

// dress puts an alarm's event into a CloudEvent as the VMware Event Router does.
func (a *act) dress(ev types.AlarmStatusChangedEvent) ([]byte, error) {
	e := event.New()
	e.SetID(uuid.NewString())
	e.SetSource(a.vcenter.URL())
	e.SetType("com.vmware.event.router/event")
	e.SetSubject("AlarmStatusChangedEvent")
	e.SetTime(ev.CreatedTime)
	if err := e.SetData(event.ApplicationJSON, ev); err != nil {
		return nil, fmt.Errorf("put the alarm's event into a CloudEvent: %w", err)
	}
	return json.Marshal(e)
}

// id is the id of the workflow that takes the alarm of the cluster.
func (a *act) id() string { return alarmName + "@" + a.vcenter.Cluster(a.cluster).Ref.Value }

// intake asks the workflow how things stand; one of an earlier simulation, which has ended, is not asked.
func (a *act) intake(ctx context.Context) (r preemptapi.Response, err error) {
	d, err := a.client.DescribeWorkflowExecution(ctx, a.id(), "")
	if err != nil {
		return r, err
	}
	info := d.GetWorkflowExecutionInfo()
	if info.GetStatus() != enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return r, fmt.Errorf("workflow %s is %s", a.id(), info.GetStatus())
	}
	v, err := a.client.QueryWorkflow(ctx, a.id(), info.GetExecution().GetRunId(), preemption.WorkFlowQueryType)
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
func (a *act) roundID(ctx context.Context) (id string, err error) {
	err = poll(ctx, "ask workflow "+a.id()+" for its round", func() (bool, error) {
		r, err := a.intake(ctx)
		switch {
		case err != nil:
			return false, err
		case r.RoundID != "":
			id = r.RoundID
			a.out.say("request", "%s %q: %s, VMs tagged %s", preemption.WorkflowName, a.id(), r.Criticality, r.Tag)
			return true, nil
		case r.LastDecision != nil && r.LastDecision.Verdict != preemptapi.Started:
			return true, fmt.Errorf("workflow %s did not start a round: %s: %s", a.id(), r.LastDecision.Verdict, r.LastDecision.Reason)
		}
		return false, nil
	})
	return id, err
}

// follow shows the round while it runs, and returns its result.
func (s *scenario) follow(ctx context.Context, id string, tell func(preemptapi.RoundResult)) (result preemptapi.RoundResult, err error) {
	err = poll(ctx, "ask round "+id+" how it stands", func() (bool, error) {
		v, err := s.client.QueryWorkflow(ctx, id, "", preemptapi.RoundStateQuery)
		if err != nil {
			return false, err
		}
		var r preemptapi.RoundResult
		if err := v.Get(&r); err != nil {
			return false, err
		}
		tell(r)
		return !r.EndedAt.IsZero(), nil
	})
	if err != nil {
		return result, err
	}
	result, err = preemptapi.ResultOf(s.client.GetWorkflow(ctx, id, "").Get(ctx, &result), result)
	if err != nil {
		return result, fmt.Errorf("read the result of round %s: %w", id, err)
	}
	tell(result)
	s.seen.look() // what the round did is said before that it is done
	s.out.say("done", "round %s in %s: %s", result.State, result.EndedAt.Sub(result.StartedAt).Round(time.Millisecond), id)
	if result.State == preemptapi.RoundFailed {
		return result, fmt.Errorf("round %s failed: %s", id, result.Reason)
	}
	return result, nil
}

// fall turns the alarm green, and waits until nothing stands or waits any more.
func (a *act) fall(ctx context.Context) error {
	if err := a.change(ctx, a.colour, "green"); err != nil {
		return err
	}
	err := poll(ctx, "wait until workflow "+a.id()+" knows that the alarm fell", func() (bool, error) {
		r, err := a.intake(ctx)
		return err == nil && len(r.Levels) == 0 && len(r.Deferred) == 0 && r.State != preemptapi.IntakeRunning, err
	})
	if err == nil {
		a.out.say("done", "workflow %s has no active alarm any more and will not act again", a.id())
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
		if !clock.Sleep(ctx, pollEvery) {
			return errors.Join(fmt.Errorf("%s: %w", what, context.Cause(ctx)), last)
		}
	}
}

// ref is a reference of the simulator as the policy's noun.
func ref(r types.ManagedObjectReference) vsphere.Ref {
	return vsphere.Ref{Type: r.Type, Value: r.Value}
}
