package policy_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

func TestValidateNamesTheImpossibleSetting(t *testing.T) {
	budget := func(b policy.Budget) func(*policy.Policy) {
		return func(p *policy.Policy) {
			p.Budgets = []policy.Budget{{Group: "a", MinAvailable: policy.Amount{N: 1}}, b}
		}
	}
	minute := clock.Duration(time.Minute)
	cases := map[string]struct {
		spoil func(*policy.Policy)
		want  string
	}{
		"a target of nothing":              {func(p *policy.Policy) { p.Target = policy.DefaultGoal() }, "target: names neither cpu nor memory"},
		"a target above all":               {func(p *policy.Policy) { p.Target = policy.Goal{CPU: 101} }, "target.cpu: 101 is not within 1 to 100"},
		"a negative target":                {func(p *policy.Policy) { p.Target = policy.Goal{CPU: 50, Memory: -1} }, "target.memory: -1 is not within 1 to 100"},
		"a margin that leaves nothing":     {func(p *policy.Policy) { p.Target = policy.Goal{Memory: 10, Margin: 10} }, "target.margin: 10 leaves nothing of the 10 percent of memory"},
		"a negative margin":                {func(p *policy.Policy) { p.Target = policy.Goal{CPU: 50, Margin: -1} }, "target.margin: -1 is not within 0 to 99"},
		"another way of being short":       {func(p *policy.Policy) { p.Target = policy.Goal{CPU: 50, IfShort: "all"} }, `target.ifShort: "all" is not one of partial, none`},
		"a priority out of bounds":         {func(p *policy.Policy) { n := 2_000_000; p.Order.DefaultPriority = &n }, "order.defaultPriority: 2000000 is not within -1000000 to 1000000"},
		"a negative run time":              {func(p *policy.Policy) { p.Protect.MinRuntime = -1 }, "protect.minRuntime: -1ns is not within 0s to 8760h"},
		"a negative number of preemptions": {func(p *policy.Policy) { p.Protect.MaxPreemptionsPerDay = -1 }, "protect.maxPreemptionsPerDay: -1 is not within 0 to 1000"},
		"a broken glob":                    {func(p *policy.Policy) { p.Protect.Folders = []string{"a["} }, `protect.folders: "a[" is no name pattern`},
		"a path that begins nowhere":       {func(p *policy.Policy) { p.Protect.Folders = []string{"prod/web"} }, `protect.folders: "prod/web" is neither a name nor an inventory path; begin a path with /`},
		"a notice of a week":               {func(p *policy.Policy) { p.Criticality.Low.Notice = clock.Duration(168 * time.Hour) }, "criticality.LOW.notice: 168h0m0s is not within 0s to 24h"},
		"a wave of none":                   {func(p *policy.Policy) { p.Restore = policy.Restore{Enabled: true, GiveUp: minute} }, "restore.wave: 0 is not within 1 to 100"},
		"a budget of no kind":              {budget(policy.Budget{}), "budgets[1]: is not of one kind; write {group, minAvailable}, {scope: true, max, per} or {window, duration, timeZone}"},
		"a budget of two kinds":            {budget(policy.Budget{Group: "a", Scope: true}), "budgets[1]: is not of one kind"},
		"a group without minimum":          {budget(policy.Budget{Group: "a"}), "budgets[1].minAvailable: 0 is not within 1 to 10000 or 1% to 100%"},
		"more than all":                    {budget(policy.Budget{Group: "a", MinAvailable: policy.Amount{N: 101, Percent: true}}), "budgets[1].minAvailable: 101% is not within"},
		"a group with a window's keys":     {budget(policy.Budget{Group: "a", MinAvailable: policy.Amount{N: 1}, Duration: minute}), "budgets[1]: has duration and timeZone, which a group budget does not take"},
		"a scope without maximum":          {budget(policy.Budget{Scope: true}), "budgets[1].max: 0 is not within 1 to 10000"},
		"a scope per second":               {budget(policy.Budget{Scope: true, Max: policy.Amount{N: 1}, Per: 1}), "budgets[1].per: 1ns is not within 1m to 24h"},
		"a scope with a group's keys":      {budget(policy.Budget{Scope: true, Max: policy.Amount{N: 1}, MinAvailable: policy.Amount{N: 1}}), "budgets[1]: has minAvailable, which a scope budget"},
		"a window without end":             {budget(policy.Budget{Window: "0 8 * * *"}), "budgets[1].duration: 0s is not within 1m to 168h"},
		"a window that never begins":       {budget(policy.Budget{Window: "0 25 * * *", Duration: minute}), `budgets[1].window: "0 25 * * *": "25" is no hour; it is 0 to 23`},
		"an unknown time zone":             {budget(policy.Budget{Window: "0 8 * * *", Duration: minute, TimeZone: "Middle/Earth"}), `budgets[1].timeZone: "Middle/Earth" is no time zone`},
		"the machine's own time zone":      {budget(policy.Budget{Window: "0 8 * * *", Duration: minute, TimeZone: "Local"}), `budgets[1].timeZone: "Local" is no time zone`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			p := policy.Default()
			tc.spoil(&p)
			if err := p.Validate(); err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

func TestTheHashOfAPolicyWithoutNewSettingsStays(t *testing.T) {
	const recorded = "106feece6b48" // of the defaults before there were targets, protection and budgets
	spelled := policy.Default().Explicit()
	spelled.Protect.Names = []string{}
	for name, p := range map[string]policy.Policy{"the defaults": policy.Default(), "the defaults spelled out": spelled} {
		if got := p.Hash(); got != recorded {
			t.Errorf("%s have the hash %s, want %s", name, got, recorded)
		}
	}
	hashes := map[string]string{recorded: "the defaults"}
	for name, change := range map[string]func(*policy.Policy){
		"a target":      func(p *policy.Policy) { p.Target = policy.Goal{CPU: 75} },
		"none if short": func(p *policy.Policy) { p.Target = policy.Goal{CPU: 75, IfShort: policy.ShortNone} },
		"an order":      func(p *policy.Policy) { n := 0; p.Order.DefaultPriority = &n },
		"protection":    func(p *policy.Policy) { p.Protect.Names = []string{"a"} },
		"a budget":      func(p *policy.Policy) { p.Budgets = []policy.Budget{{Scope: true, Max: policy.Amount{N: 1}}} },
		"a percentage": func(p *policy.Policy) {
			p.Budgets = []policy.Budget{{Scope: true, Max: policy.Amount{N: 1, Percent: true}}}
		},
		"a restore": func(p *policy.Policy) { p.Restore = policy.DefaultRestore(); p.Restore.Enabled = true },
		"a notice":  func(p *policy.Policy) { p.Criticality.High.Notice = clock.Duration(time.Minute) },
	} {
		p := policy.Default()
		change(&p)
		if other, ok := hashes[p.Hash()]; ok {
			t.Errorf("%s and %s have the same hash", name, other)
		}
		hashes[p.Hash()] = name
	}
}

func TestWhatWasRecordedBeforeDecodesToTheSame(t *testing.T) {
	var p policy.Policy
	recorded := `{"mode":"act","scope":"cluster","maxVMs":10,"cooldown":"1m0s","grayTimeout":"5m0s","repeatWhileRed":true,"criticality":{"HIGH":{"action":"powerOff"},` +
		`"MEDIUM":{"action":"shutdownGuest","gracePeriod":"5m0s","thenForce":true},"LOW":{"action":"shutdownGuest","gracePeriod":"5m0s"}},` +
		`"neverTouch":null,"withdrawWait":"1m0s","lateWatch":"1h0m0s","powerOffTimeout":"10m0s"}`
	if err := json.Unmarshal([]byte(recorded), &p); err != nil {
		t.Fatal(err)
	}
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	if b, err := json.Marshal(policy.Default()); err != nil || string(b) != recorded {
		t.Errorf("the defaults are written %s, %v", b, err)
	}
	var plan policy.Plan
	if err := json.Unmarshal([]byte(`{"targets":[{"ref":{"Type":"VirtualMachine","Value":"vm-1"},"name":"a","toolsRunning":true,"cpuMHz":1,"memoryMB":2}],"spared":[]}`), &plan); err != nil {
		t.Error(err)
	}
	everything := policy.Default().Explicit()
	everything.Target = policy.Goal{CPU: 75, Memory: 80, Margin: 5, IfShort: policy.ShortNone}
	everything.Protect = policy.Protect{MinRuntime: clock.Duration(time.Hour), Names: []string{"a"}}
	everything.Budgets = []policy.Budget{{Group: "*", MinAvailable: policy.Amount{N: 50, Percent: true}}, {Scope: true, Max: policy.Amount{N: 3}}}
	b, err := json.Marshal(everything)
	if err != nil {
		t.Fatal(err)
	}
	var back policy.Policy
	if err := json.Unmarshal(b, &back); err != nil || back.Hash() != everything.Hash() {
		t.Errorf("%s reads as %+v, %v", b, back, err)
	}
}

func TestAnAmountIsANumberOrAPercentage(t *testing.T) {
	for text, want := range map[string]policy.Amount{`3`: {N: 3}, `"3"`: {N: 3}, `"50%"`: {N: 50, Percent: true}} {
		var a policy.Amount
		if err := json.Unmarshal([]byte(text), &a); err != nil || a != want {
			t.Errorf("%s reads as %v, %v", text, a, err)
		}
	}
	for _, bad := range []string{`"half"`, `0.5`, `"50 %"`, `"%"`, `""`, `null`} {
		var a policy.Amount
		if err := json.Unmarshal([]byte(bad), &a); err == nil {
			t.Errorf("%s reads as %v", bad, a)
		}
	}
}

// FuzzRules takes any policy that is possible, and chooses by it.
func FuzzRules(f *testing.F) {
	for _, seed := range []string{
		`{"maxVMs":3,"target":{"cpu":75,"memory":80,"margin":5,"ifShort":"none"},"order":{"defaultPriority":-3}}`,
		`{"maxVMs":9,"protect":{"minRuntime":"1h","maxPreemptionsPerDay":1,"folders":["/dc/*"],"names":["db-*"]}}`,
		`{"maxVMs":1000,"budgets":[{"group":"*","minAvailable":"50%"},{"scope":true,"max":3,"per":"2h"},{"window":"*/5 1-3,5 1 JAN MON-FRI/2","duration":"10h","timeZone":"Europe/Berlin"}]}`,
	} {
		f.Add([]byte(seed), int64(5000), int64(20_000))
	}
	f.Fuzz(func(t *testing.T, rules []byte, cpu, memory int64) {
		p := policy.Default()
		if json.Unmarshal(rules, &p) != nil || p.Validate() != nil {
			return
		}
		s := short(cpu%100_000, memory%1_000_000)
		for i := range 12 {
			s.VMs = append(s.VMs, vm(i, uses(int64(i%5)*1000, int64(i%7)*2000), group([]string{"web", "db"}[i%2]), priority([]string{"1", "2", "x"}[i%3]),
				in("/dc/vm/a", "/dc/host/c/Resources")))
		}
		plan := policy.Choose(s, policy.Demand{Scope: clusterA, Now: now}, p)
		if len(plan.Targets)+len(plan.Spared) != len(s.VMs) || len(plan.Targets) > p.MaxVMs {
			t.Fatalf("%d go and %d stay of %d, at most %d may go", len(plan.Targets), len(plan.Spared), len(s.VMs), p.MaxVMs)
		}
		if spared := policy.RecheckAll(s, policy.Demand{Scope: clusterA, Now: now}, p, refsOf(plan)); len(spared) > 0 {
			t.Fatalf("just chosen, and already %+v", spared)
		}
		for _, sp := range plan.Spared {
			if sp.Reason.Explain() == string(sp.Reason) {
				t.Fatalf("%q has no words", sp.Reason)
			}
		}
	})
}
