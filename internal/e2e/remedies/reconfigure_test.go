package remedies

import (
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

func TestWithinItsWindowAVMIsShutDownReconfiguredAndPoweredOn(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t, sitetest.Reconfigures()) // the power-off of the window is an event too
	s.Works()
	vms := s.VC.TaggedVMs("")
	window := func(r *placement.Request) {
		r.Resize = &placement.Resize{
			Resource: placement.CPU, Mode: placement.ModePowerCycle, Window: "* * * * *", Duration: clock.Duration(10 * time.Minute),
		}
	}
	s.Must(s.VC.SetHardware(vms[0].Ref, simulation.Hardware{CPUs: 2, CoresPerSocket: 1}))
	r := s.ByRequest(sitetest.RemedyRequest(placement.KindResize, vms[0].Ref, window))
	if d := r.Decisions[0]; d.State != remediateapi.Applied || d.After.CPUs != 3 || !s.On(vms[0]) {
		t.Errorf("on: %v, %s", s.On(vms[0]), sitetest.Pretty(d))
	}
	s.WantHardware(vms[0].Ref, 3, 16<<10)
	s.Must(s.VC.SetToolsRunning(vms[1].Ref, false)) // its guest cannot be asked
	r = s.ByRequest(sitetest.RemedyRequest(placement.KindResize, vms[1].Ref, window))
	if d := r.Decisions[0]; d.State != remediateapi.Deferred || !s.On(vms[1]) {
		t.Errorf("on: %v, %s", s.On(vms[1]), sitetest.Pretty(d))
	}
	s.Report(placement.KindReconfigure, vms[0].Ref)
	if !s.On(vms[0]) {
		t.Error("it is off in the end")
	}
	s.Keep("cycled", placement.WorkflowID(placement.KindResize, sitetest.Ref(vms[0].Ref), s.Queue))
}

func TestWhenTheWindowOpensTheOwnersWordIsAskedAgain(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t)
	s.Worker()
	vm := s.VC.TaggedVMs("")[0]
	s.Must(s.VC.SetHardware(vm.Ref, simulation.Hardware{CPUs: 2, CoresPerSocket: 1}))
	s.OnCall("REST POST /com/vmware/cis/tagging/tag-association/{id}?~action=attach", 1, func(types.ManagedObjectReference) {
		_ = s.VC.SetTags(vm.Ref, placement.CategoryMode, placement.ModeOff)
	})
	r := s.ByRequest(sitetest.RemedyRequest(placement.KindResize, vm.Ref, func(r *placement.Request) {
		r.Resize = &placement.Resize{
			Resource: placement.CPU, Mode: placement.ModePowerCycle, Window: "* * * * *", Duration: clock.Duration(10 * time.Minute),
		}
	}))
	if d := r.Decisions[0]; d.State != remediateapi.Skipped || s.Calls("ShutdownGuest") != 0 || !s.On(vm) {
		t.Errorf("%d shutdowns, on: %v, %s", s.Calls("ShutdownGuest"), s.On(vm), sitetest.Pretty(d))
	}
	s.WantHardware(vm.Ref, 2, 16<<10)
}

func TestAPreemptedVMIsReconfiguredAndComesBack(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore())
	s.Rules = []trigger.Rule{sitetest.Reconfigures()} // the alarm is told by the test alone
	vm := s.VC.TaggedVMs("cluster-a")[0]
	s.Must(s.VC.SetTags(vm.Ref, placement.CategoryMemory, "20480"))
	s.Works()
	s.Preempted(6)
	s.Decided(placement.KindReconfigure, vm.Ref, remediateapi.Applied)
	s.WantHardware(vm.Ref, 4, 20480)
	s.Change("alarm", "cluster-a", 0, "red", "green")
	s.WantRestored(s.Restored(), "completed", 6)
}

func TestAVMThatIsPoweredOnMeanwhileKeepsItsTagsForTheNextTime(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t)
	vm := s.VC.TaggedVMs("")[0].Ref
	s.Must(s.VC.SetTags(vm, placement.CategoryMemory, "20480"))
	s.Must(s.VC.PowerOffAs(vm, "owner@example.org"))
	s.OnCall("ReconfigVM_Task", 1, func(types.ManagedObjectReference) { _ = s.VC.PowerOnAs(vm, "owner@example.org") })
	s.Worker()
	if d := s.ByRequest(sitetest.RemedyRequest(placement.KindReconfigure, vm, nil)).Decisions[0]; d.State != remediateapi.Deferred {
		t.Errorf("%s", sitetest.Pretty(d))
	}
	s.WantHardware(vm, 4, 16<<10)
}

func TestAChangedConfigurationIsReadAgainThreeTimes(t *testing.T) {
	t.Parallel()
	for times, want := range map[int]remediateapi.State{1: remediateapi.Applied, 3: remediateapi.Applied, 4: remediateapi.Failed} {
		s := sitetest.Remedied(t)
		vm := s.VC.TaggedVMs("")[0].Ref
		s.Must(s.VC.SetTags(vm, placement.CategoryMemory, "20480"))
		s.Must(s.VC.PowerOffAs(vm, "owner@example.org"))
		s.VC.ChangeBeforeReconfigure(vm, times)
		s.Worker()
		if d := s.ByRequest(sitetest.RemedyRequest(placement.KindReconfigure, vm, nil)).Decisions[0]; d.State != want {
			t.Errorf("changed %d times: %s", times, sitetest.Pretty(d))
		}
	}
}

func TestTheReconcilerAppliesWhatNoEventTold(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t)
	vms := s.VC.TaggedVMs("")
	for _, vm := range vms[:3] {
		s.Must(s.VC.SetTags(vm.Ref, placement.CategoryMemory, "20480"))
	}
	for _, vm := range vms[:2] {
		s.Must(s.VC.PowerOffAs(vm.Ref, "owner@example.org"))
	}
	s.Worker()
	reconcile := func(dry bool) (r remediateapi.ReconcileResult) {
		run, err := s.Temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: s.ID("reconcile"), TaskQueue: s.Queue},
			remediateapi.ReconcileType, remediateapi.ReconcileInput{DryRun: dry})
		s.Must(err)
		s.Must(run.Get(t.Context(), &r))
		return r
	}
	if r := reconcile(true); r.State != remediateapi.Planned || r.Looked != 3 || r.On != 1 || len(r.Decisions) != 2 {
		t.Errorf("rehearsed: %s", sitetest.Pretty(r))
	}
	s.WantHardware(vms[0].Ref, 4, 16<<10)
	if r := reconcile(false); r.State != remediateapi.Applied || len(r.Decisions) != 2 || r.Decisions[0].State != remediateapi.Applied {
		t.Errorf("reconciled: %s", sitetest.Pretty(r))
	}
	s.Keep("reconciled", s.ID("reconcile"))
	s.WantHardware(vms[0].Ref, 4, 20480)
	s.WantHardware(vms[1].Ref, 4, 20480)
	s.WantHardware(vms[2].Ref, 4, 16<<10)
	if r := reconcile(false); len(r.Decisions) != 0 {
		t.Errorf("there is nothing more to do: %s", sitetest.Pretty(r))
	}
}
