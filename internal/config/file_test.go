package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

func TestParseFileTakesTheDocumentedKeys(t *testing.T) {
	f, err := ParseFile("p.yaml", []byte(`
limits:
  vcenterCalls: 7
  outage: 2h
  allowedTags: [preemptible, "batch:night", 2024]
  maxCriticality: medium
  replyAllow: [sink.example.com, 10.0.0.0/8, "::1"]
  neverTouch: ["db-*", "vc[0-9]"]
  remediationsPerHour: 0
  moves: {perDatastore: 2, perHost: 3, atOnce: 100}
policies:
  default:
    maxVMs: 3
  careful:
    mode: observe
    scope: host
    maxVMs: 1
    cooldown: 90s
    grayTimeout: 1m
    repeatWhileRed: false
    withdrawWait: 2m
    lateWatch: 0s
    powerOffTimeout: 3m
    criticality:
      HIGH: {action: shutdownGuest, gracePeriod: 30s, thenForce: true}
      MEDIUM: {thenForce: false}
      LOW:
  plain:
`))
	if err != nil {
		t.Fatal(err)
	}
	limits := Limits{
		VCenterCalls: 7, Outage: 2 * time.Hour, AllowedTags: []string{"preemptible", "batch:night", "2024"},
		MaxCriticality: "MEDIUM", ReplyAllow: []string{"sink.example.com", "10.0.0.0/8", "::1"}, NeverTouch: []string{"db-*", "vc[0-9]"},
		RemediationsPerHour: 0, Moves: Moves{PerDatastore: 2, PerHost: 3, AtOnce: 100},
	}
	if !reflect.DeepEqual(f.Limits, limits) {
		t.Errorf("limits:\n got %+v\nwant %+v", f.Limits, limits)
	}
	plain := policy.Default()
	plain.NeverTouch = limits.NeverTouch
	few := plain
	few.MaxVMs = 3
	careful := plain
	careful.Mode, careful.Scope, careful.MaxVMs, careful.RepeatWhileRed = "observe", "host", 1, false
	careful.Cooldown, careful.GrayTimeout = clock.Duration(90*time.Second), clock.Duration(time.Minute)
	careful.WithdrawWait, careful.LateWatch, careful.PowerOffTimeout = clock.Duration(2*time.Minute), 0, clock.Duration(3*time.Minute)
	careful.Criticality.High = policy.Treatment{Action: "shutdownGuest", GracePeriod: clock.Duration(30 * time.Second), ThenForce: true}
	careful.Criticality.Medium.ThenForce = false
	for name, want := range map[string]policy.Policy{"default": few, "careful": careful, "plain": plain} {
		if got := f.Policies[name]; !reflect.DeepEqual(got, want) {
			t.Errorf("policy %s:\n got %+v\nwant %+v", name, got, want)
		}
	}
	if len(f.Policies) != 3 {
		t.Errorf("got %d policies", len(f.Policies))
	}
}

func TestParseFileKeepsTheDefaultsWhereItIsSilent(t *testing.T) {
	for name, text := range map[string]string{
		"an empty file":      "",
		"a comment only":     "# nothing yet\n",
		"null":               "null\n",
		"empty sections":     "limits:\npolicies:\n",
		"an empty policy":    "policies: {default: }\n",
		"empty lists":        "limits: {allowedTags: [], replyAllow: , neverTouch: }\n",
		"an empty mapping":   "{}\n",
		"a document's start": "---\nlimits: {}\n",
	} {
		t.Run(name, func(t *testing.T) {
			f, err := ParseFile("p.yaml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			want := DefaultFile()
			if len(f.Limits.AllowedTags) == 0 {
				f.Limits.AllowedTags = nil
			}
			if !reflect.DeepEqual(f, want) {
				t.Errorf("got %+v, want %+v", f, want)
			}
		})
	}
}

func TestAWorkerIsToldTheBoundsOfRemediation(t *testing.T) {
	moves := Moves{PerDatastore: 1, PerHost: 2, AtOnce: 4}
	for text, want := range map[string]Remediation{
		"":                                 {PerHour: 20, Moves: moves},
		"mode: observe":                    {Observe: true, PerHour: 20, Moves: moves},
		"limits: {neverTouch: [x]}":        {PerHour: 20, Moves: moves, NeverTouch: []string{"x"}},
		"limits: {remediationsPerHour: 0}": {Moves: moves},
		"limits: {moves: {atOnce: 9}}":     {PerHour: 20, Moves: Moves{PerDatastore: 1, PerHost: 2, AtOnce: 9}},
	} {
		f, err := ParseFile("p.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Remediation(); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, want %+v", text, got, want)
		}
	}
}

func TestNeverTouchHoldsForEveryPolicyAndIsNotShared(t *testing.T) {
	f, err := ParseFile("p.yaml", []byte("policies: {a: {maxVMs: 1}}\nlimits: {neverTouch: [x]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range f.Policies {
		if !slices.Equal(p.NeverTouch, []string{"x"}) {
			t.Errorf("policy %s: %v", name, p.NeverTouch)
		}
		p.NeverTouch[0] = "changed"
	}
	if f.Limits.NeverTouch[0] != "x" {
		t.Error("the list is shared")
	}
}

func TestParseFileNamesLineAndKey(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"an unknown top-level key":  {"limit: {}\n", []string{"p.yaml:1: limit: unknown key; allowed are limits, makeRoom, mode, notifications, policies"}},
		"an unknown limit":          {"limits:\n  vcentercalls: 3\n", []string{"p.yaml:2: limits.vcentercalls: unknown key; allowed are allowedTags, maxCriticality, moves, neverTouch, outage, remediationsPerHour, replyAllow, trustedUsers, vcenterCalls, withoutCategories"}},
		"a strange category":        {"limits: {withoutCategories: [preemption-protection]}", []string{`p.yaml:1: limits.withoutCategories: "preemption-protection" is not one of preemption-priority, preemption-group, preemption-protect`}},
		"an unknown policy key":     {"policies:\n  default:\n    maxVM: 3\n", []string{"p.yaml:3: policies.default.maxVM: unknown key; allowed are budgets, cooldown, criticality, grayTimeout, headroom, lateWatch, maxVMs, mode, order, powerOffTimeout, protect, repeatWhileRed, restore, scope, target, withdrawWait"}},
		"an unknown criticality":    {"policies: {default: {criticality: {\n  high: {}}}}\n", []string{"p.yaml:2: policies.default.criticality.high: unknown key; allowed are HIGH, LOW, MEDIUM"}},
		"an unknown treatment key":  {"policies: {default: {criticality: {HIGH: {\n force: true}}}}\n", []string{"p.yaml:2: policies.default.criticality.HIGH.force: unknown key; allowed are action, gracePeriod, notice, steps, thenForce, throttle"}},
		"a merge key":               {"policies:\n  a: &a {maxVMs: 1}\n  b:\n    <<: *a\n", []string{"p.yaml:4: policies.b.<<: unknown key"}},
		"a key with odd characters": {"\"a\\nb\": 1\n", []string{`p.yaml:1: "a\nb": unknown key`}},
		"rules that are no list":    {"\nrules: {}\n", []string{"p.yaml:2: rules: wants a list of rules, not keys with values"}},
		"what is wrong in two sections": {
			"policies:\n  default:\n    target: {cpu: 175}\n    budgets: [{}]\nrules: {}\n",
			[]string{
				"p.yaml:3: policies.default.target.cpu: 175 is not within 1 to 100", "p.yaml:4: policies.default.budgets[0]: is not of one kind",
				"p.yaml:5: rules: wants a list of rules",
			},
		},
		"too many calls":            {"limits: {vcenterCalls: 51}", []string{"p.yaml:1: limits.vcenterCalls: 51 is not within 1 to 50"}},
		"no calls":                  {"limits: {vcenterCalls: 0}", []string{"p.yaml:1: limits.vcenterCalls: 0 is not within 1 to 50"}},
		"an unknown bound on moves": {"limits:\n  moves: {perCluster: 1}\n", []string{"p.yaml:2: limits.moves.perCluster: unknown key; allowed are atOnce, perDatastore, perHost"}},
		"bounds on moves that are none": {"limits:\n  moves:\n    perDatastore: 0\n    perHost: 101\n    atOnce: many\n", []string{
			"p.yaml:3: limits.moves.perDatastore: 0 is not within 1 to 100", "p.yaml:4: limits.moves.perHost: 101 is not within 1 to 100",
			`p.yaml:5: limits.moves.atOnce: "many" is no whole number`,
		}},
		"fewer than no remediation": {"limits: {remediationsPerHour: -1}", []string{"p.yaml:1: limits.remediationsPerHour: -1 is not within 0 to 1000"}},
		"too much remediation":      {"limits: {remediationsPerHour: 1001}", []string{"p.yaml:1: limits.remediationsPerHour: 1001 is not within 0 to 1000"}},
		"calls as a fraction":       {"limits: {vcenterCalls: 2.5}", []string{`p.yaml:1: limits.vcenterCalls: "2.5" is no whole number`}},
		"calls as text":             {`limits: {vcenterCalls: "5"}`, []string{`p.yaml:1: limits.vcenterCalls: "5" is no whole number`}},
		"a number out of range":     {"limits: {vcenterCalls: 99999999999999999999}", []string{`p.yaml:1: limits.vcenterCalls: "99999999999999999999" is no whole number`}},
		"a list as a number":        {"limits:\n  vcenterCalls: [5]", []string{"p.yaml:2: limits.vcenterCalls: wants a whole number, not a list"}},
		"a value left out":          {"limits:\n  outage:\n", []string{"p.yaml:2: limits.outage: has no value; give it a duration such as 90s or 5m or remove it"}},
		"an outage of nothing":      {"limits: {outage: 0s}", []string{"p.yaml:1: limits.outage: 0s is not within 1s to 720h"}},
		"a unit left out":           {"limits: {outage: 24}", []string{`p.yaml:1: limits.outage: "24" is no duration; write it with its unit, such as 90s or 5m`}},
		"a tag instead of tags":     {"limits: {allowedTags: preemptible}", []string{`p.yaml:1: limits.allowedTags: wants a list such as [a, b], not "preemptible"`}},
		"an empty tag":              {"limits:\n  allowedTags:\n  - a\n  - ' '\n", []string{"p.yaml:4: limits.allowedTags: an entry is empty"}},
		"a list in a list":          {"limits:\n  allowedTags:\n  - [a]\n", []string{"p.yaml:3: limits.allowedTags: wants text, not a list"}},
		"an unknown level":          {"limits: {maxCriticality: URGENT}", []string{`p.yaml:1: limits.maxCriticality: "URGENT" is not one of HIGH, MEDIUM, LOW`}},
		"a URL to reply to":         {"limits: {replyAllow: ['http://x']}", []string{`p.yaml:1: limits.replyAllow: "http://x" is neither a host name, such as sink.example.com, nor a CIDR`}},
		"a broken CIDR":             {"limits: {replyAllow: [10.0.0.0/33]}", []string{`p.yaml:1: limits.replyAllow: "10.0.0.0/33" is neither`}},
		"a broken glob":             {"limits: {neverTouch: ['a[']}", []string{`p.yaml:1: limits.neverTouch: "a[" is no name pattern`}},
		"policies as a list":        {"policies:\n- default\n", []string{"p.yaml:2: policies: wants keys with values, not a list"}},
		"a text as the file":        {"hello\n", []string{`p.yaml:1: wants keys with values, not "hello"`}},
		"an empty policy name":      {"policies: {'': {}}", []string{"p.yaml:1: policies: the name of a policy has 1 to 64 characters"}},
		"a key that is a list":      {"limits: {[a]: 1}", []string{"p.yaml:1: limits: a key must be plain text"}},
		"a key given twice":         {"limits:\n  outage: 1h\n  outage: 2h\n", []string{"p.yaml:3: limits.outage: given twice, first in line 2"}},
		"two documents":             {"limits: {}\n---\npolicies: {}\n", []string{"a second document; the file holds one"}},
		"no YAML at all":            {"limits: {outage: 1h\n", []string{"p.yaml: yaml: line 1: did not find expected"}},
		"impossible values of a policy": {
			"policies:\n  default:\n    mode: maybe\n    scope: dc\n    maxVMs: 0\n    cooldown: -1s\n    grayTimeout: 200h\n    repeatWhileRed: yes\n    criticality:\n      HIGH: {action: destroy, gracePeriod: 48h}\n",
			[]string{
				`p.yaml:3: policies.default.mode: "maybe" is not one of act, observe`,
				`p.yaml:4: policies.default.scope: "dc" is not one of cluster, host, all`,
				"p.yaml:5: policies.default.maxVMs: 0 is not within 1 to 1000",
				"p.yaml:6: policies.default.cooldown: -1s is not within 0s to 168h",
				"p.yaml:7: policies.default.grayTimeout: 200h0m0s is not within 0s to 168h",
				`p.yaml:8: policies.default.repeatWhileRed: "yes" is neither true nor false`,
				`p.yaml:10: policies.default.criticality.HIGH.`, `p.yaml:10: policies.default.criticality.HIGH.`,
			},
		},
		"problems come in the order of their lines": {
			"policies: {a: {maxVMs: x}}\nlimits: {outage: x}\n",
			[]string{"p.yaml:1: policies.a.maxVMs", "p.yaml:2: limits.outage"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseFile("p.yaml", []byte(tc.text))
			wantProblems(t, err, tc.want)
		})
	}
}

func TestParseFileIsBounded(t *testing.T) {
	var many strings.Builder
	many.WriteString("policies:\n")
	for i := range maxPolicies + 5 {
		fmt.Fprintf(&many, "  p%d: {}\n", i)
	}
	for name, tc := range map[string]struct{ text, want string }{
		"by its size":                {"# " + strings.Repeat("x", maxFileBytes), "larger than 1048576 bytes"},
		"by entries of a list":       {"limits: {allowedTags: [" + strings.Repeat("a,", maxEntries+1) + "]}", "has 1001 entries; at most 1000 are taken"},
		"by policies":                {many.String(), "more than 100 policies"},
		"by a policy that is itself": {"policies: &p\n  a: *p\n", "unknown key"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseFile("p.yaml", []byte(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestReadFileIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "big.yaml")
	if err := os.WriteFile(path, make([]byte, maxFileBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), path+": the file is larger") {
		t.Errorf("got %v", err)
	}
	if _, err := ReadFile(t.TempDir()); err == nil {
		t.Error("a folder is read as a file")
	}
}

func FuzzParseFile(f *testing.F) {
	for _, seed := range []string{
		"", "limits: {vcenterCalls: 5, outage: 24h, allowedTags: [a], maxCriticality: HIGH, replyAllow: [h, 10.0.0.0/8], neverTouch: ['a*']}",
		"policies:\n  default: &d\n    mode: act\n    maxVMs: 10\n    criticality: {HIGH: {action: powerOff, gracePeriod: 5m, thenForce: true}}\n  b: *d\n",
		"rules: []\n", "rules:\n- &r {alarm: 'a*', preempt: {tag: t, policy: p, replyTo: 'http://x', onFall: soften, criticality: {yellow: NONE, red: LOW}}}\n- *r\npolicies: {p: {scope: all}}\n", "rules: [{resize: {resource: cpu}}, {event: VmPoweredOffEvent, reconfigure: {mode: recommend}}, {move: {targetUsage: 70}}, {alarm: x, resize: {resource: memory, max: 8, window: '0 2 * * *', duration: 1h}}]\nlimits: {moves: {atOnce: 1}}\n", "a: &a [*a]\n", "limits: !!binary x\n", "? [a]\n: b\n", "---\n---\n", "policies: {a: {<<: *x}}", "\xff\xfe", "limits: *a\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := ParseFile("p.yaml", data)
		for _, p := range Problems(err) {
			if !strings.HasPrefix(p.Error(), "p.yaml:") {
				t.Errorf("a problem does not name the file: %v", p)
			}
		}
		if err != nil {
			return
		}
		if _, ok := file.Policies[DefaultPolicy]; !ok {
			t.Error("there is no default policy")
		}
		for name, p := range file.Policies {
			if err := p.Validate(); err != nil {
				t.Errorf("policy %s is taken but impossible: %v", name, err)
			}
		}
		if c := file.Limits.VCenterCalls; c < 1 || c > 50 {
			t.Errorf("%d calls are taken", c)
		}
	})
}

func TestATrustedUserIsNamedWithItsDomain(t *testing.T) {
	f, err := ParseFile("p.yaml", []byte("limits: {trustedUsers: ['VSPHERE.LOCAL\\k8s-csi', backup@vsphere.local]}"))
	if err != nil || len(f.Limits.TrustedUsers) != 2 {
		t.Fatalf("%v, %v", f.Limits.TrustedUsers, err)
	}
	for _, bad := range []string{"backup", "'*@vsphere.local'", "'@vsphere.local'"} {
		if _, err := ParseFile("p.yaml", []byte("limits: {trustedUsers: ["+bad+"]}")); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}
