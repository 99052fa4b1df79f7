package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// turn changes the colour of the alarm on a host of a cluster, and returns vCenter's event.
func (s *site) turn(ctx context.Context, c simulation.Cluster, host int, from, to string) (types.AlarmStatusChangedEvent, error) {
	return s.vc.PostAlarm(ctx, simulation.AlarmChange{Name: alarmName, Entity: c.Hosts[host].Ref, Cluster: c.Ref, From: from, To: to})
}

// cloudEvent wraps vCenter's event as a router does.
func (s *site) cloudEvent(ev types.AlarmStatusChangedEvent) (event.Event, error) {
	e := event.New()
	e.SetID(fmt.Sprintf("%s-%d", s.queue, ev.Key))
	e.SetSource(s.vc.URL())
	e.SetType("com.vmware.event.router/event")
	e.SetSubject("AlarmStatusChangedEvent")
	e.SetTime(ev.CreatedTime)
	return e, e.SetData(event.ApplicationJSON, ev)
}

// request turns the alarm red, and asks in its name as the original function does.
func (s *site) request(ctx context.Context, c simulation.Cluster) error {
	ev, err := s.turn(ctx, c, 0, "green", "red")
	if err != nil {
		return err
	}
	e, err := s.cloudEvent(ev)
	if err != nil {
		return err
	}
	return s.signal(ctx, s.intake(c), preemption.WorkflowRequest{Tag: preemption.DefaultTag, Criticality: preemption.CriticalityHigh, Event: e})
}

// byHand is a request of a person, for everything that carries the tag.
func (s *site) byHand() preemption.WorkflowRequest {
	e := event.New()
	e.SetID(fmt.Sprintf("%s-%d", s.queue, time.Now().UnixNano()))
	e.SetSource("bench")
	e.SetType(preemption.RunEventType)
	e.SetTime(time.Now())
	return preemption.WorkflowRequest{Tag: preemption.DefaultTag, Criticality: preemption.CriticalityHigh, Event: e}
}

func (s *site) signal(ctx context.Context, id string, req preemption.WorkflowRequest) error {
	_, err := s.client.SignalWithStartWorkflow(ctx, id, preemption.SignalChannel, req,
		client.StartWorkflowOptions{ID: id, TaskQueue: s.queue}, preemption.WorkflowName)
	if err != nil {
		return fmt.Errorf("ask for a preemption: %w", err)
	}
	return nil
}

// intake is the workflow id of the alarm's intake on a cluster.
func (s *site) intake(c simulation.Cluster) string {
	return alarmName + "@" + c.Ref.Value + "@" + s.queue
}

// state asks an intake how it stands.
func (s *site) state(ctx context.Context, id string) (r preemptapi.Response, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	v, err := s.client.QueryWorkflow(ctx, id, "", preemption.WorkFlowQueryType)
	if err != nil {
		return r, err
	}
	var text string
	if err := v.Get(&text); err != nil {
		return r, err
	}
	return r, json.Unmarshal([]byte(text), &r)
}

// over waits until an intake's next round has ended, and returns its result.
func (s *site) over(ctx context.Context, id string) (result preemptapi.RoundResult, err error) {
	err = s.until(ctx, "the round of "+id+" ends", func() error {
		r, err := s.state(ctx, id)
		switch {
		case err != nil:
			return err
		case r.Round == nil || r.Round.RoundID == s.last[id] || r.State == preemptapi.IntakeRunning:
			return fmt.Errorf("it is %s; last decision: %+v; rejections: %v", r.State, r.LastDecision, r.Rejections)
		}
		result = *r.Round
		return nil
	})
	s.last[id] = result.RoundID
	return result, err
}

// texts are the attributes of VMs.
func (s *site) texts(vms []simulation.VM) []string {
	all := make([]string, len(vms))
	for i, vm := range vms {
		all[i], _ = s.vc.Attribute(vm.Ref, preemption.AttributeKey)
	}
	return all
}

// gone waits until all these VMs are off and their attributes say something new.
func (s *site) gone(ctx context.Context, vms []simulation.VM, before []string) error {
	next := 0
	return s.until(ctx, "all VMs are off and annotated", func() error {
		for ; next < len(vms); next++ {
			text, _ := s.vc.Attribute(vms[next].Ref, preemption.AttributeKey)
			if text == before[next] || s.vc.PowerState(vms[next].Ref) != types.VirtualMachinePowerStatePoweredOff {
				return fmt.Errorf("%d of %d are", next, len(vms))
			}
		}
		return nil
	})
}

// powerOn turns the VMs on again in the model.
func (s *site) powerOn(vms []simulation.VM) error {
	for _, vm := range vms {
		if err := s.vc.SetPowerState(vm.Ref, types.VirtualMachinePowerStatePoweredOn); err != nil {
			return err
		}
	}
	return nil
}

// eased turns the alarm green and, where a watch follows it, waits until the intakes know.
func (s *site) eased(ctx context.Context, clusters []simulation.Cluster, watched bool) error {
	for _, c := range clusters {
		if _, err := s.turn(ctx, c, 0, "red", "green"); err != nil {
			return err
		}
	}
	for _, c := range clusters {
		if !watched {
			break
		}
		if err := s.until(ctx, "the fall is known", func() error { return s.calmed(ctx, c) }); err != nil {
			return err
		}
	}
	return nil
}
