package config

import (
	"cmp"
	"slices"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// A rule of each kind, as small as it can be, is one on each class of events that may start it.
func TestEachKindOfRuleIsRead(t *testing.T) {
	var read []trigger.Kind
	for _, k := range ruleKinds {
		read = append(read, k.kind)
	}
	if !slices.Equal(read, trigger.Kinds()) {
		t.Fatalf("the file has %v, the rules %v", read, trigger.Kinds())
	}
	for _, kind := range trigger.Kinds() {
		texts := []string{string(kind) + ": {}"}
		switch {
		case kind == trigger.KindMakeRoom: // it is on one event, which has to be named
			texts = nil
		case kind.OnAlarm():
			texts = []string{"{alarm: cpu, " + string(kind) + ": " + least[kind] + "}"}
		}
		for _, class := range kind.Events() {
			texts = append(texts, "{event: "+string(class)+", "+string(kind)+": "+cmp.Or(least[kind], "{}")+"}")
		}
		for _, text := range texts {
			f, err := ParseFile("p.yaml", []byte("rules:\n- "+text))
			if err != nil || len(f.Rules) == 0 {
				t.Errorf("%s: %+v, %v", text, f.Rules, err)
			}
			for _, r := range f.Rules {
				if r.Action.Kind() != kind || r.Alarm == "" && !slices.Contains(kind.Events(), r.Class) {
					t.Errorf("%s: %+v", text, r)
				}
			}
		}
	}
}

// least are the settings that a kind of rule on an alarm needs.
var least = map[trigger.Kind]string{trigger.KindPreempt: "{}", trigger.KindResize: "{resource: cpu}", trigger.KindMove: "{}", trigger.KindMakeRoom: "{for: {tag: critical}}"}

func TestTheSchemaListsEachEventAndKind(t *testing.T) {
	var events []string
	for _, kind := range eventKinds() {
		events = append(events, texts(kind.Events())...)
	}
	slices.Sort(events)
	rule := readSchema(t).Properties["rules"].Items
	if got := slices.Sorted(slices.Values(rule.Properties["event"].Enum)); !slices.Equal(got, slices.Compact(events)) {
		t.Errorf("the schema lists the events %v, rules are on %v", got, events)
	}
	for _, kind := range trigger.Kinds() {
		if rule.Properties[string(kind)] == nil {
			t.Errorf("the schema knows no rule that does %s", kind)
		}
	}
}
