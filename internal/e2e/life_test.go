package e2e

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

func TestTheFewestVMsGoThatBringTheClusterBelowItsTarget(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithTarget(75))
	s.Must(s.VC.SetClusterUsage("cluster-a", 92, 50))
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.Done("alarm")
	s.Agree(r)
	cpu, _ := s.VC.Usage("cluster-a")
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
		t.Errorf("%d candidates are not needed, want %d: %s", spared, 6-n, sitetest.Pretty(r))
	}
}

func TestAProtectedVMStaysAndAGroupKeepsItsMinimum(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) {
		half, err := policy.ParseAmount("50%")
		if err != nil {
			t.Fatal(err)
		}
		p.Budgets = []policy.Budget{{Group: "*", MinAvailable: half}}
	}))
	vms := s.VC.TaggedVMs("cluster-a")
	s.Must(s.VC.SetTags(vms[0].Ref, policy.CategoryProtect, policy.TagDoNotPreempt))
	s.Must(s.VC.SetTags(vms[1].Ref, policy.CategoryProtect, "perhaps"))
	for _, vm := range vms[2:6] {
		s.Must(s.VC.SetTags(vm.Ref, policy.CategoryGroup, "web"))
	}
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.Done("alarm")
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 2)
	s.Agree(r)
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
	s := sitetest.New(t, sitetest.WithNotice(1500*time.Millisecond))
	s.Worker()
	vm := s.VC.TaggedVMs("cluster-a")[0]
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	id := s.Started("alarm")
	s.Eventually("the notice runs", func() bool { return s.Under(id).State == preemptapi.RoundNotified && s.Guest(vm) != "" })
	s.Must(s.VC.SetTags(vm.Ref, policy.CategoryProtect, policy.TagDoNotPreempt))
	r := s.Round(id)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 5)
	s.Agree(r)
	sitetest.WantNotice(t, r, vm.Name, "withdrawn")
}

func TestATargetThatCannotGoIsReplacedWhileTheShortfallRemains(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithTarget(88))
	s.Must(s.VC.SetClusterUsage("cluster-a", 92, 50))
	s.Worker()
	// Whoever is first to go cannot: its power-off fails for good.
	first := s.FirstChosen("cluster-a")
	s.VC.FailCall("PowerOffVM_Task", &first, &types.NoPermission{}, -1)
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.Done("alarm")
	cpu, _ := s.VC.Usage("cluster-a")
	if r.State != preemptapi.RoundPartial || len(r.Preempted()) == 0 || cpu >= 88 {
		t.Errorf("%s with %d VMs, the cluster is at %.1f %%: %s", r.State, len(r.Preempted()), cpu, sitetest.Pretty(r))
	}
	s.Agree(r)
}

func TestASuspendedVMIsAnnotatedAndReportedAsSuch(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(3), sitetest.WithPolicy(func(p *policy.Policy) { p.Criticality.High.Action = action.Suspend }))
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.Done("alarm")
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 3)
	for _, vm := range s.VC.TaggedVMs("") {
		sitetest.WantOutcome(t, r, vm, action.Suspended)
		if a, ok := s.Attribute(vm.Ref); !ok || a.ForcedShutdown || s.VC.PowerState(vm.Ref) != types.VirtualMachinePowerStateSuspended {
			t.Errorf("%s: %+v, %s", vm.Name, a, s.VC.PowerState(vm.Ref))
		}
	}
}

func TestOneNamedVMIsEvictedAndAnUntaggedOneIsRefused(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	vm := s.VC.TaggedVMs("cluster-a")[2]
	req := sitetest.PersonRequest(preemption.CriticalityHigh)
	req.VM = vm.Name
	s.Signal("one", req)
	r := s.Done("one")
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 1)
	s.Agree(r)
	if s.VC.PowerState(vm.Ref) != types.VirtualMachinePowerStatePoweredOff {
		t.Error("it is on")
	}
	req = sitetest.PersonRequest(preemption.CriticalityHigh)
	req.VM = "cluster-a-app-01"
	s.Signal("other", req)
	r = s.Done("other")
	if r.State != preemptapi.RoundFailed || !strings.Contains(r.Reason, "does not carry the tag") {
		t.Errorf("%s: %s", r.State, r.Reason)
	}
}

func TestInObserveModeEverythingIsDecidedAndNothingTouched(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithSettings(func(set *preempt.Settings) { set.Observe = true }))
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.Done("alarm")
	if r.State != preemptapi.RoundObserved || len(r.Targets) != 6 || s.OffIn("cluster-a") != 0 {
		t.Errorf("%s, %d targets, %d off", r.State, len(r.Targets), s.OffIn("cluster-a"))
	}
}

func TestTwoAlarmsAndAPersonAtOneInstantKeepLimitsAndBudgets(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(12), sitetest.WithPolicy(func(p *policy.Policy) {
		most, err := policy.ParseAmount("5")
		if err != nil {
			t.Fatal(err)
		}
		p.Cooldown, p.MaxVMs = 0, 3
		p.Budgets = []policy.Budget{{Scope: true, Max: most, Per: clock.Duration(time.Hour)}}
	}))
	s.Worker()
	s.Worker()
	ids := []string{"one", "two", "cli"}
	reqs := []preemption.WorkflowRequest{s.AlarmRequest("cluster-a", preemption.CriticalityHigh), s.AlarmRequest("cluster-a", preemption.CriticalityHigh), sitetest.PersonRequest(preemption.CriticalityHigh)}
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() { s.Signal(id, reqs[i]) })
	}
	wg.Wait()
	s.Eventually("all requests were decided and nothing waits", func() bool {
		for _, id := range ids {
			if r := s.State(id); r.LastDecision == nil || r.State == preemptapi.IntakeRunning || len(r.Deferred) > 0 {
				return false
			}
		}
		return true
	})
	var results []preemptapi.RoundResult
	for _, id := range s.Rounds() {
		r := s.Round(id)
		if n := len(r.Preempted()); n > 3 {
			t.Errorf("round %s took %d VMs", id, n)
		}
		results = append(results, r)
	}
	s.Agree(results...)
	if off := s.OffIn(""); off == 0 || off > 5 {
		t.Errorf("%d VMs are off, the budget is 5: %s", off, sitetest.Pretty(results))
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
		tags   func(*sitetest.Site, []simulation.VM)
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
		"priorities, lower first": {set: func(p *policy.Policy) { p.MaxVMs = 1 }, tags: func(s *sitetest.Site, vms []simulation.VM) {
			s.Must(s.VC.SetTags(vms[0].Ref, policy.CategoryPriority, "200"))
			s.Must(s.VC.SetTags(vms[2].Ref, policy.CategoryPriority, "-5"))
		}, off: 1, reason: policy.OverLimit},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sitetest.New(t, sitetest.OneCluster(4), sitetest.WithPolicy(tc.set))
			s.Must(s.VC.SetClusterUsage("cluster-a", 90, 50))
			vms := s.VC.TaggedVMs("")
			if tc.tags != nil {
				tc.tags(s, vms)
			}
			s.Worker()
			s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
			r := s.Done("alarm")
			s.Agree(r)
			if n := len(r.Preempted()); n != tc.off {
				t.Errorf("%d VMs of %v are off, want %d: %s", n, names(vms), tc.off, sitetest.Pretty(r))
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
	s := sitetest.New(t, sitetest.OneCluster(2), sitetest.WithPolicy(func(p *policy.Policy) { p.Cooldown, p.Protect.MaxPreemptionsPerDay = 0, 1 }))
	s.Worker()
	s.Signal("one", sitetest.PersonRequest(preemption.CriticalityHigh))
	sitetest.WantState(t, s.Done("one"), preemptapi.RoundCompleted, 2)
	for _, vm := range s.VC.TaggedVMs("") {
		s.Must(s.VC.PowerOnAs(vm.Ref, "owner@example.org"))
	}
	s.Signal("two", sitetest.PersonRequest(preemption.CriticalityHigh))
	r := s.Done("two")
	sitetest.WantState(t, r, preemptapi.RoundEmpty, 0)
	for _, sp := range r.Spared {
		if sp.Reason != policy.PreemptedOften {
			t.Errorf("%s stays for %s", sp.Name, sp.Reason)
		}
	}
}

func TestWhatIsEvictedByNameCountsInTheBudgetOfItsCluster(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(4), sitetest.WithPolicy(func(p *policy.Policy) {
		p.Cooldown = 0
		p.Budgets = []policy.Budget{{Scope: true, Max: policy.Amount{N: 1}, Per: clock.Duration(time.Hour)}}
	}))
	s.Worker()
	req := sitetest.PersonRequest(preemption.CriticalityHigh)
	req.VM = s.VC.TaggedVMs("")[0].Name
	s.Signal("one", req)
	sitetest.WantState(t, s.Done("one"), preemptapi.RoundCompleted, 1)
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	sitetest.WantState(t, s.Done("alarm"), preemptapi.RoundEmpty, 0)
	other := sitetest.PersonRequest(preemption.CriticalityHigh)
	other.VM = s.VC.TaggedVMs("")[1].Name
	s.Signal("two", other)
	sitetest.WantState(t, s.Done("two"), preemptapi.RoundEmpty, 0)
	if n := s.OffIn(""); n != 1 {
		t.Errorf("%d VMs are off, the budget is 1", n)
	}
}

func TestARequestMayAskToObserve(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	req := sitetest.PersonRequest(preemption.CriticalityHigh)
	req.Mode = preemption.ModeObserve
	s.Signal("look", req)
	if r := s.Done("look"); r.State != preemptapi.RoundObserved || s.OffIn("cluster-a")+s.OffIn("cluster-b") != 0 {
		t.Errorf("%s, %d off", r.State, s.OffIn("cluster-a")+s.OffIn("cluster-b"))
	}
}
