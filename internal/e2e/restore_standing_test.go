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
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// held waits until the restore of cluster-a says that it waits for an alarm.
func (s *site) held() {
	s.t.Helper()
	s.eventually("the restore waits for the alarm", func() bool {
		r, _ := s.restoreState()
		if len(r.Restored()) > 0 && s.anyOn() && r.State == preemptapi.RestoreCompleted {
			s.t.Fatalf("VMs came back while an alarm is active: %s", pretty(r))
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
	s := newSite(t, restoring(func(p *policy.Policy) { p.RepeatWhileRed = false }))
	s.worker()
	s.preempted(6)
	s.change("other", "cluster-a", 1, "green", "red")
	s.until("other", "the other alarm is active", func(p preemptapi.Response) bool { return len(p.Levels) == 1 && p.State == preemptapi.IntakeIdle })
	s.change("alarm", "cluster-a", 0, "red", "green")
	s.held()
	if s.anyOn() {
		t.Error("a VM is on although an alarm is active")
	}
	s.change("other", "cluster-a", 1, "red", "green")
	s.wantRestored(s.restored(), preemptapi.RestoreCompleted, 6)
	s.keep(name, s.id("alarm"), s.id("other"), s.restoreID(), ledger.WorkflowID(s.queue))
}

func TestAnAlarmOfEverythingStopsTheRestoreOfAClusterThatRuns(t *testing.T) {
	t.Parallel()
	s := newSite(t, restoring(func(p *policy.Policy) { p.Restore.Wave, p.RepeatWhileRed = 1, false }))
	s.worker()
	s.preempted(6)
	s.vc.SetLatency(20 * time.Millisecond)
	s.change("alarm", "cluster-a", 0, "red", "green")
	s.eventually("the first is back", func() bool { r, _ := s.restoreState(); return len(r.Restored()) > 0 })
	everything := s.changed("cluster-a", 1, "green", "red")
	everything.Scope = ""
	s.changes("other", everything)
	s.until("other", "its round ended", func(p preemptapi.Response) bool { return p.State == preemptapi.IntakeIdle && p.Round != nil })
	s.held()
	if s.anyOn() {
		t.Error("a VM is on although an alarm is active")
	}
	over := s.changed("cluster-a", 1, "red", "green")
	over.Scope = ""
	s.changes("other", over)
	s.eventually("all are back", func() bool { // by this restore, and by that of everything
		return !slices.ContainsFunc(s.vc.TaggedVMs("cluster-a"), func(vm simulation.VM) bool { return !s.on(vm) })
	})
}

func TestAnAlarmWhoseWorkflowWasCancelledHoldsNobodyBack(t *testing.T) {
	t.Parallel()
	s := newSite(t, restoring(func(p *policy.Policy) { p.RepeatWhileRed = false }))
	s.worker()
	s.preempted(6)
	s.change("other", "cluster-a", 1, "green", "red")
	s.until("other", "the other alarm is active", func(p preemptapi.Response) bool { return len(p.Levels) == 1 && p.State == preemptapi.IntakeIdle })
	s.eventually("the ledger knows of both", func() bool { return len(s.ledger().Demands) == 2 })
	s.must(s.c.CancelWorkflow(t.Context(), s.id("other"), ""))
	s.eventually("the ledger forgot it", func() bool { return len(s.ledger().Demands) == 1 })
	s.change("alarm", "cluster-a", 0, "red", "green")
	s.wantRestored(s.restored(), preemptapi.RestoreCompleted, 6)
}

func TestAGuestThatTookHoursToShutDownComesBack(t *testing.T) {
	t.Parallel()
	s := newSite(t, restoring(func(p *policy.Policy) { p.LateWatch = clock.Duration(6 * time.Hour) }))
	s.worker()
	red := s.changed("cluster-a", 0, "green", "red")
	red.Request, _ = json.Marshal(preemption.WorkflowRequest{Tag: "preemptible", Criticality: preemption.CriticalityLow})
	s.changes("alarm", red)
	wantState(t, s.done("alarm"), preemptapi.RoundCompleted, 6)
	for _, vm := range s.vc.TaggedVMs("cluster-a") {
		if s.vc.AgeEvents(vm.Ref, &types.VmGuestShutdownEvent{}, 5*time.Hour) != 1 {
			t.Fatalf("%s was not asked to shut down", vm.Name)
		}
	}
	s.change("alarm", "cluster-a", 0, "red", "green")
	s.wantRestored(s.restored(), preemptapi.RestoreCompleted, 6)
}

func TestWhomMachinesTouchedWhileItWasOffComesBack(t *testing.T) {
	t.Parallel()
	s := newSite(t, restoring())
	s.config = func(c *vcenter.Config) { c.TrustedUsers = []string{"autoscaler@vsphere.local"} }
	s.worker()
	vms := s.vc.TaggedVMs("cluster-a")
	s.preempted(6)
	s.must(s.vc.DetachVolumeAs(vms[0].Ref, "k8s-csi@vsphere.local"))
	s.must(s.vc.BackUpAs(vms[1].Ref, "backup@vsphere.local"))
	s.must(s.vc.EvacuateAs(vms[2].Ref, "admin@vsphere.local"))
	s.must(s.vc.RefitAs(vms[3].Ref, "autoscaler@vsphere.local"))
	s.must(s.vc.RefitAs(vms[4].Ref, "alice@example.org"))
	s.change("alarm", "cluster-a", 0, "red", "green")
	r := s.restored()
	s.wantRestored(r, preemptapi.RestoreCompleted, 5)
	if left(r, vms[4]) != policy.TouchedByOwner || s.on(vms[4]) {
		t.Errorf("unexpected restore %s", pretty(r))
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
			s := newSite(t, restoring(func(p *policy.Policy) { p.Restore.Wave = 10 }))
			s.worker()
			s.preempted(6)
			s.vc.SetDRS(&drs)
			vms := s.vc.TaggedVMs("cluster-a")
			once := make(chan struct{})
			s.onCall("PowerOnMultiVM_Task", 1, func(types.ManagedObjectReference) {
				s.must(s.vc.PowerOnAs(vms[0].Ref, "alice@example.org"))
				close(once)
			})
			s.change("alarm", "cluster-a", 0, "red", "green")
			r := s.restored()
			<-once
			s.wantRestored(r, preemptapi.RestoreCompleted, 5)
			if why := left(r, vms[0]); why != policy.TouchedByOwner && why != policy.AlreadyOn {
				t.Errorf("%s is left as %q: %s", vms[0].Name, why, pretty(r))
			}
		})
	}
}
