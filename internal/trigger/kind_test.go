package trigger_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// actions has the action of each kind, with an address that it answers to.
var actions = map[trigger.Kind]trigger.Action{
	trigger.KindPreempt:     trigger.Preempt{Tag: "spot", ReplyTo: "https://sink"},
	trigger.KindResize:      trigger.Resize{Settings: placement.Resize{Mode: placement.ModeHotAdd, ReplyTo: "https://sink"}},
	trigger.KindReconfigure: trigger.Reconfigure{Settings: placement.Reconfigure{ReplyTo: "https://sink"}},
	trigger.KindMove:        trigger.Move{Settings: placement.Move{ReplyTo: "https://sink"}},
	trigger.KindMakeRoom:    trigger.MakeRoom{For: "critical", Tag: "spot", Criticality: "HIGH", ReplyTo: "https://sink"},
}

// declared counts the constants of type Kind, from the source.
func declared(t *testing.T) (n int) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "kind.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for node := range ast.Preorder(file) {
		if spec, ok := node.(*ast.ValueSpec); ok {
			if of, ok := spec.Type.(*ast.Ident); ok && of.Name == "Kind" {
				n++
			}
		}
	}
	return n
}

func TestEachKindIsHandled(t *testing.T) {
	kinds := trigger.Kinds()
	if n := declared(t); n == 0 || n != len(kinds) || n != len(actions) {
		t.Fatalf("%d kinds are declared, the table has %d, this test %d", n, len(kinds), len(actions))
	}
	for _, kind := range kinds {
		a := actions[kind]
		if a == nil || a.Kind() != kind || !a.Acts() || len(kind.On()) == 0 || len(kind.Privileges()) == 0 {
			t.Fatalf("%s: action %+v, on %v, privileges %v", kind, a, kind.On(), kind.Privileges())
		}
		if got := a.WithoutReply(); got.Kind() != kind || reflect.DeepEqual(got, a) {
			t.Errorf("%s answers to the same address: %+v", kind, got)
		}
		for _, class := range alarm.Classes() {
			on := slices.Contains(kind.On(), class)
			order, reason, ok, err := a.Order(eventOf(t, class, kind), "rule")
			if on && (!ok || err != nil || order.WorkflowID == "" || order.WorkflowType == "" || order.Signal == "" || order.What == "" || order.Payload == nil) {
				t.Errorf("a %s starts no %s: %q, %+v, %v", class, kind, reason, order, err)
			}
			if !on && !errors.Is(err, trigger.ErrRefused) {
				t.Errorf("a %s starts a %s: %+v, %v", class, kind, order, err)
			}
		}
		for _, class := range kind.On() {
			if !slices.Contains(alarm.Classes(), class) {
				t.Errorf("%s is on %s, which nobody decodes", kind, class)
			}
		}
	}
}

// eventOf is an event of the class that should start a rule of the kind, if any of its class may.
func eventOf(t *testing.T, class alarm.Class, kind trigger.Kind) trigger.Incoming {
	t.Helper()
	if class == alarm.ClassAlarm && kind == trigger.KindPreempt {
		return changed(t, "green", "red")
	}
	in := changed(t, "green", "red", on(web))
	in.Event.Class = class
	in.Event.Power = alarm.Power{VM: web}
	in.Event.Shortage = alarm.Shortage{VM: web, Fault: "InsufficientMemoryResourcesFault"}
	return in
}

func TestAnEventOfAClassThatNobodyHandlesIsRefused(t *testing.T) {
	in := power("VmMigratedEvent")
	e := &trigger.Engine{Temporal: &recorder{}, Rules: []trigger.Rule{{Class: "VmMigratedEvent", Action: apply}, {Alarm: "*", Action: resize}}}
	if res, err := e.Handle(t.Context(), in); !errors.Is(err, trigger.ErrRefused) || res != (trigger.Result{}) {
		t.Errorf("%+v, %v", res, err)
	}
	if on := trigger.Kind("drain").On(); len(on) > 0 || len(trigger.Kind("drain").Privileges()) > 0 {
		t.Errorf("a kind without a row is on %v", on)
	}
}
