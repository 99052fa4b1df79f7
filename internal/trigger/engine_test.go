package trigger_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// recorder stands for Temporal and remembers what it was told.
type recorder struct {
	calls    []call
	fail     error
	deadline bool // the last call had one
}

type call struct {
	id, signal string
	payload    any
	options    client.StartWorkflowOptions
	workflow   any
	args       []any
}

func (r *recorder) SignalWithStartWorkflow(ctx context.Context, id, signal string, arg any, o client.StartWorkflowOptions, workflow any, args ...any) (client.WorkflowRun, error) {
	_, r.deadline = ctx.Deadline()
	r.calls = append(r.calls, call{id, signal, arg, o, workflow, args})
	return nil, r.fail
}

// action answers as it is told, and remembers what it was asked.
type action struct {
	trigger.Action
	reason string
	err    error
	asked  *trigger.Incoming
}

func (a action) Order(in trigger.Incoming, rule string) (trigger.Order, string, bool, error) {
	if a.asked != nil {
		*a.asked = in
	}
	o := trigger.Order{WorkflowID: "id of " + rule, WorkflowType: "Reconfigure", Signal: "PowerChanged", Payload: in.Event.Power.VM.Value, What: "look at the VM"}
	return o, a.reason, a.reason == "" && a.err == nil, a.err
}

func TestTheFirstRuleOnAnEventWins(t *testing.T) {
	e := trigger.Engine{Rules: []trigger.Rule{
		{Class: alarm.ClassPoweredOn},
		{Alarm: "cpu-prod"},
		{Alarm: "cpu-*"},
		{Alarm: "alarm-282"},
		{Class: alarm.ClassAlarm},
		{Alarm: "*"},
	}}
	for name, want := range map[string]string{"cpu-prod": "cpu-prod", "cpu-test": "cpu-*", "memory": "alarm-282"} {
		if r, ok := e.Match(changed(t, "green", "red", called(name)).Event); !ok || r.Name() != want {
			t.Errorf("%s: %q, %t", name, r.Name(), ok)
		}
	}
	other := changed(t, "green", "red", called("memory"), func(a *alarm.Alarm) { a.Ref.Value = "alarm-1" })
	if r, ok := e.Match(other.Event); !ok || r.Name() != string(alarm.ClassAlarm) {
		t.Errorf("by class: %q, %t", r.Name(), ok)
	}
	if r, ok := e.Match(power(alarm.ClassPoweredOff).Event); ok {
		t.Errorf("%q is on a class that no rule names", r.Name())
	}
}

func TestHandleTellsTemporalWhatTheRuleOrders(t *testing.T) {
	temporal := &recorder{}
	e := &trigger.Engine{Temporal: temporal, TaskQueue: "site-1", Rules: []trigger.Rule{{Alarm: "cpu*", Action: trigger.Preempt{Tag: "spot"}}}}
	res, err := e.Handle(t.Context(), changed(t, "green", "red"))
	if err != nil {
		t.Fatal(err)
	}
	if want := (trigger.Result{Verdict: trigger.Sent, Rule: "cpu*", WorkflowID: "cpu@domain-c7@site-1", What: "HIGH preemption"}); res != want {
		t.Errorf("%+v", res)
	}
	if len(temporal.calls) != 1 || !temporal.deadline {
		t.Fatalf("%d calls, with a deadline: %t", len(temporal.calls), temporal.deadline)
	}
	c := temporal.calls[0]
	if c.id != "cpu@domain-c7@site-1" || c.options.ID != c.id || c.options.TaskQueue != "site-1" || c.signal != preemption.AlarmSignal ||
		c.workflow != preemption.WorkflowName || len(c.args) != 0 {
		t.Errorf("%+v", c)
	}
	change := c.payload.(preemption.AlarmChange)
	if r := request(t, change); change.TaskQueue != "site-1" || r.TaskQueue != "site-1" || r.Tag != "spot" {
		t.Errorf("the payload is not of the engine's task queue: %+v, %+v", change, r)
	}
}

func TestTheSameEventIsTheSameMessage(t *testing.T) {
	temporal := &recorder{}
	e := &trigger.Engine{Temporal: temporal, TaskQueue: "q", Rules: []trigger.Rule{{Alarm: "*", Action: trigger.Preempt{Tag: "spot", OnFall: trigger.OnFallSoften}}}}
	for _, colours := range [][2]string{{"green", "red"}, {"red", "yellow"}, {"yellow", "green"}, {"green", "gray"}} {
		temporal.calls = nil
		for range 3 {
			if _, err := e.Handle(t.Context(), changed(t, colours[0], colours[1])); err != nil {
				t.Fatal(err)
			}
		}
		first := temporal.calls[0]
		for _, c := range temporal.calls[1:] {
			if c.id != first.id || asJSON(t, c.payload) != asJSON(t, first.payload) {
				t.Errorf("%v:\n%s\n%s", colours, asJSON(t, first.payload), asJSON(t, c.payload))
			}
		}
	}
}

func TestWhatBecomesOfAnEvent(t *testing.T) {
	away := errors.New("Temporal is away")
	preempt := []trigger.Rule{{Alarm: "cpu", Action: trigger.Preempt{Tag: "spot", Yellow: trigger.None}}}
	onPower := func(a action) []trigger.Rule { return []trigger.Rule{{Class: alarm.ClassPoweredOff, Action: a}} }
	const ref = "id of VmPoweredOffEvent"
	cases := map[string]struct {
		rules []trigger.Rule
		in    trigger.Incoming
		fail  error
		want  trigger.Result
		err   string // "": none
		final bool
		sent  int
	}{
		"no rules": {nil, changed(t, "green", "red"), nil, trigger.Result{Verdict: trigger.Ignored, Reason: `no rule is on alarm "cpu"`}, "", false, 0},
		"no rule on the alarm": {
			preempt, changed(t, "green", "red", called("x")), nil,
			trigger.Result{Verdict: trigger.Ignored, Reason: `no rule is on alarm "x"`},
			"", false, 0,
		},
		"no rule on the class": {
			preempt, power(alarm.ClassPoweredOff), nil,
			trigger.Result{Verdict: trigger.Ignored, Reason: "no rule is on VmPoweredOffEvent"},
			"", false, 0,
		},
		"the rule does nothing about it": {
			preempt, changed(t, "green", "yellow"), nil,
			trigger.Result{Verdict: trigger.Ignored, Rule: "cpu", Reason: "the rule does nothing at yellow"},
			"", false, 0,
		},
		"sent": {
			preempt, changed(t, "red", "green"), nil,
			trigger.Result{Verdict: trigger.Sent, Rule: "cpu", WorkflowID: "cpu@domain-c7@q", What: "fall to green"},
			"", false, 1,
		},
		"refused": {
			preempt, changed(t, "green", "red", at(disk, alarm.Object{}, alarm.Object{})), nil,
			trigger.Result{Rule: "cpu"},
			`rule "cpu" on alarm "cpu": refused: the event of alarm "cpu" names neither`, true, 0,
		},
		"Temporal is away": {
			preempt, changed(t, "green", "red"), away,
			trigger.Result{Rule: "cpu", WorkflowID: "cpu@domain-c7@q", What: "HIGH preemption"},
			`signal and start PreemptVMsWorkflow "cpu@domain-c7@q": Temporal is away`, false, 1,
		},
		"a rule on a class": {
			onPower(action{}), power(alarm.ClassPoweredOff), nil,
			trigger.Result{Verdict: trigger.Sent, Rule: string(alarm.ClassPoweredOff), WorkflowID: ref, What: "look at the VM"},
			"", false, 1,
		},
		"a rule on a class that has nothing to do": {
			onPower(action{reason: "the VM has no tag"}), power(alarm.ClassPoweredOff), nil,
			trigger.Result{Verdict: trigger.Ignored, Rule: string(alarm.ClassPoweredOff), Reason: "the VM has no tag"},
			"", false, 0,
		},
		"a rule on a class that refuses": {
			onPower(action{err: fmt.Errorf("%w: bad VM", trigger.ErrRefused)}), power(alarm.ClassPoweredOff), nil,
			trigger.Result{Rule: string(alarm.ClassPoweredOff)},
			`rule "VmPoweredOffEvent" on VmPoweredOffEvent: refused: bad VM`, true, 0,
		},
		"a rule on a class while Temporal is away": {
			onPower(action{}), power(alarm.ClassPoweredOff), away,
			trigger.Result{Rule: string(alarm.ClassPoweredOff), WorkflowID: ref, What: "look at the VM"},
			`signal and start Reconfigure "` + ref + `": Temporal is away`, false, 1,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			temporal := &recorder{fail: c.fail}
			e := &trigger.Engine{Temporal: temporal, TaskQueue: "q", Rules: c.rules}
			got, err := e.Handle(t.Context(), c.in)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.HasPrefix(err.Error(), c.err)) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			if errors.Is(err, trigger.ErrRefused) != c.final || errors.Is(err, away) != (c.fail != nil) {
				t.Errorf("the error is of another kind: %v", err)
			}
			if got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
			if len(temporal.calls) != c.sent {
				t.Errorf("%d calls", len(temporal.calls))
			}
		})
	}
}

func TestAnActionKnowsTheTaskQueueOfItsEngine(t *testing.T) {
	var asked trigger.Incoming
	e := &trigger.Engine{Temporal: &recorder{}, TaskQueue: "site-1", Rules: []trigger.Rule{{Class: alarm.ClassPoweredOff, Action: action{asked: &asked}}}}
	in := power(alarm.ClassPoweredOff)
	in.TaskQueue = "another"
	if _, err := e.Handle(t.Context(), in); err != nil || asked.TaskQueue != "site-1" {
		t.Errorf("%q, %v", asked.TaskQueue, err)
	}
}
