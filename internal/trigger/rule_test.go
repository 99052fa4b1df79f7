package trigger_test

import (
	"slices"
	"strings"
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

func TestARuleIsOnAnAlarmByNameGlobOrMoRef(t *testing.T) {
	cases := map[string]struct {
		pattern, name string
		want          bool
	}{
		"the name":                        {"cpu", "cpu", true},
		"another name":                    {"cpu", "memory", false},
		"the beginning of the name":       {"cp", "cpu", false},
		"another case":                    {"CPU", "cpu", false},
		"a star":                          {"*", "cpu", true},
		"a star for the rest":             {"cluster-*", "cluster-cpu-above-80", true},
		"a star for nothing":              {"cpu*", "cpu", true},
		"a question mark":                 {"cp?", "cpu", true},
		"a question mark for two letters": {"cp?", "cp00", false},
		"a question mark for a letter of many bytes": {"CPU-?", "CPU-ü", true},
		"a class of letters":                         {"cpu-[ab]", "cpu-b", true},
		"a class that excludes":                      {"cpu-[^ab]", "cpu-b", false},
		"a slash in the name":                        {"a/b", "a/b", true},
		"a star over a slash":                        {"Host*", "Host CPU/memory", true},
		"a question mark over a slash":               {"a?b", "a/b", true},
		"a slash among the letters of a class":       {"a[/]b", "a/b", true},
		"a slash in glob and name":                   {"a/*", "a/b", true},
		"a slash in the glob alone":                  {"a/*", "a-b", false},
		"a bracket in an exact name":                 {"cpu [prod]", "cpu [prod]", true},
		"brackets that are also a class":             {"cpu [prod]", "cpu p", true},
		"one bracket in an exact name":               {"cpu [prod", "cpu [prod", true},
		"one bracket is no glob":                     {"cpu* [prod", "cpu 1 [prod", false},
		"a bracket behind a backslash":               {`cpu* \[prod`, "cpu 1 [prod", true},
		"the MoRef":                                  {"alarm-282", "cpu", true},
		"another MoRef":                              {"alarm-28", "cpu", false},
		"a glob is not on MoRefs":                    {"alarm-*", "cpu", false},
		"an alarm that is called like a MoRef":       {"alarm-1", "alarm-1", true},
		"no name at all":                             {"", "", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := changed(t, "green", "red", called(c.name))
			if got := (trigger.Rule{Alarm: c.pattern}).Matches(in.Event); got != c.want {
				t.Errorf("%q on %q: %t", c.pattern, c.name, got)
			}
		})
	}
}

func TestARuleIsOnAClassOrOnAnAlarm(t *testing.T) {
	red, off := changed(t, "green", "red"), power(alarm.ClassPoweredOff)
	cases := map[string]struct {
		rule       trigger.Rule
		alarm, off bool
	}{
		"an alarm":                       {trigger.Rule{Alarm: "*"}, true, false},
		"a class":                        {trigger.Rule{Class: alarm.ClassPoweredOff}, false, true},
		"another class":                  {trigger.Rule{Class: alarm.ClassPoweredOn}, false, false},
		"every alarm, by class":          {trigger.Rule{Class: alarm.ClassAlarm}, true, false},
		"nothing":                        {trigger.Rule{}, false, false},
		"a class beside an alarm's name": {trigger.Rule{Alarm: "cpu", Class: alarm.ClassPoweredOff}, true, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := c.rule.Matches(red.Event); got != c.alarm {
				t.Errorf("on the alarm: %t", got)
			}
			if got := c.rule.Matches(off.Event); got != c.off {
				t.Errorf("on the power-off: %t", got)
			}
		})
	}
}

func TestClassesAreThoseThatRulesAreOnEachOnce(t *testing.T) {
	rules := []trigger.Rule{
		{Alarm: "a"},
		{Class: alarm.ClassPoweredOff},
		{Alarm: "b", Class: alarm.ClassPoweredOn},
		{},
		{Class: alarm.ClassPoweredOff},
	}
	if got, want := trigger.Classes(rules), []alarm.Class{alarm.ClassAlarm, alarm.ClassPoweredOff}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := trigger.Classes(nil); len(got) != 0 {
		t.Errorf("%q without rules", got)
	}
}

func TestRulesAreCalledByTheirAlarmOrClass(t *testing.T) {
	for want, r := range map[string]trigger.Rule{"cpu*": {Alarm: "cpu*"}, "VmPoweredOffEvent": {Class: alarm.ClassPoweredOff}} {
		if got := r.Name(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestPatternsThatCanMatchNothingAreRefused(t *testing.T) {
	for pattern, want := range map[string]string{
		"cpu": "", "cpu*": "", "a/b": "", "[a-z]": "", `\[x`: "", strings.Repeat("x", 255): "",
		"":                       "it is empty",
		" \t":                    "it is empty",
		"cpu [prod":              "is no name pattern; use * ? and [a-z]",
		"[]":                     "is no name pattern",
		`x\`:                     "is no name pattern",
		strings.Repeat("x", 256): "it is 256 bytes long: at most 255 are taken",
	} {
		err := trigger.CheckPattern(pattern)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", pattern, err, want)
		}
	}
}

func TestColoursAreReadInAnyCase(t *testing.T) {
	for in, want := range map[string]preemption.Criticality{
		"HIGH": "HIGH", "medium": "MEDIUM", " Low ": "LOW", "none": trigger.None, " NONE": trigger.None,
	} {
		if got, err := trigger.ParseColour(in); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "red", "URGENT"} {
		if _, err := trigger.ParseColour(in); err == nil || !strings.Contains(err.Error(), "is not one of HIGH, MEDIUM, LOW, NONE") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// told is what the intake is told, in short: the criticality, whether a request comes with it and at which
// criticality, and whether it softens.
type told struct {
	what    string
	crit    preemption.Criticality
	request preemption.Criticality // "": none
	soften  bool
}
