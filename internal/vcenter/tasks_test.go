package vcenter

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func number(n int) *int { return &n }

func TestReconfigureChangesWhatDiffers(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	check(t, v.SetPowerState(toMoRef(ref), off))
	before := hardwareOf(t, g, ref)
	v.ResetCalls()
	yes := true
	change := placement.Change{CPUs: number(8), CoresPerSocket: number(4), MemoryHotAdd: &yes}
	task, err := g.Reconfigure(t.Context(), ref, change, before.ChangeVersion)
	check(t, err)
	wantCalls(t, v, 1)
	check(t, g.AwaitTask(t.Context(), task, nil))
	after := hardwareOf(t, g, ref)
	if after.Hardware != change.Apply(before.Hardware) {
		t.Errorf("hardware %+v", after.Hardware)
	}
}

func TestAStaleChangeVersionIsAConflict(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	before := hardwareOf(t, g, ref)
	check(t, v.ReconfigureAs(toMoRef(ref), "owner@vsphere.local"))
	task, err := g.Reconfigure(t.Context(), ref, placement.Change{CPUs: number(8)}, before.ChangeVersion)
	if err == nil {
		err = g.AwaitTask(t.Context(), task, nil)
	}
	wantKind(t, err, Conflict)
}

func TestHotAddThatIsOffIsRefusedWhileTheVMIsOn(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	for _, change := range []placement.Change{{CPUs: number(8)}, {MemoryMB: number(32 << 10)}} {
		task, err := g.Reconfigure(t.Context(), ref, change, "")
		check(t, err)
		err = g.AwaitTask(t.Context(), task, nil)
		wantKind(t, err, InvalidState)
		if !strings.Contains(err.Error(), ref.Value) || !strings.Contains(err.Error(), "HotPlugNotSupported") {
			t.Error(err)
		}
	}
}

func TestReconfigureRefusals(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	_, err := g.Reconfigure(t.Context(), ref, placement.Change{}, "1")
	wantKind(t, err, Invalid)
	_, err = g.Reconfigure(t.Context(), vsphere.Ref{Type: vsphere.TypeHost, Value: "host-1"}, placement.Change{CPUs: number(1)}, "1")
	wantKind(t, err, NotFound)
	wantCalls(t, v, 0)
	_, err = g.Reconfigure(t.Context(), gone, placement.Change{CPUs: number(1)}, "1")
	wantKind(t, err, NotFound)
	v.FailCall("ReconfigVM_Task", moRef(ref), &types.NoPermission{PrivilegeId: "VirtualMachine.Config.CPUCount"}, 1)
	_, err = g.Reconfigure(t.Context(), ref, placement.Change{CPUs: number(1)}, "")
	wantKind(t, err, NoPermission)
	if !strings.Contains(err.Error(), "VirtualMachine.Config.CPUCount") {
		t.Error(err)
	}
	check(t, v.TerminateSessions())
	task, err := g.Reconfigure(t.Context(), ref, placement.Change{CPUs: number(4)}, "")
	check(t, err)
	check(t, g.AwaitTask(t.Context(), task, nil))
}

func TestFaultsOfTasksHaveKinds(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	for _, c := range []struct {
		fault types.BaseMethodFault
		want  Kind
	}{
		{&types.ConcurrentAccess{}, Conflict},
		{&types.InvalidPowerState{}, InvalidState},
		{&types.CpuHotPlugNotSupported{}, InvalidState},
		{&types.MemoryHotPlugNotSupported{}, InvalidState},
		{&types.InvalidArgument{}, Invalid},
		{&types.InvalidVmConfig{}, Invalid},
		{&types.NumVirtualCpusIncompatible{}, Invalid},
		{&types.NumVirtualCpusNotSupported{}, Invalid},
		{&types.MemorySizeNotSupported{}, Invalid},
		{&types.NoDiskSpace{}, NoRoom},
		{&types.InsufficientStorageSpace{}, NoRoom},
		{&types.DatastoreNotWritableOnHost{}, NoRoom},
		{&types.InsufficientMemoryResourcesFault{}, NoRoom},
		{&types.TaskInProgress{}, Busy},
		{&types.RequestCanceled{}, TaskFailed},
		{&types.NotAuthenticated{}, TaskFailed},
		{&types.FileFault{}, TaskFailed},
		{&types.NoPermission{PrivilegeId: "Datastore.AllocateSpace"}, NoPermission},
		{&types.ManagedObjectNotFound{}, NotFound},
	} {
		v.FailTask(toMoRef(ref), c.fault, 1)
		task, err := g.PowerOff(t.Context(), ref)
		check(t, err)
		err = g.AwaitTask(t.Context(), task, nil)
		if KindOf(err) != c.want {
			t.Errorf("%T is %q, want %q: %v", c.fault, KindOf(err), c.want, err)
		}
		if c.want == NoPermission && !strings.Contains(err.Error(), "Datastore.AllocateSpace") {
			t.Error(err)
		}
	}
}

func TestATaskIsAwaitedAcrossLostSessionsAndOutages(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	v.SetTaskDelayFor(toMoRef(ref), 700*time.Millisecond)
	task, err := g.PowerOff(t.Context(), ref)
	check(t, err)
	time.AfterFunc(100*time.Millisecond, func() {
		if err := v.TerminateSessions(); err != nil {
			t.Error(err)
		}
		v.FailCall("RetrievePropertiesEx", nil, &types.HostCommunication{}, 2)
	})
	v.ResetCalls()
	check(t, g.AwaitTask(t.Context(), task, nil))
	if v.PowerState(toMoRef(ref)) != off {
		t.Error("the task had not ended")
	}
	if n := v.Calls()["RetrievePropertiesEx"]; n > 10 {
		t.Errorf("looked %d times", n)
	}
}

func TestATaskThatIsGoneIsNotFound(t *testing.T) {
	v, g := warm(t, small())
	wantKind(t, g.AwaitTask(t.Context(), vsphere.Ref{Type: "Task", Value: "task-0"}, nil), NotFound)
	wantKind(t, g.AwaitTask(t.Context(), vsphere.Ref{}, nil), NotFound)
	ref := taggedRefs(v)[0]
	v.SetTaskDelayFor(toMoRef(ref), time.Minute)
	task, err := g.PowerOff(t.Context(), ref)
	check(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := g.AwaitTask(ctx, task, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a task that does not end: %v", err)
	}
	v.FailCall("RetrievePropertiesEx", nil, &types.NoPermission{PrivilegeId: "System.Read"}, -1)
	wantKind(t, g.AwaitTask(t.Context(), task, nil), NoPermission)
}

func TestProgressIsTold(t *testing.T) {
	_, g := warm(t, small())
	var told []int
	for _, percent := range []any{nil, int32(0), int32(40)} {
		o := object{props: map[string]any{"info.state": types.TaskInfoStateRunning, "info.progress": percent}}
		if over, _ := g.taskResult(o); over {
			t.Error("a running task is over")
		}
		p := progressOf(o)
		if p >= 0 {
			told = append(told, p)
		}
	}
	if !slices.Equal(told, []int{0, 40}) {
		t.Errorf("told %v", told)
	}
}

func TestARunningTaskIsFoundAgain(t *testing.T) {
	v, g := warm(t, small())
	refs := taggedRefs(v)
	const powerOff = "VirtualMachine.powerOff"
	_, found, err := g.RunningTask(t.Context(), refs[0], powerOff)
	check(t, err)
	if found {
		t.Error("an idle VM has a task")
	}
	v.SetTaskDelayFor(toMoRef(refs[0]), 300*time.Millisecond)
	want, err := g.PowerOff(t.Context(), refs[0])
	check(t, err)
	v.ResetCalls()
	task, found, err := g.RunningTask(t.Context(), refs[0], powerOff)
	check(t, err)
	wantCalls(t, v, 1)
	if !found || task != want {
		t.Errorf("found %v %v, want %v", found, task, want)
	}
	_, found, err = g.RunningTask(t.Context(), refs[0], RelocateOperation)
	check(t, err)
	if found {
		t.Error("a power-off is taken for a relocation")
	}
	check(t, g.AwaitTask(t.Context(), want, nil))
	_, found, err = g.RunningTask(t.Context(), refs[0], powerOff)
	check(t, err)
	if found {
		t.Error("a task that has ended is running")
	}
	_, _, err = g.RunningTask(t.Context(), gone, RelocateOperation)
	wantKind(t, err, NotFound)
}

// TestOperationsAreCalledSo holds the names that RunningTask looks for to those that the tasks carry.
func TestOperationsAreCalledSo(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	reconfigured, err := g.Reconfigure(t.Context(), ref, placement.Change{CPUs: number(4)}, "")
	check(t, err)
	check(t, g.AwaitTask(t.Context(), reconfigured, nil))
	o, err := g.readTask(t.Context(), call{}, reconfigured)
	check(t, err)
	if id := o.text("info.descriptionId"); !isOperation(id, ReconfigureOperation) || isOperation(id, RelocateOperation) {
		t.Errorf("a reconfiguration is called %q", id)
	}
	stores := v.Inventory().Clusters[0].Datastores
	relocated, err := g.Relocate(t.Context(), ref, fromMoRef(stores[0]), fromMoRef(stores[1]))
	check(t, err)
	check(t, g.AwaitTask(t.Context(), relocated, nil))
	o, err = g.readTask(t.Context(), call{}, relocated)
	check(t, err)
	if id := o.text("info.descriptionId"); !isOperation(id, RelocateOperation) {
		t.Errorf("a relocation is called %q", id)
	}
}
