package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/event"
	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// signals are the payloads of a signal that reached a workflow, which must not have continued as new.
func (s *site) signals(id, name string) (payloads []json.RawMessage) {
	s.t.Helper()
	it := s.c.GetWorkflowHistory(s.t.Context(), s.id(id), "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		e, err := it.Next()
		if err != nil {
			s.t.Fatal(err)
		}
		if e.GetWorkflowExecutionStartedEventAttributes().GetContinuedExecutionRunId() != "" {
			s.t.Fatalf("%s continued as new: its signals are in several runs", id)
		}
		a := e.GetWorkflowExecutionSignaledEventAttributes()
		if a.GetSignalName() != name {
			continue
		}
		var p json.RawMessage
		if err := converter.GetDefaultDataConverter().FromPayloads(a.GetInput(), &p); err != nil {
			s.t.Fatal(err)
		}
		payloads = append(payloads, p)
	}
	return payloads
}

// told are the alarm changes that an intake was told of.
func (s *site) told(id string) (all []preemption.AlarmChange) {
	s.t.Helper()
	for _, p := range s.signals(id, preemption.AlarmSignal) {
		if p[0] != '[' {
			p = slices.Concat([]byte("["), p, []byte("]"))
		}
		var some []preemption.AlarmChange
		if err := json.Unmarshal(p, &some); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, some...)
	}
	return all
}

// disturbed reaches Temporal, and lets something happen at one call.
type disturbed struct {
	trigger.Temporal
	mu     sync.Mutex
	left   int // until it happens
	happen func(ctx context.Context, call func(context.Context) error) error
}

func (d *disturbed) SignalWithStartWorkflow(ctx context.Context, id, signal string, arg any, o client.StartWorkflowOptions, workflow any, args ...any) (run client.WorkflowRun, err error) {
	call := func(ctx context.Context) error {
		run, err = d.Temporal.SignalWithStartWorkflow(ctx, id, signal, arg, o, workflow, args...)
		return err
	}
	d.mu.Lock()
	d.left--
	now := d.left == 0
	d.mu.Unlock()
	if !now {
		return run, call(ctx)
	}
	return run, d.happen(ctx, call)
}

func TestWhatHappensWhileManyEventsAreHandedOverDoublesNone(t *testing.T) {
	t.Parallel()
	clusters, hosts := sized(12, 5), 4
	for name, interrupt := range map[string]func(*site){
		"the worker stops":    func(s *site) { s.workers[0].stop(); s.worker() },
		"the watch is paused": func(s *site) { s.control(true); s.control(false) },
		"Temporal is away":    nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := watched(t, withInventory(func(o *simulation.Options) {
				o.Clusters, o.HostsPerCluster, o.VMsPerCluster, o.Tagged = clusters, hosts, 1, 1
			}))
			reached := make(chan struct{})
			s.engine = func(e *trigger.Engine) {
				e.Temporal = &disturbed{Temporal: e.Temporal, left: clusters * hosts / 2, happen: func(ctx context.Context, call func(context.Context) error) error {
					defer close(reached)
					if interrupt == nil {
						return errors.New("nobody answers")
					}
					err := call(context.WithoutCancel(ctx))
					reached <- struct{}{}
					select {
					case <-ctx.Done(): // Temporal has it, and nobody hears of that
						return ctx.Err()
					case <-time.After(2 * time.Second):
						return err
					}
				}}
			}
			s.worker()
			s.engine = nil
			s.watch(quickWatch)
			s.control(true) // so that all is handed over in one look
			keys := map[int64]bool{}
			for host := range hosts {
				for _, c := range s.vc.Inventory().Clusters {
					keys[int64(s.alarm(c.Name, host, "green", "red").Key)] = true
				}
			}
			s.control(false)
			<-reached
			if interrupt != nil {
				interrupt(s)
			}
			for _, c := range s.vc.Inventory().Clusters {
				id := s.exists(s.intake("cpu", c.Name))
				s.until(id, "all its hosts are known to be in alarm", func(r preemptapi.Response) bool { return len(r.Levels) == hosts && r.State != "running" })
			}
			all := int64(clusters * hosts)
			c := s.point("all were counted", func(c watchapi.Checkpoint) bool { return c.Sent >= all && c.Events >= all })
			if c.Sent != all || c.Events != all || c.Caught != 0 {
				t.Errorf("counted %d events, %d sent, %d caught", c.Events, c.Sent, c.Caught)
			}
			for _, c := range s.vc.Inventory().Clusters {
				for _, change := range s.told(s.intake("cpu", c.Name)) {
					if !keys[change.EventKey] {
						t.Errorf("event %d on %s was handed over twice, or never posted", change.EventKey, c.Name)
					}
					delete(keys, change.EventKey)
				}
			}
			if len(keys) != 0 {
				t.Errorf("events that were never handed over: %v", keys)
			}
		})
	}
}

// noted is an action that tells a workflow of its own of every event.
type noted struct {
	trigger.Action
	id string
}

func (n noted) Order(in trigger.Incoming, _ string) (trigger.Order, string, bool, error) {
	return trigger.Order{
		WorkflowID: n.id, WorkflowType: preemption.WorkflowName, Signal: "PowerChanged", Payload: in.Event.Power, What: "a note",
	}, "", true, nil
}

func TestARuleOnPowerEventsGetsEachOnceThroughTheWatch(t *testing.T) {
	t.Parallel()
	s := watched(t)
	s.rules = append(s.rules, trigger.Rule{Class: alarm.ClassPoweredOff, Action: noted{id: s.id("power")}},
		trigger.Rule{Class: alarm.ClassPoweredOn, Action: noted{id: s.id("power")}})
	first := s.worker()
	s.watch(quickWatch)
	vms := s.vc.TaggedVMs("cluster-b")
	want := map[alarm.Power]int{}
	turn := func(vm simulation.VM, on bool) {
		act := s.vc.PowerOffAs
		if on {
			act = s.vc.PowerOnAs
		}
		s.must(act(vm.Ref, "somebody@vsphere.local"))
		want[alarm.Power{VM: alarm.Object{Type: vm.Ref.Type, Value: vm.Ref.Value, Name: vm.Name}, On: on}]++
	}
	for _, vm := range vms {
		turn(vm, false)
	}
	s.point("they were counted", func(c watchapi.Checkpoint) bool { return c.Sent == int64(len(vms)) })
	first.stop()
	for _, vm := range vms {
		turn(vm, true)
		turn(vm, false) // nobody looked meanwhile: with power every change counts, not the last alone
	}
	s.worker()
	c := s.point("the others were counted", func(c watchapi.Checkpoint) bool { return c.Sent == int64(3*len(vms)) })
	got := map[alarm.Power]int{}
	for _, p := range s.signals("power", "PowerChanged") {
		var power alarm.Power
		s.must(json.Unmarshal(p, &power))
		got[alarm.Power{VM: power.VM, On: power.On}]++
	}
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for p, n := range want {
		if got[p] != n {
			t.Errorf("%+v came %d times, want %d", p, got[p], n)
		}
	}
	if c.LastSent.Class != string(alarm.ClassPoweredOff) || c.LastSent.Rule != string(alarm.ClassPoweredOff) || c.Refused+c.Caught != 0 {
		t.Errorf("%+v", c)
	}
}

func TestEventsThatCannotBeReadOrActedUponDoNotStopTheWatch(t *testing.T) {
	t.Parallel()
	s := watched(t)
	s.rules = append(s.rules, trigger.Rule{Alarm: s.id("odd"), Action: trigger.Preempt{Tag: "preemptible", Yellow: trigger.None}})
	s.worker()
	timing := quickWatch
	timing.Compare = 100 * time.Millisecond // the states of what is refused or ignored are compared again and again
	s.watch(timing)
	garble(t, s)
	_, err := s.vc.PostAlarm(t.Context(), simulation.AlarmChange{
		Name: s.id("cpu"), Entity: s.vc.Cluster("cluster-a").Datastores[0], From: "green", To: "red",
	})
	s.must(err)
	s.post("odd", "cluster-b", 0, "green", "yellow")
	before := s.point("all were counted", func(c watchapi.Checkpoint) bool { return c.Events == 3 && c.Refused >= 1 })
	s.alarm("cluster-a", 0, "green", "red")
	s.agree(s.done(s.exists(s.intake("cpu", "cluster-a"))))
	c := s.point("states were compared some times", func(c watchapi.Checkpoint) bool {
		return c.Compared.Sub(before.Compared) > 10*timing.Compare && c.Sent == 1
	})
	// The states may show what rose a moment ago before its event is read, so that it is refused, or caught, once by its state
	// and once by its event. What was refused or ignored they do not bring again, however often they are compared.
	if c.Events != 4 || c.Refused > 2 || c.Caught > 1 || c.Trouble != "" || len(c.Levels) != 1 {
		t.Errorf("%+v", c)
	}
	if n := s.off("cluster-b"); n != 0 {
		t.Errorf("%d VMs of another cluster are off", n)
	}
}

// garble posts an alarm event with a colour that there is not.
func garble(t *testing.T, s *site) {
	t.Helper()
	u, err := url.Parse(s.vc.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.Path, u.User = "/sdk", url.UserPassword(s.vc.Username(), s.vc.Password())
	c, err := govmomi.NewClient(t.Context(), u, true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.must(c.Logout(t.Context())) }()
	cl := s.vc.Cluster("cluster-a")
	ev := &types.AlarmStatusChangedEvent{From: "green", To: "purple"}
	ev.Alarm = types.AlarmEventArgument{EntityEventArgument: types.EntityEventArgument{Name: s.id("cpu")}, Alarm: s.vc.Alarm(s.id("cpu"))}
	ev.Entity = types.ManagedEntityEventArgument{EntityEventArgument: types.EntityEventArgument{Name: cl.Hosts[0].Name}, Entity: cl.Hosts[0].Ref}
	ev.ComputeResource = &types.ComputeResourceEventArgument{EntityEventArgument: types.EntityEventArgument{Name: cl.Name}, ComputeResource: cl.Ref}
	s.must(event.NewManager(c.Client).PostEvent(t.Context(), ev))
}
