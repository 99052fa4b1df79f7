package config

import (
	"slices"
	"strings"
	"testing"
)

func TestALimitThatWouldRejectARuleIsRefusedNamingBothLines(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"red above the most that is taken": {
			"limits:\n  maxCriticality: MEDIUM\nrules:\n- alarm: cpu\n  preempt: {tag: t}\n",
			[]string{"p.yaml:5: rules[0].preempt.criticality.red: red means HIGH, which is above limits.maxCriticality MEDIUM in line 2"},
		},
		"yellow and red": {
			"rules:\n- alarm: cpu\n  preempt:\n    criticality:\n      yellow: MEDIUM\n      red: HIGH\nlimits: {maxCriticality: LOW}\n",
			[]string{"p.yaml:5: rules[0].preempt.criticality.yellow", "in line 7", "p.yaml:6: rules[0].preempt.criticality.red"},
		},
		"red that does nothing": {"limits: {maxCriticality: MEDIUM}\nrules: [{alarm: a, preempt: {criticality: {red: MEDIUM}}}]\n", nil},
		"a tag that is not allowed": {
			"limits:\n  allowedTags: [spot]\nrules:\n- alarm: cpu\n  preempt:\n    tag: batch\n",
			[]string{`p.yaml:6: rules[0].preempt.tag: "batch" is not among limits.allowedTags in line 2`},
		},
		"the default tag that is not allowed": {
			"limits: {allowedTags: [spot]}\nrules:\n- alarm: cpu\n  preempt: {policy: default}\n", []string{"p.yaml:4: rules[0].preempt.tag", "in line 1"},
		},
		"an allowed tag": {"limits: {allowedTags: [spot]}\nrules: [{alarm: a, preempt: {tag: spot}}]\n", nil},
	} {
		_, err := ParseFile("p.yaml", []byte(c.text))
		if (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v\nlacks %s", name, err, want)
			}
		}
	}
}

func TestTheRuleOfTheEnvironmentIsHeldAgainstTheLimitsToo(t *testing.T) {
	r := reader{env: Env{"VSPHERE_ALARM_NAME": "cpu", "VSPHERE_PREEMPTION_TAG": "batch"}}
	file := DefaultFile()
	if r.environmentRule(file, false); len(r.errs) != 0 {
		t.Fatal(r.errs)
	}
	file.Limits.AllowedTags = []string{"spot"}
	if r.environmentRule(file, false); len(r.errs) != 1 || !strings.Contains(r.errs[0].Error(), "limits.allowedTags") {
		t.Error(r.errs)
	}
}

func TestWhatIsHardlyMeantIsWarnedOfWithItsLine(t *testing.T) {
	rules := func(alarms ...string) string {
		text := "rules:\n"
		for _, a := range alarms {
			text += "- {alarm: '" + a + "', preempt: {}}\n"
		}
		return text
	}
	for name, c := range map[string]struct{ text, want string }{
		"a name below a glob":              {rules("cpu*", "cpu-80"), `p.yaml:3: rules[1]: is never reached: rule "cpu*" in line 2 comes first`},
		"a name below the same":            {rules("cpu", "mem", "cpu"), `p.yaml:4: rules[2]: is never reached: rule "cpu" in line 2`},
		"anything below all":               {rules("*", "alarm-12"), "p.yaml:3: rules[1]"},
		"a glob below a wider one":         {rules("cpu*", "cpu-?"), "p.yaml:3: rules[1]"},
		"an exemption above a glob":        {rules("cpu-80", "cpu*"), ""},
		"what a pattern may take or not":   {rules("cpu-?", "cpu-*"), ""},
		"a policy that is almost default":  {"policies:\n  a: {}\n  Default: {maxVMs: 3}\n", `p.yaml:3: policies.Default: is not the policy "default"`},
		"default as it is":                 {"policies: {default: {maxVMs: 3}}\n", ""},
		"reconfigure twice":                {"rules:\n- {event: VmPoweredOffEvent, reconfigure: {}}\n- {event: VmPoweredOffEvent, reconfigure: {}}\n", "p.yaml:3: rules[1]"},
		"one of two alarms has an earlier": {"rules:\n- {alarm: VM CPU Usage, preempt: {}}\n- resize: {resource: cpu}\n", ""},
	} {
		f, err := ParseFile("p.yaml", []byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.want == "" && len(f.Warnings) != 0 || c.want != "" && !slices.ContainsFunc(f.Warnings, func(w string) bool { return strings.Contains(w, c.want) }) {
			t.Errorf("%s: %q", name, f.Warnings)
		}
	}
}
