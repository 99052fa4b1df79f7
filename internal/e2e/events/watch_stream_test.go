package events

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
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// signals are the payloads of a signal that reached a workflow, which must not have continued as new.
func signals(s *sitetest.Site, id, name string) (payloads []json.RawMessage) {
	s.T.Helper()
	it := s.Temporal.GetWorkflowHistory(s.T.Context(), s.ID(id), "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		e, err := it.Next()
		if err != nil {
			s.T.Fatal(err)
		}
		if e.GetWorkflowExecutionStartedEventAttributes().GetContinuedExecutionRunId() != "" {
			s.T.Fatalf("%s continued as new: its signals are in several runs", id)
		}
		a := e.GetWorkflowExecutionSignaledEventAttributes()
		if a.GetSignalName() != name {
			continue
		}
		var p json.RawMessage
		if err := converter.GetDefaultDataConverter().FromPayloads(a.GetInput(), &p); err != nil {
			s.T.Fatal(err)
		}
		payloads = append(payloads, p)
	}
	return payloads
}

// told are the alarm changes that an intake was told of.
func told(s *sitetest.Site, id string) (all []preemption.AlarmChange) {
	s.T.Helper()
	for _, p := range signals(s, id, preemption.AlarmSignal) {
		if p[0] != '[' {
			p = slices.Concat([]byte("["), p, []byte("]"))
		}
		var some []preemption.AlarmChange
		if err := json.Unmarshal(p, &some); err != nil {
			s.T.Fatal(err)
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
	// Not parallel: it takes all processors, and what runs beside it would be late.
	clusters, hosts := sitetest.Sized(12, 5), 4
	for name, interrupt := range map[string]func(*sitetest.Site){
		"the worker stops":    func(s *sitetest.Site) { s.Workers[0].Stop(); s.Worker() },
		"the watch is paused": func(s *sitetest.Site) { s.Control(true); s.Control(false) },
		"Temporal is away":    nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sitetest.Watched(t, sitetest.WithInventory(func(o *simulation.Options) {
				o.Clusters, o.HostsPerCluster, o.VMsPerCluster, o.Tagged = clusters, hosts, 1, 1
			}))
			reached := make(chan struct{})
			s.Engine = func(e *trigger.Engine) {
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
			s.Worker()
			s.Engine = nil
			s.Watch(sitetest.QuickWatch)
			s.Control(true) // so that all is handed over in one look
			keys := map[int64]bool{}
			for host := range hosts {
				for _, c := range s.VC.Inventory().Clusters {
					keys[int64(s.Alarm(c.Name, host, "green", "red").Key)] = true
				}
			}
			s.Control(false)
			<-reached
			if interrupt != nil {
				interrupt(s)
			}
			for _, c := range s.VC.Inventory().Clusters {
				id := s.Exists(s.Intake("cpu", c.Name))
				s.Until(id, "all its hosts are known to be in alarm", func(r preemptapi.Response) bool { return len(r.Levels) == hosts && r.State != preemptapi.IntakeRunning })
			}
			all := int64(clusters * hosts)
			c := s.Point("all were counted", func(c watchapi.Checkpoint) bool { return c.Sent >= all && c.Events >= all })
			if c.Sent != all || c.Events != all || c.Caught != 0 {
				t.Errorf("counted %d events, %d sent, %d caught", c.Events, c.Sent, c.Caught)
			}
			for _, c := range s.VC.Inventory().Clusters {
				for _, change := range told(s, s.Intake("cpu", c.Name)) {
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
	s := sitetest.Watched(t)
	s.Rules = append(s.Rules, trigger.Rule{Class: alarm.ClassPoweredOff, Action: noted{id: s.ID("power")}},
		trigger.Rule{Class: alarm.ClassPoweredOn, Action: noted{id: s.ID("power")}})
	first := s.Worker()
	s.Watch(sitetest.QuickWatch)
	vms := s.VC.TaggedVMs("cluster-b")
	want := map[alarm.Power]int{}
	turn := func(vm simulation.VM, on bool) {
		act := s.VC.PowerOffAs
		if on {
			act = s.VC.PowerOnAs
		}
		s.Must(act(vm.Ref, "somebody@vsphere.local"))
		want[alarm.Power{VM: alarm.Object{Type: vm.Ref.Type, Value: vm.Ref.Value, Name: vm.Name}, On: on}]++
	}
	for _, vm := range vms {
		turn(vm, false)
	}
	s.Point("they were counted", func(c watchapi.Checkpoint) bool { return c.Sent == int64(len(vms)) })
	first.Stop()
	for _, vm := range vms {
		turn(vm, true)
		turn(vm, false) // nobody looked meanwhile: with power every change counts, not the last alone
	}
	s.Worker()
	c := s.Point("the others were counted", func(c watchapi.Checkpoint) bool { return c.Sent == int64(3*len(vms)) })
	got := map[alarm.Power]int{}
	for _, p := range signals(s, "power", "PowerChanged") {
		var power alarm.Power
		s.Must(json.Unmarshal(p, &power))
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
	s := sitetest.Watched(t)
	s.Rules = append(s.Rules, trigger.Rule{Alarm: s.ID("odd"), Action: trigger.Preempt{Tag: "preemptible", Yellow: trigger.None}})
	s.Worker()
	timing := sitetest.QuickWatch
	timing.Compare = 100 * time.Millisecond // the states of what is refused or ignored are compared again and again
	s.Watch(timing)
	garble(t, s)
	_, err := s.VC.PostAlarm(t.Context(), simulation.AlarmChange{
		Name: s.ID("cpu"), Entity: s.VC.Cluster("cluster-a").Datastores[0], From: "green", To: "red",
	})
	s.Must(err)
	s.Post("odd", "cluster-b", 0, "green", "yellow")
	before := s.Point("all were counted", func(c watchapi.Checkpoint) bool { return c.Events == 3 && c.Refused >= 1 })
	s.Alarm("cluster-a", 0, "green", "red")
	s.Agree(s.Done(s.Exists(s.Intake("cpu", "cluster-a"))))
	c := s.Point("states were compared some times", func(c watchapi.Checkpoint) bool {
		return c.Compared.Sub(before.Compared) > 10*timing.Compare && c.Sent == 1
	})
	// The states may show what rose a moment ago before its event is read, so that it is refused, or caught, once by its state
	// and once by its event. What was refused or ignored they do not bring again, however often they are compared.
	if c.Events != 4 || c.Refused > 2 || c.Caught > 1 || c.Trouble != "" || len(c.Levels) != 1 {
		t.Errorf("%+v", c)
	}
	if n := s.OffIn("cluster-b"); n != 0 {
		t.Errorf("%d VMs of another cluster are off", n)
	}
}

// garble posts an alarm event with a colour that there is not.
func garble(t *testing.T, s *sitetest.Site) {
	t.Helper()
	u, err := url.Parse(s.VC.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.Path, u.User = "/sdk", url.UserPassword(s.VC.Username(), s.VC.Password())
	c, err := govmomi.NewClient(t.Context(), u, true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Must(c.Logout(t.Context())) }()
	cl := s.VC.Cluster("cluster-a")
	ev := &types.AlarmStatusChangedEvent{From: "green", To: "purple"}
	ev.Alarm = types.AlarmEventArgument{EntityEventArgument: types.EntityEventArgument{Name: s.ID("cpu")}, Alarm: s.VC.Alarm(s.ID("cpu"))}
	ev.Entity = types.ManagedEntityEventArgument{EntityEventArgument: types.EntityEventArgument{Name: cl.Hosts[0].Name}, Entity: cl.Hosts[0].Ref}
	ev.ComputeResource = &types.ComputeResourceEventArgument{EntityEventArgument: types.EntityEventArgument{Name: cl.Name}, ComputeResource: cl.Ref}
	s.Must(event.NewManager(c.Client).PostEvent(t.Context(), ev))
}
