package config

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

func TestRulesOfRemediationTakeTheDocumentedKeys(t *testing.T) {
	f, err := ParseFile("p.yaml", []byte(`
rules:
  - alarm: "my CPU*"
    resize: {resource: cpu, mode: powerCycleInWindow, sizing: original, max: 12, cooldown: 1h, window: "0 2 * * SUN", duration: 4h, timeZone: Europe/Berlin, replyTo: "https://sink"}
  - event: VmPoweredOffEvent
    reconfigure: {mode: recommend, replyTo: "https://sink"}
  - alarm: alarm-17
    move: {targetUsage: 60, mode: recommend, cooldown: 12h, overCommit: 200, replyTo: "https://sink"}
`))
	if err != nil {
		t.Fatal(err)
	}
	hours := func(n int) clock.Duration { return clock.Duration(time.Duration(n) * time.Hour) }
	want := []trigger.Rule{
		{Alarm: "my CPU*", Action: trigger.Resize{Settings: placement.Resize{
			Resource: "cpu", Mode: "powerCycleInWindow", Sizing: "original", Max: 12, Cooldown: hours(1),
			Window: "0 2 * * SUN", Duration: hours(4), TimeZone: "Europe/Berlin", ReplyTo: "https://sink",
		}}},
		{Class: alarm.ClassPoweredOff, Action: trigger.Reconfigure{Settings: placement.Reconfigure{Mode: "recommend", ReplyTo: "https://sink"}}},
		{Alarm: "alarm-17", Action: trigger.Move{Settings: placement.Move{TargetUsage: 60, Mode: "recommend", Cooldown: hours(12), OverCommit: 200, ReplyTo: "https://sink"}}},
	}
	if !reflect.DeepEqual(f.Rules, want) {
		t.Errorf("got\n%+v\nwant\n%+v", f.Rules, want)
	}
	if got := trigger.Classes(f.Rules); !slices.Equal(got, []alarm.Class{alarm.ClassAlarm, alarm.ClassPoweredOff}) {
		t.Errorf("the rules are on %q", got)
	}
}

func TestRemediationWithoutAnAlarmIsOnThoseThatAreMadeForIt(t *testing.T) {
	half, day := clock.Duration(30*time.Minute), clock.Duration(24*time.Hour)
	resize := func(alarm, resource, mode, sizing string, most int) trigger.Rule {
		return trigger.Rule{Alarm: alarm, Action: trigger.Resize{Settings: placement.Resize{Resource: resource, Mode: mode, Sizing: sizing, Max: most, Cooldown: half}}}
	}
	move := func(alarm string) trigger.Rule {
		return trigger.Rule{Alarm: alarm, Action: trigger.Move{Settings: placement.Move{TargetUsage: 75, Cooldown: day, OverCommit: 150}}}
	}
	for text, want := range map[string][]trigger.Rule{
		"resize: {resource: cpu}": {
			resize("Virtual machine CPU usage", "cpu", "recommend", "steps", 16), resize("VM CPU Usage", "cpu", "tag", "original", 4),
		},
		"resize: {resource: memory}": {
			resize("Virtual machine memory usage", "memory", "recommend", "steps", 65536), resize("VM Memory Usage", "memory", "tag", "original", 8192),
		},
		"resize: {resource: cpu, mode: hotAddOnly, sizing: steps, max: 8}": {
			resize("Virtual machine CPU usage", "cpu", "hotAddOnly", "steps", 8), resize("VM CPU Usage", "cpu", "hotAddOnly", "steps", 8),
		},
		"{alarm: VM CPU Usage, resize: {}}":               {resize("VM CPU Usage", "cpu", "tag", "original", 4)},
		"{alarm: Virtual machine memory usage, resize: }": {resize("Virtual machine memory usage", "memory", "recommend", "steps", 65536)},
		"{alarm: 'mine*', resize: {resource: memory}}":    {resize("mine*", "memory", "recommend", "steps", 65536)},
		"move: {}":                {move("Datastore usage on disk"), move("VM Storage Usage")},
		"move:":                   {move("Datastore usage on disk"), move("VM Storage Usage")},
		"{alarm: mine, move: {}}": {move("mine")},
		"reconfigure: {}":         {{Class: "VmPoweredOffEvent", Action: trigger.Reconfigure{}}},
		"reconfigure:":            {{Class: "VmPoweredOffEvent", Action: trigger.Reconfigure{}}},
		"{event: VmPoweredOffEvent, reconfigure: }": {{Class: "VmPoweredOffEvent", Action: trigger.Reconfigure{}}},
	} {
		f, err := ParseFile("p.yaml", []byte("rules:\n- "+text+"\n"))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if !reflect.DeepEqual(f.Rules, want) {
			t.Errorf("%s: got\n%+v\nwant\n%+v", text, f.Rules, want)
		}
	}
}

func TestRulesOfRemediationNameLineAndKey(t *testing.T) {
	const resource = "names no resource, and its alarm does not tell; give it resource: cpu or memory"
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"two things":                    {"- alarm: a\n  preempt: {}\n  move: {}\n", []string{"p.yaml:2: rules[0]: does preempt and move; a rule does one thing"}},
		"three things":                  {"- alarm: a\n  resize: {resource: cpu}\n  move: {}\n  reconfigure: {}\n", []string{"p.yaml:2: rules[0]: does resize and move and reconfigure; a rule does one thing"}},
		"an event alone":                {"- event: VmPoweredOffEvent\n", []string{"p.yaml:2: rules[0]: says nothing to do; give it one of preempt, resize, reconfigure, move"}},
		"another event":                 {"- event: VmPoweredOnEvent\n  reconfigure: {}\n", []string{`p.yaml:2: rules[0].event: "VmPoweredOnEvent" is not `}},
		"preemption on an event":        {"- event: VmPoweredOffEvent\n  preempt: {}\n", []string{"p.yaml:2: rules[0].event: is for reconfigure and makeRoom; a rule that does preempt is on an alarm"}},
		"a resize on an event":          {"- resize: {resource: cpu}\n  event: VmPoweredOffEvent\n", []string{"p.yaml:3: rules[0].event: is for reconfigure and makeRoom; a rule that does resize is on an alarm"}},
		"a reconfiguration on an alarm": {"- reconfigure: {}\n  alarm: a\n", []string{"p.yaml:3: rules[0].alarm: is not for reconfigure, which is on the event VmPoweredOffEvent"}},
		"a broken glob":                 {"- alarm: 'a['\n  move: {}\n", []string{`p.yaml:2: rules[0].alarm: "a[" is no name pattern`}},

		"a resize of nothing":        {"- resize: {}\n", []string{"p.yaml:2: rules[0].resize: " + resource}},
		"a resize by a glob":         {"- alarm: 'VM *'\n  resize: {mode: tag}\n", []string{"p.yaml:3: rules[0].resize: " + resource}},
		"a resize by a MoRef":        {"- alarm: alarm-17\n  resize:\n    max: 8\n", []string{"p.yaml:3: rules[0].resize: " + resource}},
		"a resize of something else": {"- resize:\n    resource: disk\n", []string{`p.yaml:3: rules[0].resize.resource: "disk" is not one of cpu, memory`}},
		"a resize of a list":         {"- resize:\n    resource: [cpu]\n", []string{"p.yaml:3: rules[0].resize.resource: wants text, not a list"}},
		"an unknown key of a resize": {"- resize: {resource: cpu, size: 4}\n", []string{"p.yaml:2: rules[0].resize.size: unknown key; allowed are cooldown, duration, max, mode, replyTo, resource, sizing, timeZone, window"}},
		"all that is impossible of a resize": {
			"- resize:\n    resource: cpu\n    mode: off\n    sizing: double\n    max: 1000\n    cooldown: 800h\n    window: nightly\n    duration: 4h\n    replyTo: sink\n",
			[]string{
				`p.yaml:4: rules[0].resize.mode: "off" is not one of recommend, tag, hotAddOnly, hotAddOrNextPowerOff, powerCycleInWindow`,
				`p.yaml:5: rules[0].resize.sizing: "double" is not one of steps, original`, "p.yaml:6: rules[0].resize.max: 1000 is not within 1 to 768",
				"p.yaml:7: rules[0].resize.cooldown: 800h0m0s is not within", `p.yaml:8: rules[0].resize.window: "nightly": it has 1 of 5 fields`,
				`p.yaml:10: rules[0].resize.replyTo: "sink" is no http or https URL`,
			},
		},
		"a power cycle at any time":     {"- resize: {resource: cpu,\n    mode: powerCycleInWindow}\n", []string{"p.yaml:3: rules[0].resize.mode: powerCycleInWindow needs a window and its duration"}},
		"a window without an end":       {"- resize:\n    resource: cpu\n    window: 0 2 * * SUN\n", []string{"p.yaml:2: rules[0].resize.duration: 0s is not within 1m to 168h"}},
		"a time zone that nobody knows": {"- resize:\n    resource: cpu\n    window: 0 2 * * SUN\n    duration: 4h\n    timeZone: Gotham\n", []string{`p.yaml:6: rules[0].resize.timeZone: "Gotham" is no time zone`}},
		"a largest size of nothing": {"- resize:\n    resource: cpu\n    max: 0\n    cooldown: 0s\n", []string{
			"p.yaml:4: rules[0].resize.max: 0 is not possible; leave it out for the default",
			"p.yaml:5: rules[0].resize.cooldown: 0s is not possible; leave it out for the default",
		}},
		"a size that is no number": {"- resize: {resource: memory, max: 8GB}\n", []string{`p.yaml:2: rules[0].resize.max: "8GB" is no whole number`}},

		"a reconfiguration in an unknown mode": {"- reconfigure:\n    mode: observe\n", []string{`p.yaml:3: rules[0].reconfigure.mode: "observe" is not recommend; leave it out to act`}},
		"an unknown key of a reconfiguration":  {"- reconfigure: {cooldown: 1h}\n", []string{"p.yaml:2: rules[0].reconfigure.cooldown: unknown key; allowed are mode, replyTo"}},
		"a reconfiguration that is text":       {"- reconfigure: yes\n", []string{`p.yaml:2: rules[0].reconfigure: wants keys with values, not "yes"`}},

		"all that is impossible of a move": {
			"- move:\n    targetUsage: 90\n    mode: act\n    cooldown: 800h\n    overCommit: 99\n    replyTo: ftp://x\n",
			[]string{
				"p.yaml:3: rules[0].move.targetUsage: 90 is not within 20 to 80", `p.yaml:4: rules[0].move.mode: "act" is not recommend; leave it out to act`,
				"p.yaml:5: rules[0].move.cooldown: 800h0m0s is not within", "p.yaml:6: rules[0].move.overCommit: 99 is not within 100 to 1000",
				`p.yaml:7: rules[0].move.replyTo: "ftp://x" is no http or https URL`,
			},
		},
		"a target of nothing":      {"- move: {targetUsage: 0}\n", []string{"p.yaml:2: rules[0].move.targetUsage: 0 is not possible; leave it out for the default"}},
		"an unknown key of a move": {"- move: {to: x}\n", []string{"p.yaml:2: rules[0].move.to: unknown key; allowed are cooldown, mode, overCommit, replyTo, targetUsage"}},
		"problems of two rules":    {"- move: {mode: x}\n- resize: {}\n- {}\n", []string{"p.yaml:2: rules[0].move.mode: ", "p.yaml:3: rules[1].resize: ", "p.yaml:4: rules[2]: says nothing to do"}},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := ParseFile("p.yaml", []byte("rules:\n"+tc.text))
			wantProblems(t, err, tc.want)
			if len(f.Rules) != 0 {
				t.Errorf("a rule with a problem is taken: %+v", f.Rules)
			}
		})
	}
}
