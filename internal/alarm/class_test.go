package alarm_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
)

// samples has for each class an event of it in testdata.
var samples = map[alarm.Class]string{
	alarm.ClassAlarm:      "event-router.pascal.json",
	alarm.ClassPoweredOff: "vm-powered-off.pascal.json",
	alarm.ClassPoweredOn:  "vm-powered-off.pascal.json",

	alarm.ClassPowerOnFailed:  "vm-failed-to-power-on.xml",
	alarm.ClassNoResources:    "vm-powered-off.pascal.json",
	alarm.ClassFailoverFailed: "vm-powered-off.pascal.json",
	alarm.ClassFailoverShort:  "vm-powered-off.pascal.json",
}

// declared lists the constants of type Class, from the source.
func declared(t *testing.T) (all []alarm.Class) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "class.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for n := range ast.Preorder(file) {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			continue
		}
		if of, ok := spec.Type.(*ast.Ident); ok && of.Name == "Class" {
			for _, v := range spec.Values {
				name, err := strconv.Unquote(v.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, alarm.Class(name))
			}
		}
	}
	return all
}

func TestEachClassIsHandled(t *testing.T) {
	all := declared(t)
	if len(all) == 0 || !slices.Equal(all, alarm.Classes()) {
		t.Fatalf("declared are %v, rows have %v", all, alarm.Classes())
	}
	subjects, topics := map[string]alarm.Class{}, map[string]alarm.Class{}
	for _, class := range all {
		sample, ok := samples[class]
		if !ok {
			t.Errorf("%s has no sample: add an event of it to testdata and to samples", class)
			continue
		}
		e, err := alarm.Decode(alarm.Message{Type: string(class), Source: source, Data: load(t, sample)})
		if err != nil || e.Class != class {
			t.Errorf("%s is decoded as %q: %v", class, e.Class, err)
			continue
		}
		about, err := e.About()
		if err != nil {
			t.Error(err)
		}
		_, change := e.Change()
		for fields, i := reflect.ValueOf(about), 0; i < fields.NumField(); i++ {
			name := fields.Type().Field(i).Name
			if fields.Field(i).IsZero() && (name != "To" || change) {
				t.Errorf("nothing is said of the %s of a %s: %+v", name, class, about)
			}
		}
		if other, taken := subjects[about.Subject]; taken {
			t.Errorf("%s and %s have the same subject", class, other)
		}
		subjects[about.Subject] = class
		if _, err := alarm.Decode(alarm.Message{Type: string(class), Source: source, Data: []byte(`{"key":1}`)}); err == nil {
			t.Errorf("a %s that names nothing is taken", class)
		}
		topic := alarm.Topic(class)
		if got := alarm.Claim(alarm.Message{Type: topic}); topic == "" || got != string(class) || topics[topic] != "" {
			t.Errorf("the topic %q of %s claims %q", topic, class, got)
		}
		topics[topic] = class
	}
}

func TestAClassThatNobodyHandlesIsAnError(t *testing.T) {
	const other = "VmMigratedEvent"
	if e, err := alarm.Decode(alarm.Message{Type: other, EventClass: other, Data: load(t, "vm-powered-off.pascal.json")}); !errors.Is(err, alarm.ErrOther) || e != (alarm.Event{}) {
		t.Errorf("decoded as %+v: %v", e, err)
	}
	for _, class := range []alarm.Class{other, ""} {
		e := alarm.Event{Class: class, Power: alarm.Power{VM: alarm.Object{Type: "VirtualMachine", Value: "vm-1"}}}
		if about, err := e.About(); !errors.Is(err, alarm.ErrOther) || about != (alarm.About{}) {
			t.Errorf("%q: %+v, %v", class, about, err)
		}
		if _, ok := e.Change(); ok {
			t.Errorf("%q is taken for an alarm", class)
		}
	}
}
