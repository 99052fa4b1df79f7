package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// held waits until the restore of cluster-a says that it waits for an alarm.
func held(s *sitetest.Site) {
	s.T.Helper()
	s.Eventually("the restore waits for the alarm", func() bool {
		r, _ := s.RestoreState()
		if len(r.Restored()) > 0 && anyOn(s) && r.State == preemptapi.RestoreCompleted {
			s.T.Fatalf("VMs came back while an alarm is active: %s", sitetest.Pretty(r))
		}
		return r.State == preemptapi.RestoreWaiting && strings.Contains(r.Reason, "alarm cluster-cpu-above-80 has been active since")
	})
}

func TestNobodyComesBackWhileAnotherAlarmOfTheScopeIsActive(t *testing.T) {
	t.Parallel()
	liveRestoreHeld(t, "restore-held")
}

// liveRestoreHeld is a restore that waits for another alarm of its scope.
func liveRestoreHeld(t *testing.T, name string) {
	s := sitetest.New(t, sitetest.WithRestore(func(p *policy.Policy) { p.RepeatWhileRed = false }))
	s.Worker()
	s.Preempted(6)
	s.Change("other", "cluster-a", 1, "green", "red")
	s.Until("other", "the other alarm is active", func(p preemptapi.Response) bool { return len(p.Levels) == 1 && p.State == preemptapi.IntakeIdle })
	s.Change("alarm", "cluster-a", 0, "red", "green")
	held(s)
	if anyOn(s) {
		t.Error("a VM is on although an alarm is active")
	}
	s.Change("other", "cluster-a", 1, "red", "green")
	s.WantRestored(s.Restored(), preemptapi.RestoreCompleted, 6)
	s.Keep(name, s.ID("alarm"), s.ID("other"), s.RestoreID(), ledger.WorkflowID(s.Queue))
}

func TestAnAlarmOfEverythingStopsTheRestoreOfAClusterThatRuns(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore(func(p *policy.Policy) { p.Restore.Wave, p.RepeatWhileRed = 1, false }))
	s.Worker()
	s.Preempted(6)
	s.VC.SetLatency(20 * time.Millisecond)
	s.Change("alarm", "cluster-a", 0, "red", "green")
	s.Eventually("the first is back", func() bool { r, _ := s.RestoreState(); return len(r.Restored()) > 0 })
	everything := s.Changed("cluster-a", 1, "green", "red")
	everything.Scope = ""
	s.Changes("other", everything)
	s.Until("other", "its round ended", func(p preemptapi.Response) bool { return p.State == preemptapi.IntakeIdle && p.Round != nil })
	held(s)
	if anyOn(s) {
		t.Error("a VM is on although an alarm is active")
	}
	over := s.Changed("cluster-a", 1, "red", "green")
	over.Scope = ""
	s.Changes("other", over)
	s.Eventually("all are back", func() bool { // by this restore, and by that of everything
		return !slices.ContainsFunc(s.VC.TaggedVMs("cluster-a"), func(vm simulation.VM) bool { return !s.On(vm) })
	})
}

func TestAnAlarmWhoseWorkflowWasCancelledHoldsNobodyBack(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore(func(p *policy.Policy) { p.RepeatWhileRed = false }))
	s.Worker()
	s.Preempted(6)
	s.Change("other", "cluster-a", 1, "green", "red")
	s.Until("other", "the other alarm is active", func(p preemptapi.Response) bool { return len(p.Levels) == 1 && p.State == preemptapi.IntakeIdle })
	s.Eventually("the ledger knows of both", func() bool { return len(s.Ledger().Demands) == 2 })
	s.Must(s.Temporal.CancelWorkflow(t.Context(), s.ID("other"), ""))
	s.Eventually("the ledger forgot it", func() bool { return len(s.Ledger().Demands) == 1 })
	s.Change("alarm", "cluster-a", 0, "red", "green")
	s.WantRestored(s.Restored(), preemptapi.RestoreCompleted, 6)
}

func TestAGuestThatTookHoursToShutDownComesBack(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore(func(p *policy.Policy) { p.LateWatch = clock.Duration(6 * time.Hour) }))
	s.Worker()
	red := s.Changed("cluster-a", 0, "green", "red")
	red.Request, _ = json.Marshal(preemption.WorkflowRequest{Tag: "preemptible", Criticality: preemption.CriticalityLow})
	s.Changes("alarm", red)
	sitetest.WantState(t, s.Done("alarm"), preemptapi.RoundCompleted, 6)
	for _, vm := range s.VC.TaggedVMs("cluster-a") {
		if s.VC.AgeEvents(vm.Ref, &types.VmGuestShutdownEvent{}, 5*time.Hour) != 1 {
			t.Fatalf("%s was not asked to shut down", vm.Name)
		}
	}
	s.Change("alarm", "cluster-a", 0, "red", "green")
	s.WantRestored(s.Restored(), preemptapi.RestoreCompleted, 6)
}

func TestWhomMachinesTouchedWhileItWasOffComesBack(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore())
	s.Config = func(c *vcenter.Config) { c.TrustedUsers = []string{"autoscaler@vsphere.local"} }
	s.Worker()
	vms := s.VC.TaggedVMs("cluster-a")
	s.Preempted(6)
	s.Must(s.VC.DetachVolumeAs(vms[0].Ref, "k8s-csi@vsphere.local"))
	s.Must(s.VC.BackUpAs(vms[1].Ref, "backup@vsphere.local"))
	s.Must(s.VC.EvacuateAs(vms[2].Ref, "admin@vsphere.local"))
	s.Must(s.VC.RefitAs(vms[3].Ref, "autoscaler@vsphere.local"))
	s.Must(s.VC.RefitAs(vms[4].Ref, "alice@example.org"))
	s.Change("alarm", "cluster-a", 0, "red", "green")
	r := s.Restored()
	s.WantRestored(r, preemptapi.RestoreCompleted, 5)
	if left(r, vms[4]) != policy.TouchedByOwner || s.On(vms[4]) {
		t.Errorf("unexpected restore %s", sitetest.Pretty(r))
	}
}

func TestWhatDRSPowersOnLaterIsOursAndWhatAPersonPoweredOnMeanwhileIsNot(t *testing.T) {
	t.Parallel()
	for name, drs := range map[string]simulation.DRS{
		"its event comes late":          {Delay: time.Second, Lag: 6 * time.Second},
		"its event names nobody":        {Delay: time.Second, NoUser: true},
		"vCenter lost its event":        {NoEvent: true},
		"it is on at once, and told so": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sitetest.New(t, sitetest.WithRestore(func(p *policy.Policy) { p.Restore.Wave = 10 }))
			s.Worker()
			s.Preempted(6)
			s.VC.SetDRS(&drs)
			vms := s.VC.TaggedVMs("cluster-a")
			once := make(chan struct{})
			s.OnCall("PowerOnMultiVM_Task", 1, func(types.ManagedObjectReference) {
				s.Must(s.VC.PowerOnAs(vms[0].Ref, "alice@example.org"))
				close(once)
			})
			s.Change("alarm", "cluster-a", 0, "red", "green")
			r := s.Restored()
			<-once
			s.WantRestored(r, preemptapi.RestoreCompleted, 5)
			if why := left(r, vms[0]); why != policy.TouchedByOwner && why != policy.AlreadyOn {
				t.Errorf("%s is left as %q: %s", vms[0].Name, why, sitetest.Pretty(r))
			}
		})
	}
}
