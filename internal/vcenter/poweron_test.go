package vcenter

import (
	"errors"
	"maps"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestASuspendedVMIsOffAndOurs(t *testing.T) {
	v, g := warm(t, small())
	refs, got := taggedRefs(v), newReports(t)
	since, err := g.ServerTime(t.Context())
	check(t, err)
	task, err := g.Suspend(t.Context(), refs[0])
	check(t, err)
	check(t, v.SuspendAs(toMoRef(refs[1]), "owner@vsphere.local"))
	check(t, g.AwaitOff(t.Context(), []Wait{{VM: refs[0], Task: task, Action: action.Suspend}, {VM: refs[1]}}, got.add))
	if r := got.of[refs[0]]; !r.Off || !r.Suspended || !r.ByTask {
		t.Errorf("ours: %+v", r)
	}
	if r := got.of[refs[1]]; !r.Off || !r.Suspended || r.ByTask {
		t.Errorf("the owner's: %+v", r)
	}
	found, err := g.PowerOffEvidence(t.Context(), refs, since)
	check(t, err)
	if e := found[refs[0]]; !e.Ours || e.Event != "VmSuspendedEvent" {
		t.Errorf("evidence of ours: %+v", e)
	}
	if e := found[refs[1]]; e.Ours || e.Event != "VmSuspendedEvent" {
		t.Errorf("evidence of the owner's: %+v", e)
	}
}

func TestAFailedSuspendIsCalledSo(t *testing.T) {
	v, g := warm(t, small())
	ref, got := taggedRefs(v)[0], newReports(t)
	v.FailTask(toMoRef(ref), &types.FileFault{}, 1)
	task, err := g.Suspend(t.Context(), ref)
	check(t, err)
	check(t, g.AwaitOff(t.Context(), []Wait{{VM: ref, Task: task, Action: action.Suspend}}, got.add))
	var e *Error
	if !errors.As(got.of[ref].Err, &e) || e.Op != "suspend" || e.Kind != TaskFailed {
		t.Errorf("reported %+v", got.of[ref])
	}
}

func TestPowerOnBringsAVMBack(t *testing.T) {
	v, g := warm(t, small())
	refs, got := taggedRefs(v), newReports(t)
	cluster := v.Inventory().Clusters[0].Name
	check(t, v.SetPowerState(toMoRef(refs[0]), off))
	check(t, v.SetPowerState(toMoRef(refs[1]), types.VirtualMachinePowerStateSuspended))
	before, _ := v.Usage(cluster)
	var waits []Wait
	for _, ref := range append(refs, gone) { // the third is on already
		task, err := g.PowerOn(t.Context(), ref)
		if ref == gone {
			wantKind(t, err, NotFound)
			continue
		}
		check(t, err)
		waits = append(waits, Wait{VM: ref, Task: task})
	}
	check(t, g.AwaitOn(t.Context(), append(waits, Wait{VM: gone}), got.add))
	for i, ref := range refs {
		if r := got.of[ref]; !r.On || r.Off || r.ByTask != (i < 2) {
			t.Errorf("VM %d: %+v", i, r)
		}
	}
	if !got.of[gone].Gone {
		t.Errorf("a VM that is gone: %+v", got.of[gone])
	}
	if after, _ := v.Usage(cluster); after <= before {
		t.Errorf("usage stays at %.1f %%", after)
	}
}

func TestAHostWithoutRoomRefuses(t *testing.T) {
	v, g := warm(t, small())
	ref, got := taggedRefs(v)[0], newReports(t)
	check(t, v.SetPowerState(toMoRef(ref), off))
	check(t, v.SetClusterUsage("cluster-a", 50, 99))
	task, err := g.PowerOn(t.Context(), ref)
	check(t, err)
	check(t, g.AwaitOn(t.Context(), []Wait{{VM: ref, Task: task}}, got.add))
	wantKind(t, got.of[ref].Err, NoRoom)
	started := g.PowerOnMany(t.Context(), []vsphere.Ref{ref})
	wantKind(t, started[ref].Err, NoRoom)
	if !started[ref].Task.Zero() {
		t.Errorf("started %+v", started[ref])
	}
}

func TestPowerOnManyLetsDRSPlaceThem(t *testing.T) {
	v, g := warm(t, simulation.Options{Clusters: 1, HostsPerCluster: 2, VMsPerCluster: 12, Tagged: 12})
	refs, got := taggedRefs(v), newReports(t)
	hosts := v.Inventory().Clusters[0].Hosts
	for _, ref := range refs {
		check(t, v.SetPowerState(toMoRef(ref), off))
	}
	check(t, v.SetHostMaintenance(hosts[0].Ref, true))
	v.ResetCalls()
	started := g.PowerOnMany(t.Context(), append(refs[:6:6], gone))
	wantCalls(t, v, 9)
	var waits []Wait
	for ref, s := range started {
		if ref == gone {
			if s.Err == nil {
				t.Error("a VM that is gone was started")
			}
			continue
		}
		check(t, s.Err)
		waits = append(waits, Wait{VM: ref, Task: s.Task})
	}
	check(t, g.AwaitOn(t.Context(), waits, got.add))
	state, err := g.State(t.Context(), "", refs[:6])
	check(t, err)
	for _, ref := range refs[:6] {
		if !got.of[ref].On || !got.of[ref].ByTask || state[ref].Host != fromMoRef(hosts[1].Ref) {
			t.Errorf("%v: %+v on %v", ref, got.of[ref], state[ref].Host)
		}
	}
}

func TestPowerOnManyFallsBackToOneByOne(t *testing.T) {
	v, g := warm(t, small())
	refs, got := taggedRefs(v), newReports(t)
	check(t, v.SetPowerState(toMoRef(refs[0]), off))
	v.FailCall("PowerOnMultiVM_Task", nil, &types.NotSupported{}, 1)
	started := g.PowerOnMany(t.Context(), refs[:1])
	check(t, started[refs[0]].Err)
	check(t, g.AwaitOn(t.Context(), []Wait{{VM: refs[0], Task: started[refs[0]].Task}}, got.add))
	if !got.of[refs[0]].On {
		t.Errorf("reported %+v", got.of[refs[0]])
	}
}

func TestPowerOnManyDuringAnOutageStartsNone(t *testing.T) {
	v, g := warm(t, small())
	refs := taggedRefs(v)
	v.Outage()
	for ref, s := range g.PowerOnMany(t.Context(), refs) {
		if !KindOf(s.Err).Outage() {
			t.Errorf("%v: %+v", ref, s)
		}
	}
}

func TestEachActionThatAsksNoGuestHasACallAndNoOtherActionHas(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	for _, what := range append(action.All(), "hibernate") {
		cut := what != action.ShutdownGuest && what != action.Throttle && what != "hibernate"
		calls := v.Calls()
		_, err := g.Cut(t.Context(), what, ref)
		if (err == nil) != cut {
			t.Errorf("%s: %v", what, err)
		}
		if !cut && !maps.Equal(calls, v.Calls()) {
			t.Errorf("%s sent something", what)
		}
	}
}
