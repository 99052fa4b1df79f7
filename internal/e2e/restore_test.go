package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// left returns why a VM stays off; "" where the restore does not say.
func left(r preemptapi.RestoreResult, vm simulation.VM) policy.Reason {
	for _, l := range r.Left {
		if l.Ref == sitetest.Ref(vm.Ref) {
			return l.Reason
		}
	}
	return ""
}

func TestAfterGreenAllComeBackMostImportantFirstInWaves(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore())
	vms := s.VC.TaggedVMs("cluster-a")
	s.Must(s.VC.CreateTag(policy.CategoryPriority, "500"))
	s.Must(s.VC.AttachTag(policy.CategoryPriority, "500", vms[4].Ref))
	s.Worker()
	s.Preempted(6)
	s.Change("alarm", "cluster-a", 0, "red", "green")
	r := s.Restored()
	s.WantRestored(r, preemptapi.RestoreCompleted, 6)
	if r.VMs[0].Ref != sitetest.Ref(vms[4].Ref) || r.Waves != 3 || r.By != "cluster-cpu-above-80" || len(r.Left) != 0 {
		t.Errorf("unexpected restore %s", sitetest.Pretty(r))
	}
}

func TestWithoutLeaveOfThePolicyNobodyComesBack(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore(func(p *policy.Policy) { p.Restore.Enabled = false }))
	s.Worker()
	s.Preempted(6)
	s.Change("alarm", "cluster-a", 0, "red", "green")
	s.Until("alarm", "the alarm fell", func(p preemptapi.Response) bool { return len(p.Levels) == 0 })
	time.Sleep(time.Second)
	if _, ok := s.RestoreState(); ok {
		t.Error("a restore began")
	}
}

func TestWhoWasTouchedSinceStaysOff(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore(func(p *policy.Policy) { p.Restore.Settle = clock.Duration(2 * time.Second) }))
	s.Worker()
	vms := s.VC.TaggedVMs("cluster-a")
	s.Preempted(6)
	owner := "alice@example.org"
	s.Must(s.VC.PowerOnAs(vms[0].Ref, owner))
	s.Must(s.VC.PowerOnAs(vms[1].Ref, owner))
	s.Must(s.VC.PowerOffAs(vms[1].Ref, owner))
	s.Must(s.VC.DetachTag("preemption", "preemptible", vms[2].Ref))
	annotate(s, vms[3], `{"note":"mine"}`)
	s.Change("alarm", "cluster-a", 0, "red", "green")
	r := s.Restored()
	if r.State != preemptapi.RestoreCompleted || len(r.Restored()) != 2 {
		t.Errorf("unexpected restore %s", sitetest.Pretty(r))
	}
	for vm, want := range map[int]policy.Reason{
		0: policy.TouchedByOwner, 1: policy.TouchedByOwner, 2: policy.Untagged, 3: policy.AttributeChanged,
	} {
		if got := left(r, vms[vm]); got != want || vm != 0 && s.On(vms[vm]) {
			t.Errorf("%s is left as %q, want %q; on=%v", vms[vm].Name, got, want, s.On(vms[vm]))
		}
	}
}

// annotate writes our attribute on a VM as somebody else would.
func annotate(s *sitetest.Site, vm simulation.VM, value string) {
	s.T.Helper()
	g := s.Gateway()
	s.Must(g.Annotate(s.T.Context(), sitetest.Ref(vm.Ref), preemption.AttributeKey, value))
	g.Close(s.T.Context())
}

func TestWhomSomebodyElseReconfiguredOrTurnedOffStaysOff(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore())
	s.Worker()
	vms := s.VC.TaggedVMs("cluster-a")
	s.Must(s.VC.PowerOffAs(vms[0].Ref, "alice@example.org"))
	s.Preempted(5)
	s.Must(s.VC.ReconfigureAs(vms[1].Ref, "alice@example.org"))
	r, err := s.ByHand(preemptapi.RestoreInput{})
	if err != nil {
		t.Fatal(err)
	}
	s.WantRestored(r, preemptapi.RestoreCompleted, 4)
	if left(r, vms[0]) != "" || left(r, vms[1]) != policy.TouchedByOwner || s.On(vms[0]) || s.On(vms[1]) {
		t.Errorf("unexpected restore %s", sitetest.Pretty(r))
	}
}

func TestAVMPreemptedThreeTimesInADayStaysOffAndIsReported(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(2), sitetest.WithRestore())
	s.Worker()
	vms := s.VC.TaggedVMs("")
	for i := range 3 {
		s.Change("alarm", "cluster-a", 0, "green", "red")
		s.Until("alarm", "the round ended", func(p preemptapi.Response) bool {
			return p.State != preemptapi.IntakeRunning && p.Round != nil && !s.On(vms[0]) && !s.On(vms[1]) && len(p.Levels) == 1
		})
		s.Eventually("the ledger knows", func() bool { return len(s.Ledger().Evictions) == i+1 })
		s.Change("alarm", "cluster-a", 0, "red", "green")
		if i < 2 {
			s.Eventually("both are back", func() bool { return s.On(vms[0]) && s.On(vms[1]) })
		}
		s.Restored()
	}
	r := s.Restored()
	if r.State != preemptapi.RestoreCompleted || left(r, vms[0]) != policy.CyclesTooOften || left(r, vms[1]) != policy.CyclesTooOften {
		t.Errorf("unexpected restore %s", sitetest.Pretty(r))
	}
}

func TestWithoutRoomItWaitsAndGoesOnWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore(func(p *policy.Policy) { p.Target = policy.Goal{CPU: 75, Margin: 5} }))
	s.Must(s.VC.SetClusterUsage("cluster-a", 90, 50))
	s.Worker()
	s.Change("alarm", "cluster-a", 0, "green", "red")
	first := s.Done("alarm")
	gone := len(first.Preempted())
	if gone < 2 {
		t.Fatalf("too few went to see anything: %s", sitetest.Pretty(first))
	}
	s.Change("alarm", "cluster-a", 0, "red", "green")
	var r preemptapi.RestoreResult
	s.Eventually("it waits for room", func() bool {
		r, _ = s.RestoreState()
		return r.State == preemptapi.RestoreWaiting && len(r.Left) > 0
	})
	time.Sleep(time.Second)
	if cpu, _ := s.VC.Usage("cluster-a"); cpu > 70 || r.Left[0].Reason != policy.NoRoom {
		t.Fatalf("the cluster is at %.0f %%: %s", cpu, sitetest.Pretty(r))
	}
	s.Must(s.VC.SetClusterUsage("cluster-a", 30, 50))
	r = s.Restored()
	s.WantRestored(r, preemptapi.RestoreCompleted, gone)
	if len(r.Before) != 1 || r.Before[0].CPU.Target != 70 {
		t.Errorf("unexpected usage %s", sitetest.Pretty(r))
	}
}

func TestADryRunByHandShowsTheWavesAndTouchesNothing(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore(func(p *policy.Policy) { p.Restore.Enabled = false }))
	s.Worker()
	vms := s.VC.TaggedVMs("cluster-a")
	s.Preempted(6)
	s.Must(s.VC.ReconfigureAs(vms[5].Ref, "alice@example.org"))
	r, err := s.ByHand(preemptapi.RestoreInput{DryRun: true})
	if err != nil || r.State != preemptapi.RestorePlanned || r.Count(preemptapi.OutcomeWouldPowerOn) != 5 || r.Waves != 3 || left(r, vms[5]) != policy.TouchedByOwner {
		t.Fatalf("unexpected plan %s, %v", sitetest.Pretty(r), err)
	}
	if anyOn(s) || s.Calls("PowerOnMultiVM_Task") != 0 || len(s.Ledger().Reserved) != 0 {
		t.Error("the dry run did something")
	}
	r, err = s.ByHand(preemptapi.RestoreInput{VMs: []string{vms[1].Name, vms[2].Ref.Value}})
	if err != nil {
		t.Fatal(err)
	}
	s.WantRestored(r, preemptapi.RestoreCompleted, 2)
	_, err = s.ByHand(preemptapi.RestoreInput{VMs: []string{"nosuch"}})
	if err != nil {
		t.Fatal(err) // it failed with its result
	}
}

func TestBesideARoundAPersonsRestoreIsRefused(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore())
	s.VC.SetTaskDelay(3 * time.Second)
	s.Worker()
	s.Change("alarm", "cluster-a", 0, "green", "red")
	s.Started("alarm")
	r, err := s.ByHand(preemptapi.RestoreInput{})
	if err != nil || r.State != preemptapi.RestoreRefused {
		t.Fatalf("unexpected restore %s, %v", sitetest.Pretty(r), err)
	}
}

func TestTheReplyAddressLearnsOnceWhoCameBackAndTheGuestsNoticeIsGone(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(3), sitetest.WithRestore())
	box := sitetest.NewMailbox(t)
	s.Worker()
	s.Preempted(3)
	vm := sitetest.Ref(s.VC.TaggedVMs("")[0].Ref)
	g := s.Gateway()
	s.Must(g.SetGuestInfo(t.Context(), vm, "guestinfo.preemption", `{"state":"pending"}`))
	r, err := s.ByHand(preemptapi.RestoreInput{ReplyTo: box.URL})
	if err != nil {
		t.Fatal(err)
	}
	s.WantRestored(r, preemptapi.RestoreCompleted, 3)
	attempts, taken := box.Got()
	if len(attempts) != 1 || !r.ReplySent || !sitetest.ContainsAll(string(taken[0].Body)+fmt.Sprint(taken[0].Header), preemption.RestoredEventType, vm.Value, preemptapi.ByHand) {
		t.Errorf("unexpected replies %q %s", attempts, sitetest.Pretty(r))
	}
	if left, err := g.GuestInfo(t.Context(), []vsphere.Ref{vm}, "guestinfo.preemption"); err != nil || len(left) > 0 {
		t.Errorf("its notice is still there: %v, %v", left, err)
	}
	g.Close(t.Context())
}

func TestOneThatNoHostCanTakeIsLeftAndTheOthersComeBack(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(3), sitetest.WithRestore())
	s.Worker()
	vms := s.VC.TaggedVMs("")
	s.Preempted(3)
	s.VC.FailCall("PowerOnMultiVM_Task", nil, &types.NotSupported{}, 10)
	s.VC.FailCall("PowerOnVM_Task", &vms[0].Ref, &types.InsufficientResourcesFault{}, 10)
	r, err := s.ByHand(preemptapi.RestoreInput{})
	if err != nil {
		t.Fatal(err)
	}
	s.WantRestored(r, preemptapi.RestoreCompleted, 2)
	if left(r, vms[0]) != policy.NoHost {
		t.Errorf("unexpected restore %s", sitetest.Pretty(r))
	}
}

func TestAVMThatItsOwnerShutDownAfterALaterRequestOfOursStaysOff(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore(func(p *policy.Policy) {
		p.Criticality.Low.GracePeriod, p.LateWatch = clock.Duration(sitetest.HalfASecond), 0
	}))
	s.Worker()
	s.Preempted(6)
	vm := s.VC.TaggedVMs("cluster-a")[0]
	s.Must(s.VC.PowerOnAs(vm.Ref, "alice@example.org"))
	s.VC.IgnoreShutdown(vm.Ref)
	low := sitetest.PersonRequest(preemption.CriticalityLow)
	low.VM = vm.Name
	s.Signal("low", low)
	sitetest.WantOutcome(t, s.Done("low"), vm, action.Spared, string(policy.GuestIgnored))
	s.Must(s.GuestOff(vm.Ref)) // from inside
	r, err := s.ByHand(preemptapi.RestoreInput{})
	s.Must(err)
	s.WantRestored(r, preemptapi.RestoreCompleted, 5)
	if got := left(r, vm); got != policy.TouchedByOwner || s.On(vm) {
		t.Errorf("it is left as %q, on=%v: %s", got, s.On(vm), sitetest.Pretty(r))
	}
}
