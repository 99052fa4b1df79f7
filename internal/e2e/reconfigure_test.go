package e2e

import (
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remedy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

func TestWithinItsWindowAVMIsShutDownReconfiguredAndPoweredOn(t *testing.T) {
	t.Parallel()
	s := remedied(t, reconfigures()) // the power-off of the window is an event too
	s.works()
	vms := s.vc.TaggedVMs("")
	window := func(r *remedy.Request) {
		r.Resize = &remedy.Resize{
			Resource: remedy.CPU, Mode: remedy.ModePowerCycle, Window: "* * * * *", Duration: clock.Duration(10 * time.Minute),
		}
	}
	s.must(s.vc.SetHardware(vms[0].Ref, simulation.Hardware{CPUs: 2, CoresPerSocket: 1}))
	r := s.byRequest(asks(remedy.KindResize, vms[0].Ref, window))
	if d := r.Decisions[0]; d.State != remediateapi.Applied || d.After.CPUs != 3 || !s.on(vms[0]) {
		t.Errorf("on: %v, %s", s.on(vms[0]), pretty(d))
	}
	s.wantHardware(vms[0].Ref, 3, 16<<10)
	s.must(s.vc.SetToolsRunning(vms[1].Ref, false)) // its guest cannot be asked
	r = s.byRequest(asks(remedy.KindResize, vms[1].Ref, window))
	if d := r.Decisions[0]; d.State != remediateapi.Deferred || !s.on(vms[1]) {
		t.Errorf("on: %v, %s", s.on(vms[1]), pretty(d))
	}
	s.report(remedy.KindReconfigure, vms[0].Ref)
	if !s.on(vms[0]) {
		t.Error("it is off in the end")
	}
	s.keep("cycled", remedy.WorkflowID(remedy.KindResize, ref(vms[0].Ref), s.queue))
}

func TestWhenTheWindowOpensTheOwnersWordIsAskedAgain(t *testing.T) {
	t.Parallel()
	s := remedied(t)
	s.worker()
	vm := s.vc.TaggedVMs("")[0]
	s.must(s.vc.SetHardware(vm.Ref, simulation.Hardware{CPUs: 2, CoresPerSocket: 1}))
	s.onCall("REST POST /com/vmware/cis/tagging/tag-association/{id}?~action=attach", 1, func(types.ManagedObjectReference) {
		_ = s.vc.SetTags(vm.Ref, remedy.CategoryMode, remedy.ModeOff)
	})
	r := s.byRequest(asks(remedy.KindResize, vm.Ref, func(r *remedy.Request) {
		r.Resize = &remedy.Resize{
			Resource: remedy.CPU, Mode: remedy.ModePowerCycle, Window: "* * * * *", Duration: clock.Duration(10 * time.Minute),
		}
	}))
	if d := r.Decisions[0]; d.State != remediateapi.Skipped || s.calls("ShutdownGuest") != 0 || !s.on(vm) {
		t.Errorf("%d shutdowns, on: %v, %s", s.calls("ShutdownGuest"), s.on(vm), pretty(d))
	}
	s.wantHardware(vm.Ref, 2, 16<<10)
}

func TestAPreemptedVMIsReconfiguredAndComesBack(t *testing.T) {
	t.Parallel()
	s := newSite(t, restoring())
	s.rules = []trigger.Rule{reconfigures()} // the alarm is told by the test alone
	vm := s.vc.TaggedVMs("cluster-a")[0]
	s.must(s.vc.SetTags(vm.Ref, remedy.CategoryMemory, "20480"))
	s.works()
	s.preempted(6)
	s.decided(remedy.KindReconfigure, vm.Ref, remediateapi.Applied)
	s.wantHardware(vm.Ref, 4, 20480)
	s.change("alarm", "cluster-a", 0, "red", "green")
	s.wantRestored(s.restored(), "completed", 6)
}

func TestAVMThatIsPoweredOnMeanwhileKeepsItsTagsForTheNextTime(t *testing.T) {
	t.Parallel()
	s := remedied(t)
	vm := s.vc.TaggedVMs("")[0].Ref
	s.must(s.vc.SetTags(vm, remedy.CategoryMemory, "20480"))
	s.must(s.vc.PowerOffAs(vm, "owner@example.org"))
	s.onCall("ReconfigVM_Task", 1, func(types.ManagedObjectReference) { _ = s.vc.PowerOnAs(vm, "owner@example.org") })
	s.worker()
	if d := s.byRequest(asks(remedy.KindReconfigure, vm, nil)).Decisions[0]; d.State != remediateapi.Deferred {
		t.Errorf("%s", pretty(d))
	}
	s.wantHardware(vm, 4, 16<<10)
}

func TestAChangedConfigurationIsReadAgainThreeTimes(t *testing.T) {
	t.Parallel()
	for times, want := range map[int]string{1: remediateapi.Applied, 3: remediateapi.Applied, 4: remediateapi.Failed} {
		s := remedied(t)
		vm := s.vc.TaggedVMs("")[0].Ref
		s.must(s.vc.SetTags(vm, remedy.CategoryMemory, "20480"))
		s.must(s.vc.PowerOffAs(vm, "owner@example.org"))
		s.vc.ChangeBeforeReconfigure(vm, times)
		s.worker()
		if d := s.byRequest(asks(remedy.KindReconfigure, vm, nil)).Decisions[0]; d.State != want {
			t.Errorf("changed %d times: %s", times, pretty(d))
		}
	}
}

func TestTheReconcilerAppliesWhatNoEventTold(t *testing.T) {
	t.Parallel()
	s := remedied(t)
	vms := s.vc.TaggedVMs("")
	for _, vm := range vms[:3] {
		s.must(s.vc.SetTags(vm.Ref, remedy.CategoryMemory, "20480"))
	}
	for _, vm := range vms[:2] {
		s.must(s.vc.PowerOffAs(vm.Ref, "owner@example.org"))
	}
	s.worker()
	reconcile := func(dry bool) (r remediateapi.ReconcileResult) {
		run, err := s.c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: s.id("reconcile"), TaskQueue: s.queue},
			remediateapi.ReconcileType, remediateapi.ReconcileInput{DryRun: dry})
		s.must(err)
		s.must(run.Get(t.Context(), &r))
		return r
	}
	if r := reconcile(true); r.State != remediateapi.Planned || r.Looked != 3 || r.On != 1 || len(r.Decisions) != 2 {
		t.Errorf("rehearsed: %s", pretty(r))
	}
	s.wantHardware(vms[0].Ref, 4, 16<<10)
	if r := reconcile(false); r.State != remediateapi.Applied || len(r.Decisions) != 2 || r.Decisions[0].State != remediateapi.Applied {
		t.Errorf("reconciled: %s", pretty(r))
	}
	s.keep("reconciled", s.id("reconcile"))
	s.wantHardware(vms[0].Ref, 4, 20480)
	s.wantHardware(vms[1].Ref, 4, 20480)
	s.wantHardware(vms[2].Ref, 4, 16<<10)
	if r := reconcile(false); len(r.Decisions) != 0 {
		t.Errorf("there is nothing more to do: %s", pretty(r))
	}
}
