package config

import (
	"reflect"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

func TestAPolicyTakesTheDocumentedKeys(t *testing.T) {
	f, err := ParseFile("p.yaml", []byte(`
policies:
  default:
    criticality:
      HIGH: {notice: 30s, action: suspend}
      LOW: {action: throttle, throttle: {cpu: 25%}, gracePeriod: 0s}
      MEDIUM: {action: throttle, throttle: {cpu: 500MHz}, gracePeriod: 0s, thenForce: false}
    target: {cpu: 75, memory: 80, margin: 3, ifShort: none}
    headroom: {cpu: 10%, memory: "20%", failHosts: 1}
    order: {defaultPriority: 0}
    protect:
      minRuntime: 1h
      maxPreemptionsPerDay: 3
      folders: [prod, /dc-1/vm/infra]
      resourcePools: ["gold-*"]
      names: ["db-*"]
    budgets:
    - {group: "*", minAvailable: 50%}
    - {scope: true, max: 3, per: 2h}
    - {window: "0 8 * * MON-FRI", duration: 10h, timeZone: Europe/Berlin}
    restore: {enabled: true, settle: 5m, wave: 4, giveUp: 12h}
  silent:
    target: {cpu: 75}
    order: {}
    protect: {}
    budgets: []
    restore: {enabled: false}
  empty:
    target:
    order:
    protect:
    budgets:
    restore:
`))
	if err != nil {
		t.Fatal(err)
	}
	hours := func(n int) clock.Duration { return clock.Duration(time.Duration(n) * time.Hour) }
	want, priority := policy.Default(), 0
	want.Criticality.High = policy.Treatment{Action: action.Suspend, Notice: clock.Duration(30 * time.Second)}
	want.Criticality.Low = policy.Treatment{Action: action.Throttle, Throttle: policy.Throttle{CPU: policy.Speed{N: 25, Percent: true}}}
	want.Criticality.Medium = policy.Treatment{Action: action.Throttle, Throttle: policy.Throttle{CPU: policy.Speed{N: 500}}}
	want.Target = policy.Goal{CPU: 75, Memory: 80, Margin: 3, IfShort: policy.ShortNone}
	want.Order.DefaultPriority = &priority
	want.Protect = policy.Protect{
		MinRuntime: hours(1), MaxPreemptionsPerDay: 3, Folders: []string{"prod", "/dc-1/vm/infra"}, ResourcePools: []string{"gold-*"}, Names: []string{"db-*"},
	}
	want.Budgets = []policy.Budget{
		{Group: "*", MinAvailable: policy.Amount{N: 50, Percent: true}},
		{Scope: true, Max: policy.Amount{N: 3}, Per: hours(2)},
		{Window: "0 8 * * MON-FRI", Duration: hours(10), TimeZone: "Europe/Berlin"},
	}
	want.Headroom = policy.Headroom{CPU: policy.Amount{N: 10, Percent: true}, Memory: policy.Amount{N: 20, Percent: true}, FailHosts: 1}
	want.Restore = policy.Restore{Enabled: true, Settle: clock.Duration(5 * time.Minute), Wave: 4, GiveUp: hours(12)}
	if got := f.Policies["default"]; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	silent := policy.Default()
	silent.Target = policy.Goal{CPU: 75, Margin: 5, IfShort: policy.ShortPartial}
	for name, want := range map[string]policy.Policy{"silent": silent, "empty": policy.Default()} {
		if got := f.Policies[name]; got.Hash() != want.Hash() {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

func TestAPolicyNamesLineAndKey(t *testing.T) {
	const policies = "policies:\n  default:\n"
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"an unknown target key":     {"    target: {cpu: 75,\n disk: 3}", []string{"p.yaml:4: policies.default.target.disk: unknown key; allowed are cpu, ifShort, margin, memory"}},
		"an unknown headroom key":   {"    headroom: {disk: 3%}", []string{"p.yaml:3: policies.default.headroom.disk: unknown key; allowed are cpu, failHosts, memory"}},
		"headroom of a number":      {"    headroom: {cpu: 10}", []string{`p.yaml:3: policies.default.headroom.cpu: "10" is no percentage such as 10%`}},
		"headroom of nothing":       {"    headroom: {memory: 0%}", []string{"p.yaml:3: policies.default.headroom.memory: 0% is not within 1 to 99"}},
		"headroom of all":           {"    headroom: {memory: 100%}", []string{"p.yaml:3: policies.default.headroom.memory: 100 is not within 1 to 99"}},
		"too many hosts that fail":  {"    headroom: {failHosts: 17}", []string{"p.yaml:3: policies.default.headroom.failHosts: 17 is not within 0 to 16"}},
		"an unknown order key":      {"    order: {by: age}", []string{"p.yaml:3: policies.default.order.by: unknown key; allowed are defaultPriority"}},
		"an unknown protect key":    {"    protect: {vms: []}", []string{"p.yaml:3: policies.default.protect.vms: unknown key; allowed are folders, maxPreemptionsPerDay, minRuntime, names, resourcePools"}},
		"an unknown restore key":    {"    restore: {always: true}", []string{"p.yaml:3: policies.default.restore.always: unknown key; allowed are enabled, giveUp, settle, wave"}},
		"an unknown budget key":     {"    budgets:\n    - group: a\n      minAvailable: 1\n      maxUnavailable: 1", []string{"p.yaml:6: policies.default.budgets[0].maxUnavailable: unknown key; allowed are duration, group, max, minAvailable, per, scope, timeZone, window"}},
		"a target out of range":     {"    target:\n      cpu: 175\n", []string{"p.yaml:4: policies.default.target.cpu: 175 is not within 1 to 100"}},
		"a target of nothing":       {"    target: {cpu: 0, memory: 80}", []string{"p.yaml:3: policies.default.target.cpu: 0 is not within 1 to 100; leave it out"}},
		"a target without resource": {"    target: {margin: 5}", []string{"p.yaml:3: policies.default.target: names neither cpu nor memory"}},
		"a target with its percent": {"    target: {cpu: 75%}", []string{`p.yaml:3: policies.default.target.cpu: "75%" is no whole number`}},
		"another way to be short":   {"    target: {cpu: 75, ifShort: all}", []string{`p.yaml:3: policies.default.target.ifShort: "all" is not one of partial, none`}},
		"a broken folder glob":      {"    protect:\n      folders:\n      - prod\n      - 'a['", []string{`p.yaml:6: policies.default.protect.folders: "a[" is no name pattern`}},
		"another action":            {"    criticality: {HIGH: {action: destroy}}", []string{`p.yaml:3: policies.default.criticality.HIGH.action: "destroy" is not one of powerOff, shutdownGuest, suspend`}},
		"budgets that are no list":  {"    budgets: {group: a}", []string{"p.yaml:3: policies.default.budgets: wants a list of budgets, not keys with values"}},
		"a budget that is text":     {"    budgets:\n    - half\n", []string{`p.yaml:4: policies.default.budgets[0]: wants keys with values, not "half"`, `p.yaml:4: policies.default.budgets[0]: is not of one kind`}},
		"an amount that is none":    {"    budgets:\n    - group: a\n      minAvailable: half", []string{`p.yaml:5: policies.default.budgets[0].minAvailable: "half" is neither a number of VMs`}},
		"a broken window":           {"    budgets:\n    - group: a\n      minAvailable: 1\n    - window: '0 8 * *'\n      duration: 1h", []string{`p.yaml:6: policies.default.budgets[1].window: "0 8 * *": it has 4 of 5 fields; write minute hour day month weekday`}},
		"an unknown time zone":      {"    budgets:\n    - window: '0 8 * * *'\n      duration: 1h\n      timeZone: Berlin", []string{`p.yaml:6: policies.default.budgets[0].timeZone: "Berlin" is no time zone; use a name such as Europe/Berlin`}},
		"a wave of none":            {"    restore: {enabled: true, wave: 0}", []string{"p.yaml:3: policies.default.restore.wave: 0 is not within 1 to 100"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseFile("p.yaml", []byte(policies+tc.text))
			wantProblems(t, err, tc.want)
		})
	}
}
