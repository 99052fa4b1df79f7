package watch

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// fakeTemporal takes the orders of all workflows but those that it is told to fail for.
type fakeTemporal struct {
	mu    sync.Mutex
	fails map[string]error // by a part of the workflow's id
	asked []string         // ids of workflows
	taken []string         // those of which the order was taken
}

func (p *fakeTemporal) SignalWithStartWorkflow(_ context.Context, id, _ string, _ any, _ client.StartWorkflowOptions, _ any, _ ...any) (client.WorkflowRun, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, id)
	for part, err := range p.fails {
		if strings.Contains(id, part) {
			return nil, err
		}
	}
	p.taken = append(p.taken, id)
	return nil, nil
}

func (p *fakeTemporal) ids() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string{}, p.taken...)
}

// fakeVCenter has a history of events and states of alarms, and answers as it is told.
type fakeVCenter struct {
	mu       sync.Mutex
	err      error         // of every call
	offset   time.Duration // of its clock
	pages    [][]vcenter.StreamEvent
	states   []vcenter.AlarmState
	unseen   []vcenter.AlarmState
	status   map[string]vcenter.AlarmState // by name of the alarm; an alarm that is not there is gone
	tells    chan []vcenter.StreamEvent    // what it tells those of who await news; nil: nothing
	reopened int
	opened   []time.Time // since when its events were read
	classes  []string
	closed   int
}

func (v *fakeVCenter) change(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f()
}

func (v *fakeVCenter) ServerTime(context.Context) (time.Time, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return time.Now().Add(v.offset), v.err
}

func (v *fakeVCenter) User() string { return "preempt@vsphere.local" }

func (v *fakeVCenter) Events(_ context.Context, since time.Time, classes []string) EventReader {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.opened, v.classes = append(v.opened, since), classes
	return fakeReader{v}
}

func (v *fakeVCenter) TriggeredAlarms(context.Context) (states, unseen []vcenter.AlarmState, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.states, v.unseen, v.err
}

func (v *fakeVCenter) AlarmStatus(_ context.Context, _ vsphere.Ref, name string, _ vsphere.Ref) (state vcenter.AlarmState, found bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	state, found = v.status[name]
	return state, found, v.err
}

type fakeReader struct{ v *fakeVCenter }

func (r fakeReader) Next(context.Context) ([]vcenter.StreamEvent, error) {
	r.v.mu.Lock()
	defer r.v.mu.Unlock()
	if r.v.err != nil || len(r.v.pages) == 0 {
		return nil, r.v.err
	}
	page := r.v.pages[0]
	r.v.pages = r.v.pages[1:]
	return page, nil
}

func (r fakeReader) Await(ctx context.Context, d time.Duration) bool {
	select {
	case page := <-r.v.tells:
		r.v.change(func() { r.v.pages = append(r.v.pages, page) })
		return true
	case <-time.After(d):
	case <-ctx.Done():
	}
	return false
}

func (r fakeReader) Reopened() int {
	r.v.mu.Lock()
	defer r.v.mu.Unlock()
	return r.v.reopened
}

func (r fakeReader) Close(context.Context) { r.v.change(func() { r.v.closed++ }) }

// newTestFollower has a rule that preempts for every alarm, and has compared the alarms' states.
func newTestFollower(p *fakeTemporal, v *fakeVCenter) *follower {
	f := &follower{
		Activities: &Activities{
			VCenter: v, Source: "https://vc/sdk",
			Engine: &trigger.Engine{Temporal: p, TaskQueue: "q", Rules: []trigger.Rule{{Alarm: "*", Action: trigger.Preempt{Tag: "spot"}}}},
		},
		timing: Timing{Poll: time.Millisecond, Compare: time.Hour, Heartbeat: time.Second, Lease: time.Minute},
		idle:   map[instance]string{}, handled: newHandledEvents(nil), pending: map[watchapi.Mark]bool{},
		metrics: client.MetricsNopHandler, log: slog.New(slog.DiscardHandler), beat: func(watchapi.Checkpoint) {},
		compared: true,
	}
	f.checkpoint.Compared = time.Now()
	return f
}

var (
	host    = vsphere.Ref{Type: "HostSystem", Value: "host-1"}
	cluster = alarm.Object{Type: "ClusterComputeResource", Value: "domain-c7", Name: "cls"}
)

// changeOf is the event of an alarm's change.
func changeOf(t *testing.T, a alarm.Alarm, marks ...watchapi.Mark) event {
	t.Helper()
	e, err := newEvent(trigger.Incoming{Event: alarm.Event{Class: alarm.ClassAlarm, Alarm: a}}, marks...)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// falls are the falls of so many alarms, a moment one after the other.
func falls(t *testing.T, names ...string) (all []event) {
	t.Helper()
	at := time.Date(2026, 11, 26, 3, 0, 0, 0, time.UTC)
	for i, name := range names {
		at = at.Add(time.Second)
		a := alarm.Alarm{
			Name: name, Ref: alarm.Object{Type: "Alarm", Value: "alarm-" + name}, Entity: alarm.Object{Type: host.Type, Value: host.Value},
			Cluster: cluster, From: "red", To: "green", Time: at, EventKey: int64(i + 1),
		}
		all = append(all, changeOf(t, a, watchapi.Mark{Key: int64(i + 1), Time: at}))
	}
	return all
}

// unhandled leaves out what was handled, as decode does.
func unhandled(f *follower, all []event) (out []event) {
	for _, e := range all {
		if !f.handled.known[e.marks[0]] {
			out = append(out, e)
		}
	}
	return out
}

// streamed is the change of an alarm on the host as vCenter's history has it.
func streamed(t *testing.T, key int64, at time.Time, name, from, to string) vcenter.StreamEvent {
	t.Helper()
	at = at.UTC()
	return vcenter.StreamEvent{Key: key, Class: string(alarm.ClassAlarm), Time: at, JSON: asJSON(t, alarmData(key, at, name, from, to))}
}

// poweredOff is a power-off of a VM as vCenter's history has it.
func poweredOff(t *testing.T, key int64, at time.Time, vm string) vcenter.StreamEvent {
	t.Helper()
	at = at.UTC()
	return vcenter.StreamEvent{Key: key, Class: string(alarm.ClassPoweredOff), Time: at, JSON: asJSON(t, map[string]any{
		"key": key, "createdTime": at, "vm": eventObject("vm", "VirtualMachine", vm),
	})}
}

// standing is the state of an alarm on the host.
func standing(t *testing.T, at time.Time, name, colour string) vcenter.AlarmState {
	t.Helper()
	at = at.UTC()
	return vcenter.AlarmState{
		Alarm: vsphere.Ref{Type: "Alarm", Value: "alarm-" + name}, Name: name, Entity: host, Colour: colour, Time: at,
		JSON: asJSON(t, alarmData(0, at, name, "gray", colour)),
	}
}

func alarmData(key int64, at time.Time, name, from, to string) map[string]any {
	data := map[string]any{
		"createdTime": at, "from": from, "to": to, "entity": eventObject("entity", host.Type, host.Value),
		"computeResource": eventObject("computeResource", cluster.Type, cluster.Value), "alarm": eventObject("alarm", "Alarm", "alarm-"+name),
	}
	data["alarm"].(map[string]any)["name"] = name
	if key > 0 {
		data["key"] = key
	}
	return data
}

func eventObject(key, kind, value string) map[string]any {
	return map[string]any{"name": value, key: map[string]string{"type": kind, "value": value}}
}

func asJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
