package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// restoring lets the policy restore, two VMs at a time and soon.
func restoring(f ...func(*policy.Policy)) siteOption {
	return withPolicy(func(p *policy.Policy) {
		p.Cooldown = clock.Duration(time.Millisecond)
		p.Restore = policy.Restore{Enabled: true, Settle: clock.Duration(300 * time.Millisecond), Wave: 2, GiveUp: clock.Duration(time.Hour)}
		for _, change := range f {
			change(p)
		}
	})
}

// restoreID is the id of the restore of cluster-a.
func (s *site) restoreID() string { return preemptapi.RestoreID(s.queue, s.cluster("cluster-a")) }

// preempted lets an alarm on cluster-a turn off what carries the tag.
func (s *site) preempted(n int) preemptapi.RoundResult {
	s.t.Helper()
	s.change("alarm", "cluster-a", 0, "green", "red")
	r := s.done("alarm")
	wantState(s.t, r, preemptapi.RoundCompleted, n)
	return r
}

// restoreState is the restore of cluster-a as it stands; false while there is none.
func (s *site) restoreState() (r preemptapi.RestoreResult, ok bool) {
	s.t.Helper()
	v, err := s.c.QueryWorkflow(s.t.Context(), s.restoreID(), "", preemptapi.RestoreStateQuery)
	if err != nil {
		return r, false
	}
	return r, v.Get(&r) == nil
}

// restored waits for the end of the restore of cluster-a.
func (s *site) restored() (r preemptapi.RestoreResult) {
	s.t.Helper()
	s.eventually("a restore began", func() bool { _, ok := s.restoreState(); return ok })
	if err := s.c.GetWorkflow(s.t.Context(), s.restoreID(), "").Get(s.t.Context(), &r); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// byHand runs a person's restore of cluster-a to its end.
func (s *site) byHand(in preemptapi.RestoreInput) (r preemptapi.RestoreResult, err error) {
	s.t.Helper()
	in.Scope, in.Tag, in.Person, in.By = s.cluster("cluster-a"), "preemptible", true, preemptapi.ByHand
	id := s.restoreID()
	if in.DryRun {
		id = fmt.Sprintf("restore-plan-%s-%d", s.queue, nextID.Add(1))
	}
	run, err := s.c.ExecuteWorkflow(s.t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: s.queue}, preemptapi.RestoreType, in)
	if err != nil {
		s.t.Fatal(err)
	}
	return preemptapi.RestoreResultOf(run.Get(s.t.Context(), &r), r)
}

func (s *site) on(vm simulation.VM) bool {
	return s.vc.PowerState(vm.Ref) == types.VirtualMachinePowerStatePoweredOn
}

// left returns why a VM stays off; "" where the restore does not say.
func left(r preemptapi.RestoreResult, vm simulation.VM) policy.Reason {
	for _, l := range r.Left {
		if l.Ref == ref(vm.Ref) {
			return l.Reason
		}
	}
	return ""
}

// wantRestored checks how a restore ended and how many VMs it powered on, that they are on, and that their
// attributes say so.
func (s *site) wantRestored(r preemptapi.RestoreResult, state string, n int) {
	s.t.Helper()
	if r.State != state || len(r.Restored()) != n {
		s.t.Fatalf("want %s with %d VMs restored, got %s", state, n, pretty(r))
	}
	for _, vm := range s.vc.TaggedVMs("cluster-a") {
		a, ok := s.attribute(vm.Ref)
		if !ok {
			continue
		}
		ours := slices.Contains(r.Restored(), ref(vm.Ref))
		if ours != a.Restored || ours == a.Preempted || ours && (!s.on(vm) || a.RestoredBy != r.By || a.RestoredAt.IsZero() || a.RoundID == "") {
			s.t.Errorf("%s: restored=%v, on=%v, attribute %s", vm.Name, ours, s.on(vm), pretty(a))
		}
	}
	if st := s.ledger(); len(st.Reserved) > 0 {
		s.t.Errorf("the ledger still holds %v", st.Reserved)
	}
}

func TestAfterGreenAllComeBackMostImportantFirstInWaves(t *testing.T) {
	t.Parallel()
	s := newSite(t, restoring())
	vms := s.vc.TaggedVMs("cluster-a")
	s.must(s.vc.CreateTag(policy.CategoryPriority, "500"))
	s.must(s.vc.AttachTag(policy.CategoryPriority, "500", vms[4].Ref))
	s.worker()
	s.preempted(6)
	s.change("alarm", "cluster-a", 0, "red", "green")
	r := s.restored()
	s.wantRestored(r, preemptapi.RestoreCompleted, 6)
	if r.VMs[0].Ref != ref(vms[4].Ref) || r.Waves != 3 || r.By != "cluster-cpu-above-80" || len(r.Left) != 0 {
		t.Errorf("unexpected restore %s", pretty(r))
	}
}

func TestWithoutLeaveOfThePolicyNobodyComesBack(t *testing.T) {
	t.Parallel()
	s := newSite(t, restoring(func(p *policy.Policy) { p.Restore.Enabled = false }))
	s.worker()
	s.preempted(6)
	s.change("alarm", "cluster-a", 0, "red", "green")
	s.until("alarm", "the alarm fell", func(p preemptapi.Response) bool { return len(p.Levels) == 0 })
	time.Sleep(time.Second)
	if _, ok := s.restoreState(); ok {
		t.Error("a restore began")
	}
}

func TestWhoWasTouchedSinceStaysOff(t *testing.T) {
	t.Parallel()
	s := newSite(t, restoring(func(p *policy.Policy) { p.Restore.Settle = clock.Duration(2 * time.Second) }))
	s.worker()
	vms := s.vc.TaggedVMs("cluster-a")
	s.preempted(6)
	owner := "alice@example.org"
	s.must(s.vc.PowerOnAs(vms[0].Ref, owner))
	s.must(s.vc.PowerOnAs(vms[1].Ref, owner))
	s.must(s.vc.PowerOffAs(vms[1].Ref, owner))
	s.must(s.vc.DetachTag("preemption", "preemptible", vms[2].Ref))
	s.annotate(vms[3], `{"note":"mine"}`)
	s.change("alarm", "cluster-a", 0, "red", "green")
	r := s.restored()
	if r.State != preemptapi.RestoreCompleted || len(r.Restored()) != 2 {
		t.Errorf("unexpected restore %s", pretty(r))
	}
	for vm, want := range map[int]policy.Reason{
		0: policy.TouchedByOwner, 1: policy.TouchedByOwner, 2: policy.Untagged, 3: policy.AttributeChanged,
	} {
		if got := left(r, vms[vm]); got != want || vm != 0 && s.on(vms[vm]) {
			t.Errorf("%s is left as %q, want %q; on=%v", vms[vm].Name, got, want, s.on(vms[vm]))
		}
	}
}

// annotate writes our attribute on a VM as somebody else would.
func (s *site) annotate(vm simulation.VM, value string) {
	s.t.Helper()
	g := s.gateway()
	s.must(g.Annotate(s.t.Context(), ref(vm.Ref), preemption.AttributeKey, value))
	g.Close(s.t.Context())
}

func TestWhomSomebodyElseReconfiguredOrTurnedOffStaysOff(t *testing.T) {
	t.Parallel()
	s := newSite(t, restoring())
	s.worker()
	vms := s.vc.TaggedVMs("cluster-a")
	s.must(s.vc.PowerOffAs(vms[0].Ref, "alice@example.org"))
	s.preempted(5)
	s.must(s.vc.ReconfigureAs(vms[1].Ref, "alice@example.org"))
	r, err := s.byHand(preemptapi.RestoreInput{})
	if err != nil {
		t.Fatal(err)
	}
	s.wantRestored(r, preemptapi.RestoreCompleted, 4)
	if left(r, vms[0]) != "" || left(r, vms[1]) != policy.TouchedByOwner || s.on(vms[0]) || s.on(vms[1]) {
		t.Errorf("unexpected restore %s", pretty(r))
	}
}

func TestAVMPreemptedThreeTimesInADayStaysOffAndIsReported(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(2), restoring())
	s.worker()
	vms := s.vc.TaggedVMs("")
	for i := range 3 {
		s.change("alarm", "cluster-a", 0, "green", "red")
		s.until("alarm", "the round ended", func(p preemptapi.Response) bool {
			return p.State != "running" && p.Round != nil && !s.on(vms[0]) && !s.on(vms[1]) && len(p.Levels) == 1
		})
		s.eventually("the ledger knows", func() bool { return len(s.ledger().Evictions) == i+1 })
		s.change("alarm", "cluster-a", 0, "red", "green")
		if i < 2 {
			s.eventually("both are back", func() bool { return s.on(vms[0]) && s.on(vms[1]) })
		}
		s.restored()
	}
	r := s.restored()
	if r.State != preemptapi.RestoreCompleted || left(r, vms[0]) != policy.CyclesTooOften || left(r, vms[1]) != policy.CyclesTooOften {
		t.Errorf("unexpected restore %s", pretty(r))
	}
}

func TestWithoutRoomItWaitsAndGoesOnWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	s := newSite(t, restoring(func(p *policy.Policy) { p.Target = policy.Goal{CPU: 75, Margin: 5} }))
	s.must(s.vc.SetClusterUsage("cluster-a", 90, 50))
	s.worker()
	s.change("alarm", "cluster-a", 0, "green", "red")
	first := s.done("alarm")
	gone := len(first.Preempted())
	if gone < 2 {
		t.Fatalf("too few went to see anything: %s", pretty(first))
	}
	s.change("alarm", "cluster-a", 0, "red", "green")
	var r preemptapi.RestoreResult
	s.eventually("it waits for room", func() bool {
		r, _ = s.restoreState()
		return r.State == preemptapi.RestoreWaiting && len(r.Left) > 0
	})
	time.Sleep(time.Second)
	if cpu, _ := s.vc.Usage("cluster-a"); cpu > 70 || r.Left[0].Reason != policy.NoRoom {
		t.Fatalf("the cluster is at %.0f %%: %s", cpu, pretty(r))
	}
	s.must(s.vc.SetClusterUsage("cluster-a", 30, 50))
	r = s.restored()
	s.wantRestored(r, preemptapi.RestoreCompleted, gone)
	if len(r.Before) != 1 || r.Before[0].CPU.Target != 70 {
		t.Errorf("unexpected usage %s", pretty(r))
	}
}

func TestADryRunByHandShowsTheWavesAndTouchesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, restoring(func(p *policy.Policy) { p.Restore.Enabled = false }))
	s.worker()
	vms := s.vc.TaggedVMs("cluster-a")
	s.preempted(6)
	s.must(s.vc.ReconfigureAs(vms[5].Ref, "alice@example.org"))
	r, err := s.byHand(preemptapi.RestoreInput{DryRun: true})
	if err != nil || r.State != preemptapi.RestorePlanned || r.Count(preemptapi.OutcomeWouldPowerOn) != 5 || r.Waves != 3 || left(r, vms[5]) != policy.TouchedByOwner {
		t.Fatalf("unexpected plan %s, %v", pretty(r), err)
	}
	if s.anyOn() || s.calls("PowerOnMultiVM_Task") != 0 || len(s.ledger().Reserved) != 0 {
		t.Error("the dry run did something")
	}
	r, err = s.byHand(preemptapi.RestoreInput{VMs: []string{vms[1].Name, vms[2].Ref.Value}})
	if err != nil {
		t.Fatal(err)
	}
	s.wantRestored(r, preemptapi.RestoreCompleted, 2)
	_, err = s.byHand(preemptapi.RestoreInput{VMs: []string{"nosuch"}})
	if err != nil {
		t.Fatal(err) // it failed with its result
	}
}

func TestBesideARoundAPersonsRestoreIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, restoring())
	s.vc.SetTaskDelay(3 * time.Second)
	s.worker()
	s.change("alarm", "cluster-a", 0, "green", "red")
	s.started("alarm")
	r, err := s.byHand(preemptapi.RestoreInput{})
	if err != nil || r.State != preemptapi.RestoreRefused {
		t.Fatalf("unexpected restore %s, %v", pretty(r), err)
	}
}

func TestTheReplyAddressLearnsOnceWhoCameBackAndTheGuestsNoticeIsGone(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(3), restoring())
	box := newMailbox(t)
	s.worker()
	s.preempted(3)
	vm := ref(s.vc.TaggedVMs("")[0].Ref)
	g := s.gateway()
	s.must(g.SetGuestInfo(t.Context(), vm, "guestinfo.preemption", `{"state":"pending"}`))
	r, err := s.byHand(preemptapi.RestoreInput{ReplyTo: box.URL})
	if err != nil {
		t.Fatal(err)
	}
	s.wantRestored(r, preemptapi.RestoreCompleted, 3)
	attempts, taken := box.got()
	if len(attempts) != 1 || !r.ReplySent || !containsAll(string(taken[0].body)+fmt.Sprint(taken[0].header), preemption.RestoredEventType, vm.Value, preemptapi.ByHand) {
		t.Errorf("unexpected replies %q %s", attempts, pretty(r))
	}
	if left, err := g.GuestInfo(t.Context(), []vsphere.Ref{vm}, "guestinfo.preemption"); err != nil || len(left) > 0 {
		t.Errorf("its notice is still there: %v, %v", left, err)
	}
	g.Close(t.Context())
}

func TestOneThatNoHostCanTakeIsLeftAndTheOthersComeBack(t *testing.T) {
	t.Parallel()
	s := newSite(t, oneCluster(3), restoring())
	s.worker()
	vms := s.vc.TaggedVMs("")
	s.preempted(3)
	s.vc.FailCall("PowerOnMultiVM_Task", nil, &types.NotSupported{}, 10)
	s.vc.FailCall("PowerOnVM_Task", &vms[0].Ref, &types.InsufficientResourcesFault{}, 10)
	r, err := s.byHand(preemptapi.RestoreInput{})
	if err != nil {
		t.Fatal(err)
	}
	s.wantRestored(r, preemptapi.RestoreCompleted, 2)
	if left(r, vms[0]) != policy.NoHost {
		t.Errorf("unexpected restore %s", pretty(r))
	}
}

func TestAVMThatItsOwnerShutDownAfterALaterRequestOfOursStaysOff(t *testing.T) {
	t.Parallel()
	s := newSite(t, restoring(func(p *policy.Policy) {
		p.Criticality.Low.GracePeriod, p.LateWatch = clock.Duration(time500), 0
	}))
	s.worker()
	s.preempted(6)
	vm := s.vc.TaggedVMs("cluster-a")[0]
	s.must(s.vc.PowerOnAs(vm.Ref, "alice@example.org"))
	s.vc.IgnoreShutdown(vm.Ref)
	low := person(preemption.CriticalityLow)
	low.VM = vm.Name
	s.signal("low", low)
	wantOutcome(t, s.done("low"), vm, action.Spared, preemptapi.ReasonIgnored)
	s.must(s.guestOff(vm.Ref)) // from inside
	r, err := s.byHand(preemptapi.RestoreInput{})
	s.must(err)
	s.wantRestored(r, preemptapi.RestoreCompleted, 5)
	if got := left(r, vm); got != policy.TouchedByOwner || s.on(vm) {
		t.Errorf("it is left as %q, on=%v: %s", got, s.on(vm), pretty(r))
	}
}
