package policy_test

import (
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func up(d time.Duration) func(*vsphere.VM) {
	return func(v *vsphere.VM) { v.BootTime = now.Add(-d) }
}

func in(folder, pool string) func(*vsphere.VM) {
	return func(v *vsphere.VM) { v.FolderPath, v.PoolPath = folder, pool }
}

func priority(p string) func(*vsphere.VM) { return tagged(policy.CategoryPriority, p) }
func group(g string) func(*vsphere.VM)    { return tagged(policy.CategoryGroup, g) }
func named(n string) func(*vsphere.VM)    { return func(v *vsphere.VM) { v.Name = n } }
func off(v *vsphere.VM)                   { v.PowerState = vsphere.PoweredOff }

func TestWhatTheOwnerAndThePolicyProtectStays(t *testing.T) {
	refs := func(n ...string) (refs []vsphere.Ref) {
		for _, value := range n {
			refs = append(refs, vsphere.Ref{Type: vsphere.TypeVM, Value: value})
		}
		return refs
	}
	cases := map[string]struct {
		vm     vsphere.VM
		policy func(*policy.Policy)
		demand policy.Demand
		groups map[string]vsphere.Group
		more   []vsphere.VM
		want   policy.Reason // empty: it goes
		detail string
	}{
		"its tag says do-not-preempt": {
			vm: vm(1, tagged(policy.CategoryProtect, "do-not-preempt")), want: policy.Protected, detail: "tag do-not-preempt",
		},
		"its tag protects it for longer than it has run": {
			vm: vm(1, tagged(policy.CategoryProtect, "4h"), up(90*time.Minute)), want: policy.Protected, detail: "protected for 4h after power-on: 1h30m passed",
		},
		"its tag protected it once": {vm: vm(1, tagged(policy.CategoryProtect, "4h"), up(5*time.Hour))},
		"of two protections the longer one holds": {
			vm: vm(1, tagged(policy.CategoryProtect, "1h", "4h"), up(2*time.Hour)), want: policy.Protected, detail: "protected for 4h after power-on: 2h passed",
		},
		"it is protected after power-on, whose time nobody knows": {
			vm: vm(1, tagged(policy.CategoryProtect, "4h"), func(v *vsphere.VM) { v.BootTime = time.Time{} }), want: policy.Protected,
			detail: "protected after power-on, whose time is unknown",
		},
		"its protection cannot be read": {
			vm: vm(1, tagged(policy.CategoryProtect, "a while")), want: policy.UnreadableTag,
			detail: `unreadable protection "a while": use do-not-preempt, or a duration such as 4h`,
		},
		"its priority cannot be read": {vm: vm(1, priority("ten")), want: policy.UnreadableTag, detail: `unreadable priority "ten": use a whole number`},
		"its priority is out of all bounds": {
			vm: vm(1, priority("99999999999")), want: policy.UnreadableTag, detail: `unreadable priority "99999999999": use a whole number`,
		},
		"it has two priorities": {
			vm: vm(1, tagged(policy.CategoryPriority, "1", "2")), want: policy.UnreadableTag,
			detail: "unreadable priority: 2 tags of preemption-priority, of which one is allowed",
		},
		"a negative priority is a priority": {vm: vm(1, priority("-5"))},
		"it has not run for long enough": {
			vm: vm(1, up(12*time.Minute+40*time.Second)), policy: func(p *policy.Policy) { p.Protect.MinRuntime = clock.Duration(time.Hour) },
			want: policy.MinRuntime, detail: "within its minimum run time: 12m of 1h",
		},
		"it has just run for long enough": {
			vm: vm(1, up(time.Hour)), policy: func(p *policy.Policy) { p.Protect.MinRuntime = clock.Duration(time.Hour) },
		},
		"nobody knows how long it has run": {
			vm:     vm(1, func(v *vsphere.VM) { v.BootTime = time.Time{} }),
			policy: func(p *policy.Policy) { p.Protect.MinRuntime = clock.Duration(time.Hour) },
			want:   policy.MinRuntime, detail: "its time of power-on is unknown",
		},
		"it was preempted often enough today": {
			vm: vm(1), policy: func(p *policy.Policy) { p.Protect.MaxPreemptionsPerDay = 2 }, demand: policy.Demand{Preempted: map[string]int{"VirtualMachine:vm-1": 2}},
			want: policy.PreemptedOften, detail: "preempted twice in the last 24 h, at most 2",
		},
		"it may be preempted once more today": {
			vm: vm(1), policy: func(p *policy.Policy) { p.Protect.MaxPreemptionsPerDay = 3 }, demand: policy.Demand{Preempted: map[string]int{"VirtualMachine:vm-1": 2}},
		},
		"its name is excluded": {
			vm: vm(1, named("db-main")), policy: func(p *policy.Policy) { p.Protect.Names = []string{"web-*", "db-*"} }, want: policy.ExcludedName, detail: "name db-*",
		},
		"letter case does not decide whether its name is excluded": {
			vm: vm(1, named("DB-Main")), policy: func(p *policy.Policy) { p.Protect.Names = []string{"db-*"} }, want: policy.ExcludedName, detail: "name db-*",
		},
		"letter case of the pattern neither": {
			vm: vm(1, named("db-01")), policy: func(p *policy.Policy) { p.Protect.Names = []string{"DB-[0-9][0-9]"} }, want: policy.ExcludedName, detail: "name DB-[0-9][0-9]",
		},
		"nor that of letters beyond ASCII": {
			vm: vm(1, named("ÄRZTE-1")), policy: func(p *policy.Policy) { p.Protect.Names = []string{"ärzte-?"} }, want: policy.ExcludedName, detail: "name ärzte-?",
		},
		"a class of letters keeps its own meaning besides": {
			vm: vm(1, named("db_1")), policy: func(p *policy.Policy) { p.Protect.Names = []string{"db[A-z]1"} }, want: policy.ExcludedName, detail: "name db[A-z]1",
		},
		"letter case does not decide about neverTouch": {
			vm: vm(1, named("VC-01")), policy: func(p *policy.Policy) { p.NeverTouch = []string{"vc-*"} }, want: policy.Infrastructure,
		},
		"letter case does not decide about vCLS": {vm: vm(1, named("vcls-1")), want: policy.Infrastructure},
		"letter case does not decide about a folder": {
			vm: vm(1, in("/DC-1/vm/Prod/web", "")), policy: func(p *policy.Policy) { p.Protect.Folders = []string{"/dc-1/vm/prod"} },
			want: policy.ExcludedFolder, detail: "folder /dc-1/vm/prod",
		},
		"letter case does not decide about a resource pool": {
			vm: vm(1, in("", "/dc-1/host/cluster-a/Resources/Gold")), policy: func(p *policy.Policy) { p.Protect.ResourcePools = []string{"gold"} },
			want: policy.ExcludedPool, detail: "resource pool gold",
		},
		"letter case does not decide about a group": {
			vm: vm(1, group("Web")), policy: func(p *policy.Policy) {
				p.Budgets = []policy.Budget{{Group: "web", MinAvailable: policy.Amount{N: 1}}}
			},
			want: policy.GroupBudget, detail: "group Web: 1 of 1 must stay up, 1 are up",
		},
		"letter case does not decide about its tag": {
			vm: vm(1, tagged(policy.CategoryProtect, "Do-Not-Preempt")), want: policy.Protected, detail: "tag Do-Not-Preempt",
		},
		"a folder above it is excluded by name": {
			vm: vm(1, in("/dc-1/vm/prod/web", "")), policy: func(p *policy.Policy) { p.Protect.Folders = []string{"prod"} }, want: policy.ExcludedFolder, detail: "folder prod",
		},
		"its folder is excluded by path": {
			vm: vm(1, in("/dc-1/vm/prod/web", "")), policy: func(p *policy.Policy) { p.Protect.Folders = []string{"/dc-1/vm/prod/"} },
			want: policy.ExcludedFolder, detail: "folder /dc-1/vm/prod/",
		},
		"a folder of the same name elsewhere is not meant by a path": {
			vm: vm(1, in("/dc-2/vm/prod/web", "")), policy: func(p *policy.Policy) { p.Protect.Folders = []string{"/dc-1/vm/prod"} },
		},
		"its resource pool is excluded by a glob": {
			vm: vm(1, in("", "/dc-1/host/cluster-a/Resources/gold-1")), policy: func(p *policy.Policy) { p.Protect.ResourcePools = []string{"gold-*"} },
			want: policy.ExcludedPool, detail: "resource pool gold-*",
		},
		"a slash in its name is a letter like any other": {
			vm: vm(1, named("db-a/b")), policy: func(p *policy.Policy) { p.Protect.Names = []string{"web", "db-?/b"} }, want: policy.ExcludedName, detail: "name db-?/b",
		},
		"a group with a slash in its name is one of all groups": {
			vm: vm(1, group("shop/web")), policy: func(p *policy.Policy) {
				p.Budgets = []policy.Budget{{Group: "*", MinAvailable: policy.Amount{N: 1}}}
			},
			want: policy.GroupBudget, detail: "group shop/web: 1 of 1 must stay up, 1 are up",
		},
		"its folder is not known": {vm: vm(1), policy: func(p *policy.Policy) { p.Protect.Folders = []string{"prod"} }},
		"three of six must stay up, and three are": {
			vm: vm(1, group("web")), policy: func(p *policy.Policy) {
				p.Budgets = []policy.Budget{{Group: "*", MinAvailable: policy.Amount{N: 50, Percent: true}}}
			},
			groups: map[string]vsphere.Group{"web": {Total: 6, Up: refs("vm-1", "vm-2", "vm-3")}},
			want:   policy.GroupBudget, detail: "group web: 3 of 6 must stay up, 3 are up",
		},
		"a member that another round has is as good as down": {
			vm: vm(1, group("web")), policy: func(p *policy.Policy) {
				p.Budgets = []policy.Budget{{Group: "w*", MinAvailable: policy.Amount{N: 3}}}
			},
			groups: map[string]vsphere.Group{"web": {Total: 6, Up: refs("vm-1", "vm-2", "vm-3", "vm-4")}}, demand: policy.Demand{Reserved: refs("vm-4")},
			want: policy.GroupBudget, detail: "group web: 3 of 6 must stay up, 3 are up",
		},
		"one of four may go, and members that are no candidates count": {
			vm: vm(1, group("web")), policy: func(p *policy.Policy) {
				p.Budgets = []policy.Budget{{Group: "*", MinAvailable: policy.Amount{N: 3}}}
			},
			groups: map[string]vsphere.Group{"web": {Total: 4, Up: refs("vm-1", "vm-2", "vm-3", "vm-4")}},
		},
		"half of three is two": {
			vm: vm(1, group("web")), more: []vsphere.VM{vm(2, group("web")), vm(3, group("web"), off)}, policy: func(p *policy.Policy) {
				p.Budgets = []policy.Budget{{Group: "*", MinAvailable: policy.Amount{N: 50, Percent: true}}}
			},
			want: policy.GroupBudget, detail: "group web: 2 of 3 must stay up, 2 are up",
		},
		"of two budgets the more restrictive one is named": {
			vm: vm(1, group("web")), policy: func(p *policy.Policy) {
				p.Budgets = []policy.Budget{
					{Group: "*", MinAvailable: policy.Amount{N: 1}}, {Group: "web", MinAvailable: policy.Amount{N: 100, Percent: true}},
				}
			},
			groups: map[string]vsphere.Group{"web": {Total: 2, Up: refs("vm-1", "vm-2")}},
			want:   policy.GroupBudget, detail: "group web: 2 of 2 must stay up, 2 are up",
		},
		"a budget of another group is none of its business": {
			vm: vm(1, group("web")), policy: func(p *policy.Policy) {
				p.Budgets = []policy.Budget{{Group: "db*", MinAvailable: policy.Amount{N: 9}}}
			},
		},
		"so many went from the scope within the hour": {
			vm: vm(1), policy: func(p *policy.Policy) { p.Budgets = []policy.Budget{{Scope: true, Max: policy.Amount{N: 2}}} },
			demand: policy.Demand{Evictions: []policy.Eviction{{VM: refs("vm-8")[0], Time: now.Add(-time.Minute)}, {VM: refs("vm-9")[0], Time: now.Add(-59 * time.Minute)}}},
			want:   policy.ScopeBudget, detail: "at most 2 per 1h: 2 went",
		},
		"what went longer ago does not count": {
			vm: vm(1), policy: func(p *policy.Policy) {
				p.Budgets = []policy.Budget{{Scope: true, Max: policy.Amount{N: 1}, Per: clock.Duration(30 * time.Minute)}}
			},
			demand: policy.Demand{Evictions: []policy.Eviction{{VM: refs("vm-8")[0], Time: now.Add(-30 * time.Minute)}}},
		},
		"a fifth of four is none": {
			vm: vm(1), more: []vsphere.VM{vm(2), vm(3)}, policy: func(p *policy.Policy) {
				p.Budgets = []policy.Budget{{Scope: true, Max: policy.Amount{N: 20, Percent: true}}}
			},
			demand: policy.Demand{Evictions: []policy.Eviction{{VM: refs("vm-9")[0], Time: now.Add(-time.Minute)}}},
			want:   policy.ScopeBudget, detail: "at most 20% of 4 candidates per 1h: 1 went",
		},
		"nobody goes in a blackout window": { // now is Sunday 03:00 UTC, 04:00 in Berlin
			vm: vm(1), policy: func(p *policy.Policy) {
				p.Budgets = []policy.Budget{{Window: "30 3 * * SUN", Duration: clock.Duration(time.Hour), TimeZone: "Europe/Berlin"}}
			},
			want: policy.Blackout, detail: "window 30 3 * * SUN for 1h, until 2026-11-22 04:30 CET",
		},
		"the window is over": {
			vm: vm(1), policy: func(p *policy.Policy) {
				p.Budgets = []policy.Budget{{Window: "0 3 * * *", Duration: clock.Duration(time.Hour), TimeZone: "Europe/Berlin"}}
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			p := policy.Default()
			if tc.policy != nil {
				tc.policy(&p)
			}
			if err := p.Validate(); err != nil {
				t.Fatal(err)
			}
			s := vsphere.Snapshot{Time: now, VMs: append([]vsphere.VM{tc.vm}, tc.more...), Groups: tc.groups}
			check := func(when string, spared []policy.Spared) {
				var got policy.Spared
				for _, sp := range spared {
					if sp.Ref == tc.vm.Ref {
						got = sp
					}
				}
				if got.Reason != tc.want || got.Detail != tc.detail {
					t.Errorf("%s: got %q %q, want %q %q", when, got.Reason, got.Detail, tc.want, tc.detail)
				}
			}
			check("choosing", policy.Choose(s, tc.demand, p).Spared)
			check("just before acting", policy.RecheckAll(s, tc.demand, p, []vsphere.Ref{tc.vm.Ref}))
		})
	}
}

func TestRecheckAllCountsTheTargetsAgainstEachOther(t *testing.T) {
	p := policy.Default()
	p.Budgets = []policy.Budget{{Group: "*", MinAvailable: policy.Amount{N: 1}}, {Scope: true, Max: policy.Amount{N: 2}}}
	s := vsphere.Snapshot{Time: now, VMs: []vsphere.VM{
		vm(1, group("web")), vm(2, group("web")), vm(3), vm(4), vm(5, off), vm(6, func(v *vsphere.VM) { v.Tagged = false }),
		vm(7, named("vCLS-1")),
	}}
	var targets []vsphere.Ref
	for _, v := range s.VMs {
		targets = append(targets, v.Ref)
	}
	targets = append(targets, vsphere.Ref{Type: vsphere.TypeVM, Value: "vm-99"})
	got := map[string]policy.Reason{}
	for _, sp := range policy.RecheckAll(s, policy.Demand{Reserved: targets}, p, targets) {
		got[sp.Ref.Value] = sp.Reason
	}
	want := map[string]policy.Reason{
		"vm-2": policy.GroupBudget, "vm-4": policy.ScopeBudget, "vm-6": policy.NotTagged, "vm-7": policy.Infrastructure, "vm-99": policy.Gone,
	}
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for ref, reason := range want {
		if got[ref] != reason {
			t.Errorf("%s: %q, want %q", ref, got[ref], reason)
		}
	}
}

func TestEveryNewReasonHasWords(t *testing.T) {
	for _, r := range []policy.Reason{
		policy.Protected, policy.UnreadableTag, policy.MinRuntime, policy.PreemptedOften, policy.ExcludedFolder, policy.ExcludedPool,
		policy.ExcludedName, policy.Blackout, policy.GroupBudget, policy.ScopeBudget, policy.NotNeeded, policy.CannotCover, policy.NotMeasured,
	} {
		if r.Explain() == string(r) {
			t.Errorf("%s has no words", r)
		}
	}
}
