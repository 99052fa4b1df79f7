package config

import (
	"reflect"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

func TestRulesTakeTheDocumentedKeys(t *testing.T) {
	f, err := ParseFile("p.yaml", []byte(`
rules:
  - alarm: cluster-cpu-above-80
    preempt: {tag: spot, policy: careful, replyTo: "https://broker.example.com/x", onFall: soften, criticality: {yellow: low, red: Medium}}
  - {alarm: "Host * [0-9]", preempt: {policy: everything, criticality: {yellow: none}}}
  - alarm: alarm-282
    preempt:
      tag: " batch:night "
      replyTo: ""
      onFall: cancel
      criticality:
  - &last
    alarm: 2024
    preempt:
  - *last
policies:
  careful: {scope: host}
  everything: {scope: all}
`))
	if err != nil {
		t.Fatal(err)
	}
	plain := trigger.Preempt{Tag: "preemptible", Policy: "default", Scope: "cluster", OnFall: "cancel"}
	night := plain
	night.Tag = "batch:night"
	want := []trigger.Rule{
		{Alarm: "cluster-cpu-above-80", Action: trigger.Preempt{
			Tag: "spot", Policy: "careful", Scope: "host", ReplyTo: "https://broker.example.com/x", OnFall: "soften", Yellow: "LOW", Red: "MEDIUM",
		}},
		{Alarm: "Host * [0-9]", Action: trigger.Preempt{Tag: "preemptible", Policy: "everything", Scope: "all", OnFall: "cancel", Yellow: trigger.None}},
		{Alarm: "alarm-282", Action: night},
		{Alarm: "2024", Action: plain},
		{Alarm: "2024", Action: plain},
	}
	if !reflect.DeepEqual(f.Rules, want) {
		t.Errorf("got\n%+v\nwant\n%+v", f.Rules, want)
	}
}

func TestARuleHasTheScopeOfItsPolicy(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"the default policy, unchanged":   {"rules: [{alarm: a, preempt: {}}]", "cluster"},
		"the default policy, as it is":    {"rules: [{alarm: a, preempt: {}}]\npolicies: {default: {scope: host}}", "host"},
		"a policy that stands behind it":  {"rules: [{alarm: a, preempt: {policy: p}}]\npolicies: {p: {scope: all}}", "all"},
		"a policy that stands before it":  {"policies: {p: {scope: all}}\nrules: [{alarm: a, preempt: {policy: p}}]", "all"},
		"a policy that does not say":      {"policies: {default: {scope: all}, p: {}}\nrules: [{alarm: a, preempt: {policy: p}}]", "cluster"},
		"the default policy, by its name": {"rules: [{alarm: a, preempt: {policy: default}}]", "cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := ParseFile("p.yaml", []byte(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Rules[0].Action.(trigger.Preempt).Scope; got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestNoRulesAreRules(t *testing.T) {
	for _, text := range []string{"rules:\n", "rules: []\n", "rules: null\n"} {
		if f, err := ParseFile("p.yaml", []byte(text)); err != nil || len(f.Rules) != 0 {
			t.Errorf("%q: %+v, %v", text, f.Rules, err)
		}
	}
}

func TestRulesNameLineAndKey(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"a mapping instead of a list": {"rules:\n  alarm: a\n", []string{"p.yaml:2: rules: wants a list of rules, not keys with values"}},
		"a text instead of a list":    {"rules: cpu\n", []string{`p.yaml:1: rules: wants a list of rules, not "cpu"`}},
		"a rule that is text":         {"rules:\n- cpu\n", []string{"p.yaml:2: rules[0]: wants a rule: alarm, and what to do"}},
		"a rule that is nothing":      {"rules:\n- {alarm: a, preempt: {}}\n-\n", []string{"p.yaml:3: rules[1]: wants a rule: alarm, and what to do"}},
		"a rule that is a list":       {"rules:\n- [a]\n", []string{"p.yaml:2: rules[0]: wants a rule"}},
		"a rule that is empty":        {"rules: [{}]\n", []string{"p.yaml:1: rules[0]: says nothing to do; give it one of preempt, resize, reconfigure, move"}},
		"no alarm":                    {"rules:\n- preempt: {}\n", []string{"p.yaml:2: rules[0]: names no alarm; give it alarm: <name, glob or MoRef>"}},
		"nothing to do":               {"rules:\n- alarm: a\n", []string{"p.yaml:2: rules[0]: says nothing to do; give it one of preempt, resize, reconfigure, move"}},
		"an unknown key":              {"rules:\n- alarm: a\n  prempt: {}\n", []string{"p.yaml:3: rules[0].prempt: unknown key; allowed are alarm, event, makeRoom, move, preempt, reconfigure, resize"}},
		"a key given twice":           {"rules:\n- alarm: a\n  alarm: b\n  preempt: {}\n", []string{"p.yaml:3: rules[0].alarm: given twice, first in line 2"}},
		"an empty alarm":              {"rules:\n- alarm: ' '\n  preempt: {}\n", []string{"p.yaml:2: rules[0].alarm: it is empty: write the alarm's name, a glob over it, or its MoRef such as alarm-123"}},
		"an alarm left out":           {"rules:\n- alarm:\n  preempt: {}\n", []string{"p.yaml:2: rules[0].alarm: has no value; give it text or remove it"}},
		"a list of alarms":            {"rules:\n- alarm: [a, b]\n  preempt: {}\n", []string{"p.yaml:2: rules[0].alarm: wants text, not a list"}},
		"a broken glob":               {"rules:\n- alarm: 'cpu [prod'\n  preempt: {}\n", []string{`p.yaml:2: rules[0].alarm: "cpu [prod" is no name pattern; use * ? and [a-z], with \ before a literal one`}},
		"a name that is too long":     {"rules:\n- alarm: " + strings.Repeat("x", 256) + "\n  preempt: {}\n", []string{"p.yaml:2: rules[0].alarm: it is 256 bytes long: at most 255 are taken"}},
		"preempt is text":             {"rules:\n- alarm: a\n  preempt: yes\n", []string{`p.yaml:3: rules[0].preempt: wants keys with values, not "yes"`}},
		"an unknown key of preempt":   {"rules:\n- alarm: a\n  preempt:\n    tags: x\n", []string{"p.yaml:4: rules[0].preempt.tags: unknown key; allowed are criticality, mode, onFall, policy, replyTo, tag"}},
		"an empty tag":                {"rules:\n- alarm: a\n  preempt:\n    tag: ' '\n", []string{"p.yaml:4: rules[0].preempt.tag: is empty: name the tag that marks preemptible VMs"}},
		"a list of tags":              {"rules:\n- alarm: a\n  preempt: {tag: [x]}\n", []string{"p.yaml:3: rules[0].preempt.tag: wants text, not a list"}},
		"a policy that is not there":  {"rules:\n- alarm: a\n  preempt: {policy: nope}\n", []string{`p.yaml:3: rules[0].preempt.policy: the file has no policy "nope"`}},
		"an empty policy":             {"rules:\n- alarm: a\n  preempt: {policy: ''}\n", []string{`p.yaml:3: rules[0].preempt.policy: the file has no policy ""`}},
		"a reply that is no URL":      {"rules:\n- alarm: a\n  preempt: {replyTo: broker}\n", []string{`p.yaml:3: rules[0].preempt.replyTo: "broker" is no http or https URL`}},
		"a reply by another scheme":   {"rules:\n- alarm: a\n  preempt: {replyTo: 'ftp://x'}\n", []string{`p.yaml:3: rules[0].preempt.replyTo: "ftp://x" is no http or https URL`}},
		"a reply without a host":      {"rules:\n- alarm: a\n  preempt: {replyTo: 'http:///x'}\n", []string{`p.yaml:3: rules[0].preempt.replyTo: "http:///x" is no http or https URL`}},
		"an unknown way with falls":   {"rules:\n- alarm: a\n  preempt: {onFall: Soften}\n", []string{`p.yaml:3: rules[0].preempt.onFall: "Soften" is not one of cancel, soften`}},
		"an unknown criticality":      {"rules:\n- alarm: a\n  preempt: {criticality: {red: URGENT}}\n", []string{`p.yaml:3: rules[0].preempt.criticality.red: "URGENT" is not one of HIGH, MEDIUM, LOW, NONE`}},
		"a criticality for a word":    {"rules:\n- alarm: a\n  preempt: {criticality: HIGH}\n", []string{`p.yaml:3: rules[0].preempt.criticality: wants keys with values, not "HIGH"`}},
		"a criticality left out":      {"rules:\n- alarm: a\n  preempt: {criticality: {yellow: }}\n", []string{"p.yaml:3: rules[0].preempt.criticality.yellow: has no value; give it text or remove it"}},
		"an unknown colour":           {"rules:\n- alarm: a\n  preempt: {criticality: {green: LOW}}\n", []string{"p.yaml:3: rules[0].preempt.criticality.green: unknown key; allowed are red, yellow"}},
		"a red milder than yellow":    {"rules:\n- alarm: a\n  preempt: {criticality: {yellow: HIGH, red: LOW}}\n", []string{"p.yaml:3: rules[0].preempt.criticality: red means LOW and yellow HIGH: an alarm that gets worse cannot ask for less"}},
		"a red milder than the usual": {"rules:\n- alarm: a\n  preempt: {criticality: {red: LOW}}\n", []string{"p.yaml:3: rules[0].preempt.criticality: red means LOW and yellow MEDIUM"}},
		"nothing at red alone":        {"rules:\n- alarm: a\n  preempt: {criticality: {red: NONE}}\n", []string{"p.yaml:3: rules[0].preempt.criticality: red means NONE and yellow MEDIUM"}},
		"all problems of all rules, in the order of their lines": {
			"rules:\n- alarm: 'a['\n  preempt:\n    policy: nope\n    onFall: x\n- {}\n- alarm: b\n  preempt: {replyTo: x}\npolicies: {default: {maxVMs: 0}}\n",
			[]string{
				"p.yaml:2: rules[0].alarm: ", "p.yaml:4: rules[0].preempt.policy: ", "p.yaml:5: rules[0].preempt.onFall: ",
				"p.yaml:6: rules[1]: says nothing to do", "p.yaml:8: rules[2].preempt.replyTo: ",
				"p.yaml:9: policies.default.maxVMs: ",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseFile("p.yaml", []byte(tc.text))
			wantProblems(t, err, tc.want)
		})
	}
}

func TestRulesThatDoNothingAtSomeColoursAreTaken(t *testing.T) {
	for _, text := range []string{"{yellow: NONE}", "{yellow: NONE, red: NONE}", "{yellow: LOW, red: LOW}", "{}"} {
		if _, err := ParseFile("p.yaml", []byte("rules: [{alarm: a, preempt: {criticality: "+text+"}}]")); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestTooManyRulesAreRefused(t *testing.T) {
	rules := func(n int) []byte { return []byte("rules:\n" + strings.Repeat("- {alarm: a, preempt: {}}\n", n)) }
	if f, err := ParseFile("p.yaml", rules(maxRules)); err != nil || len(f.Rules) != maxRules {
		t.Errorf("%d rules, %v", len(f.Rules), err)
	}
	_, err := ParseFile("p.yaml", rules(maxRules+1))
	wantProblems(t, err, []string{"p.yaml:2: rules: 201 rules; at most 200 are taken"})
}
