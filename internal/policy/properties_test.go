package policy_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// randomSite draws a snapshot, a demand and a policy that use every setting.
func randomSite(t *rapid.T) (vsphere.Snapshot, policy.Demand, policy.Policy) {
	draw := func(name string, low, high int) int { return rapid.IntRange(low, high).Draw(t, name) }
	s := short(int64(draw("shortCPU", -10, 300))*100, int64(draw("shortMemory", -10, 300))*1000)
	d := policy.Demand{Scope: clusterA, Now: now, Preempted: map[string]int{}}
	for i := range draw("n", 0, 14) {
		v := randomVM(t, i)
		v.CPUMHz, v.MemoryMB = int64(draw("cpu", 0, 80))*100, int64(draw("memory", 0, 80))*1000
		v.Host = s.Hosts[0].Ref
		switch draw("tag", 0, 9) {
		case 0:
			tagged(policy.CategoryProtect, rapid.SampledFrom([]string{policy.TagDoNotPreempt, "2h", "30m", "ten"}).Draw(t, "protect"))(&v)
		case 1, 2, 3:
			tagged(policy.CategoryPriority, rapid.SampledFrom([]string{"1", "50", "200", "ten"}).Draw(t, "priority"))(&v)
		case 4, 5, 6:
			tagged(policy.CategoryGroup, rapid.SampledFrom([]string{"web", "db"}).Draw(t, "group"))(&v)
		}
		if draw("earlier", 0, 3) == 0 {
			d.Preempted[v.Ref.String()] = draw("times", 1, 3)
			d.Evictions = append(d.Evictions, policy.Eviction{VM: v.Ref, Time: now.Add(-time.Duration(draw("ago", 1, 90)) * time.Minute)})
		}
		s.VMs = append(s.VMs, v)
	}
	p := aimed(func(p *policy.Policy) {
		p.MaxVMs = draw("max", 1, 14)
		if draw("aim", 0, 3) == 0 {
			p.Target = policy.Goal{}
		} else if draw("none", 0, 3) == 0 {
			p.Target.IfShort = policy.ShortNone
		}
		p.Protect.MaxPreemptionsPerDay = draw("often", 0, 3)
		p.Protect.MinRuntime = clock.Duration(time.Duration(draw("run", 0, 2)) * time.Hour)
		if draw("budget", 0, 1) == 0 {
			p.Budgets = append(p.Budgets, policy.Budget{Group: "*", MinAvailable: policy.Amount{N: draw("least", 1, 100), Percent: true}})
		}
		if draw("perHour", 0, 2) == 0 {
			p.Budgets = append(p.Budgets, policy.Budget{Scope: true, Max: policy.Amount{N: draw("most", 1, 8)}})
		}
	})
	return s, d, p
}

func TestAPlanHoldsWhateverTheRulesSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, d, p := randomSite(t)
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		plan := policy.Choose(s, d, p)
		if len(plan.Targets)+len(plan.Spared) != len(s.VMs) {
			t.Fatalf("%d chosen + %d spared != %d", len(plan.Targets), len(plan.Spared), len(s.VMs))
		}
		byRef := map[vsphere.Ref]vsphere.VM{}
		for _, v := range s.VMs {
			byRef[v.Ref] = v
		}
		total, up, gone := map[string]int{}, map[string]int{}, map[string]int{}
		for _, v := range s.VMs {
			for _, g := range v.Tags[policy.CategoryGroup] {
				if !v.Template {
					total[g]++
					if v.PowerState == vsphere.PoweredOn {
						up[g]++
					}
				}
			}
		}
		var freed policy.Resources
		for _, target := range plan.Targets {
			v := byRef[target.Ref]
			checkMayGo(t, v, d, p)
			freed.CPUMHz, freed.MemoryMB = freed.CPUMHz+v.CPUMHz, freed.MemoryMB+v.MemoryMB
			for _, g := range v.Tags[policy.CategoryGroup] {
				gone[g]++
			}
		}
		missing := func(less vsphere.VM) policy.Resources {
			return policy.Resources{
				CPUMHz:   max(0, plan.Shortfall.CPUMHz-freed.CPUMHz+less.CPUMHz),
				MemoryMB: max(0, plan.Shortfall.MemoryMB-freed.MemoryMB+less.MemoryMB),
			}
		}
		if p.Target.Set() {
			if without := missing(vsphere.VM{}); plan.Partial == (without == policy.Resources{}) {
				t.Fatalf("%+v are missing, and the plan says partial: %v", without, plan.Partial)
			}
			for _, target := range plan.Targets {
				if missing(byRef[target.Ref]) == missing(vsphere.VM{}) {
					t.Fatalf("%s goes in vain", target.Name)
				}
			}
			if plan.Partial && p.Target.IfShort == policy.ShortNone && len(plan.Targets) > 0 {
				t.Fatal("VMs go though all together cannot do")
			}
		}
		checkBudgets(t, d, p, plan, total, up, gone)
		checkOrderDoesNotMatter(t, s, d, p, plan)
		if spared := policy.RecheckAll(s, d, p, refsOf(plan)); len(spared) > 0 {
			t.Fatalf("just chosen, and already %+v", spared)
		}
	})
}

func refsOf(plan policy.Plan) (refs []vsphere.Ref) {
	for _, target := range plan.Targets {
		refs = append(refs, target.Ref)
	}
	return refs
}

func checkMayGo(t *rapid.T, v vsphere.VM, d policy.Demand, p policy.Policy) {
	for _, tag := range v.Tags[policy.CategoryProtect] {
		if until, err := time.ParseDuration(tag); err != nil || now.Sub(v.BootTime) < until {
			t.Fatalf("%s goes, protected by %q", v.Name, tag)
		}
	}
	if slices.Contains(v.Tags[policy.CategoryPriority], "ten") {
		t.Fatalf("%s goes with an unreadable priority", v.Name)
	}
	if now.Sub(v.BootTime) < p.Protect.MinRuntime.D() {
		t.Fatalf("%s goes within its minimum run time", v.Name)
	}
	if most := p.Protect.MaxPreemptionsPerDay; most > 0 && d.Preempted[v.Ref.String()] >= most {
		t.Fatalf("%s goes too often", v.Name)
	}
	if v.PowerState != vsphere.PoweredOn || !v.Tagged || v.Template || !v.Connected || v.Cluster != d.Scope {
		t.Fatalf("chose %+v", v)
	}
}

func checkBudgets(t *rapid.T, d policy.Demand, p policy.Policy, plan policy.Plan, total, up, gone map[string]int) {
	if len(plan.Targets) > p.MaxVMs {
		t.Fatalf("%d go, at most %d may", len(plan.Targets), p.MaxVMs)
	}
	for _, b := range p.Budgets {
		if b.Scope {
			n := len(plan.Targets)
			for _, e := range d.Evictions {
				if now.Sub(e.Time) < time.Hour {
					n++
				}
			}
			if len(plan.Targets) > 0 && n > b.Max.N {
				t.Fatalf("%d went within an hour, at most %d may", n, b.Max.N)
			}
			continue
		}
		for g, n := range gone {
			if (up[g]-n)*100 < total[g]*b.MinAvailable.N {
				t.Fatalf("%d of %d of group %s go, which has %d, and %s must stay up", n, up[g], g, total[g], b.MinAvailable)
			}
		}
	}
}

func checkOrderDoesNotMatter(t *rapid.T, s vsphere.Snapshot, d policy.Demand, p policy.Policy, plan policy.Plan) {
	s.VMs = rapid.Permutation(s.VMs).Draw(t, "order")
	again := policy.Choose(s, d, p)
	if fmt.Sprint(again) != fmt.Sprint(plan) {
		t.Fatalf("the order of the input matters:\n%+v\n%+v", plan, again)
	}
}
