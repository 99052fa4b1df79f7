package e2e

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// target is a utilisation to come down to.
func target(cpu int) siteOption {
	return withPolicy(func(p *policy.Policy) { p.Target = policy.Goal{CPU: cpu, Margin: 1, IfShort: policy.ShortPartial} })
}

func TestTheFewestVMsGoThatBringTheClusterBelowItsTarget(t *testing.T) {
	t.Parallel()
	s := newSite(t, target(75))
	s.must(s.vc.SetClusterUsage("cluster-a", 92, 50))
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.done("alarm")
	s.agree(r)
	cpu, _ := s.vc.Usage("cluster-a")
	n := len(r.Preempted())
	if cpu >= 75 || n == 0 || n == 6 {
		t.Errorf("%d VMs went, and the cluster is at %.1f %%", n, cpu)
	}
	if len(r.Usage) == 0 || r.Usage[0].CPU.Used == 0 || r.Shortfall.CPUMHz == 0 || r.Partial {
		t.Errorf("usage %+v, shortfall %+v, partial %v", r.Usage, r.Shortfall, r.Partial)
	}
	spared := 0
	for _, sp := range r.Spared {
		if sp.Reason == policy.NotNeeded {
			spared++
		}
	}
	if spared != 6-n {
		t.Errorf("%d candidates are not needed, want %d: %s", spared, 6-n, pretty(r))
	}
}

func TestAProtectedVMStaysAndAGroupKeepsItsMinimum(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) {
		half, err := policy.ParseAmount("50%")
		if err != nil {
			t.Fatal(err)
		}
		p.Budgets = []policy.Budget{{Group: "*", MinAvailable: half}}
	}))
	vms := s.vc.TaggedVMs("cluster-a")
	s.must(s.vc.SetTags(vms[0].Ref, policy.CategoryProtect, policy.TagDoNotPreempt))
	s.must(s.vc.SetTags(vms[1].Ref, policy.CategoryProtect, "perhaps"))
	for _, vm := range vms[2:6] {
		s.must(s.vc.SetTags(vm.Ref, policy.CategoryGroup, "web"))
	}
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.done("alarm")
	wantState(t, r, preemptapi.RoundCompleted, 2)
	s.agree(r)
	reasons := map[string]policy.Reason{}
	for _, sp := range r.Spared {
		reasons[sp.Name] = sp.Reason
	}
	if reasons[vms[0].Name] != policy.Protected || reasons[vms[1].Name] != policy.UnreadableTag {
		t.Errorf("spared: %v", reasons)
	}
	held := 0
	for _, vm := range vms[2:6] {
		if reasons[vm.Name] == policy.GroupBudget {
			held++
		}
	}
	if held != 2 {
		t.Errorf("%d of the group are held back, want 2: %v", held, reasons)
	}
}

func TestATagThatProtectsCountsUntilTheLastMoment(t *testing.T) {
	t.Parallel()
	s := newSite(t, notice(1500*time.Millisecond))
	s.worker()
	vm := s.vc.TaggedVMs("cluster-a")[0]
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	id := s.started("alarm")
	s.eventually("the notice runs", func() bool { return s.under(id).State == preemptapi.RoundNotified && s.guest(vm) != "" })
	s.must(s.vc.SetTags(vm.Ref, policy.CategoryProtect, policy.TagDoNotPreempt))
	r := s.round(id)
	wantState(t, r, preemptapi.RoundCompleted, 5)
	s.agree(r)
	wantNotice(t, r, vm.Name, "withdrawn")
}

// firstChosen is the first target of a dry run.
func (s *site) firstChosen(cluster string) types.ManagedObjectReference {
	s.t.Helper()
	run, err := s.c.ExecuteWorkflow(s.t.Context(), client.StartWorkflowOptions{TaskQueue: s.queue}, preemptapi.PlanType,
		s.alarmRequest(cluster, preemption.CriticalityHigh))
	if err != nil {
		s.t.Fatal(err)
	}
	var r preemptapi.RoundResult
	if err := run.Get(s.t.Context(), &r); err != nil {
		s.t.Fatal(err)
	}
	return types.ManagedObjectReference{Type: r.Targets[0].Ref.Type, Value: r.Targets[0].Ref.Value}
}

func TestATargetThatCannotGoIsReplacedWhileTheShortfallRemains(t *testing.T) {
	t.Parallel()
	s := newSite(t, target(88))
	s.must(s.vc.SetClusterUsage("cluster-a", 92, 50))
	s.worker()
	// Whoever is first to go cannot: its power-off fails for good.
	first := s.firstChosen("cluster-a")
	s.vc.FailCall("PowerOffVM_Task", &first, &types.NoPermission{}, -1)
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.done("alarm")
	cpu, _ := s.vc.Usage("cluster-a")
	if r.State != preemptapi.RoundPartial || len(r.Preempted()) == 0 || cpu >= 88 {
		t.Errorf("%s with %d VMs, the cluster is at %.1f %%: %s", r.State, len(r.Preempted()), cpu, pretty(r))
	}
	s.agree(r)
}

func TestASuspendedVMIsAnnotatedAndReportedAsSuch(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(3), withPolicy(func(p *policy.Policy) { p.Criticality.High.Action = action.Suspend }))
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.done("alarm")
	wantState(t, r, preemptapi.RoundCompleted, 3)
	for _, vm := range s.vc.TaggedVMs("") {
		wantOutcome(t, r, vm, action.Suspended)
		if a, ok := s.attribute(vm.Ref); !ok || a.ForcedShutdown || s.vc.PowerState(vm.Ref) != types.VirtualMachinePowerStateSuspended {
			t.Errorf("%s: %+v, %s", vm.Name, a, s.vc.PowerState(vm.Ref))
		}
	}
}

func TestOneNamedVMIsEvictedAndAnUntaggedOneIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.worker()
	vm := s.vc.TaggedVMs("cluster-a")[2]
	req := person(preemption.CriticalityHigh)
	req.VM = vm.Name
	s.signal("one", req)
	r := s.done("one")
	wantState(t, r, preemptapi.RoundCompleted, 1)
	s.agree(r)
	if s.vc.PowerState(vm.Ref) != types.VirtualMachinePowerStatePoweredOff {
		t.Error("it is on")
	}
	req = person(preemption.CriticalityHigh)
	req.VM = "cluster-a-app-01"
	s.signal("other", req)
	r = s.done("other")
	if r.State != preemptapi.RoundFailed || !strings.Contains(r.Reason, "does not carry the tag") {
		t.Errorf("%s: %s", r.State, r.Reason)
	}
}

func TestInObserveModeEverythingIsDecidedAndNothingTouched(t *testing.T) {
	t.Parallel()
	s := newSite(t, withSettings(func(set *preempt.Settings) { set.Observe = true }))
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.done("alarm")
	if r.State != preemptapi.RoundObserved || len(r.Targets) != 6 || s.off("cluster-a") != 0 {
		t.Errorf("%s, %d targets, %d off", r.State, len(r.Targets), s.off("cluster-a"))
	}
}

func TestTwoAlarmsAndAPersonAtOneInstantKeepLimitsAndBudgets(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(12), withPolicy(func(p *policy.Policy) {
		most, err := policy.ParseAmount("5")
		if err != nil {
			t.Fatal(err)
		}
		p.Cooldown, p.MaxVMs = 0, 3
		p.Budgets = []policy.Budget{{Scope: true, Max: most, Per: clock.Duration(time.Hour)}}
	}))
	s.worker()
	s.worker()
	ids := []string{"one", "two", "cli"}
	reqs := []preemption.WorkflowRequest{s.alarmRequest("cluster-a", preemption.CriticalityHigh), s.alarmRequest("cluster-a", preemption.CriticalityHigh), person(preemption.CriticalityHigh)}
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() { s.signal(id, reqs[i]) })
	}
	wg.Wait()
	s.eventually("all requests were decided and nothing waits", func() bool {
		for _, id := range ids {
			if r := s.state(id); r.LastDecision == nil || r.State == "running" || len(r.Deferred) > 0 {
				return false
			}
		}
		return true
	})
	var results []preemptapi.RoundResult
	for _, id := range s.rounds() {
		r := s.round(id)
		if n := len(r.Preempted()); n > 3 {
			t.Errorf("round %s took %d VMs", id, n)
		}
		results = append(results, r)
	}
	s.agree(results...)
	if off := s.off(""); off == 0 || off > 5 {
		t.Errorf("%d VMs are off, the budget is 5: %s", off, pretty(results))
	}
}

func TestWhatHoldsAPolicyBackHoldsInTheField(t *testing.T) {
	t.Parallel()
	names := func(vms []simulation.VM) (out []string) {
		for _, vm := range vms {
			out = append(out, vm.Name)
		}
		return out
	}
	for name, tc := range map[string]struct {
		set    func(*policy.Policy)
		tags   func(*site, []simulation.VM)
		off    int           // of four
		reason policy.Reason // of the others
	}{
		"a minimum run time": {set: func(p *policy.Policy) { p.Protect.MinRuntime = clock.Duration(24 * time.Hour) }, reason: policy.MinRuntime},
		"excluded names":     {set: func(p *policy.Policy) { p.Protect.Names = []string{"*-batch-01"} }, off: 3, reason: policy.ExcludedName},
		"an excluded folder": {set: func(p *policy.Policy) { p.Protect.Folders = []string{"vm"} }, reason: policy.ExcludedFolder},
		"an excluded pool":   {set: func(p *policy.Policy) { p.Protect.ResourcePools = []string{"Resources"} }, reason: policy.ExcludedPool},
		"a blackout window": {set: func(p *policy.Policy) {
			p.Budgets = []policy.Budget{{Window: "0 0 * * *", Duration: clock.Duration(24 * time.Hour), TimeZone: "Europe/Berlin"}}
		}, reason: policy.Blackout},
		"a scope budget": {set: func(p *policy.Policy) {
			p.Budgets = []policy.Budget{{Scope: true, Max: policy.Amount{N: 50, Percent: true}, Per: clock.Duration(time.Hour)}}
		}, off: 2, reason: policy.ScopeBudget},
		"nothing rather than a part": {set: func(p *policy.Policy) {
			p.Target = policy.Goal{CPU: 1, IfShort: policy.ShortNone}
		}, reason: policy.CannotCover},
		"priorities, lower first": {set: func(p *policy.Policy) { p.MaxVMs = 1 }, tags: func(s *site, vms []simulation.VM) {
			s.must(s.vc.SetTags(vms[0].Ref, policy.CategoryPriority, "200"))
			s.must(s.vc.SetTags(vms[2].Ref, policy.CategoryPriority, "-5"))
		}, off: 1, reason: policy.OverLimit},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, oneCluster(4), withPolicy(tc.set))
			s.must(s.vc.SetClusterUsage("cluster-a", 90, 50))
			vms := s.vc.TaggedVMs("")
			if tc.tags != nil {
				tc.tags(s, vms)
			}
			s.worker()
			s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
			r := s.done("alarm")
			s.agree(r)
			if n := len(r.Preempted()); n != tc.off {
				t.Errorf("%d VMs of %v are off, want %d: %s", n, names(vms), tc.off, pretty(r))
			}
			for _, sp := range r.Spared {
				if sp.Reason != tc.reason {
					t.Errorf("%s stays for %s (%s), want %s", sp.Name, sp.Reason, sp.Detail, tc.reason)
				}
			}
			if tc.tags != nil && r.Targets[0].Name != vms[2].Name {
				t.Errorf("%s went first, want the lowest priority", r.Targets[0].Name)
			}
		})
	}
}

func TestAVMIsNotPreemptedMoreOftenThanThePolicyAllows(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(2), withPolicy(func(p *policy.Policy) { p.Cooldown, p.Protect.MaxPreemptionsPerDay = 0, 1 }))
	s.worker()
	s.signal("one", person(preemption.CriticalityHigh))
	wantState(t, s.done("one"), preemptapi.RoundCompleted, 2)
	for _, vm := range s.vc.TaggedVMs("") {
		s.must(s.vc.PowerOnAs(vm.Ref, "owner@example.org"))
	}
	s.signal("two", person(preemption.CriticalityHigh))
	r := s.done("two")
	wantState(t, r, preemptapi.RoundEmpty, 0)
	for _, sp := range r.Spared {
		if sp.Reason != policy.PreemptedOften {
			t.Errorf("%s stays for %s", sp.Name, sp.Reason)
		}
	}
}

func TestWhatIsEvictedByNameCountsInTheBudgetOfItsCluster(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(4), withPolicy(func(p *policy.Policy) {
		p.Cooldown = 0
		p.Budgets = []policy.Budget{{Scope: true, Max: policy.Amount{N: 1}, Per: clock.Duration(time.Hour)}}
	}))
	s.worker()
	req := person(preemption.CriticalityHigh)
	req.VM = s.vc.TaggedVMs("")[0].Name
	s.signal("one", req)
	wantState(t, s.done("one"), preemptapi.RoundCompleted, 1)
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	wantState(t, s.done("alarm"), preemptapi.RoundEmpty, 0)
	other := person(preemption.CriticalityHigh)
	other.VM = s.vc.TaggedVMs("")[1].Name
	s.signal("two", other)
	wantState(t, s.done("two"), preemptapi.RoundEmpty, 0)
	if n := s.off(""); n != 1 {
		t.Errorf("%d VMs are off, the budget is 1", n)
	}
}

func TestARequestMayAskToObserve(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.worker()
	req := person(preemption.CriticalityHigh)
	req.Mode = preemption.ModeObserve
	s.signal("look", req)
	if r := s.done("look"); r.State != preemptapi.RoundObserved || s.off("cluster-a")+s.off("cluster-b") != 0 {
		t.Errorf("%s, %d off", r.State, s.off("cluster-a")+s.off("cluster-b"))
	}
}
