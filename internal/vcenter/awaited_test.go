package vcenter

import (
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

var (
	vm1   = vsphere.Ref{Type: "VirtualMachine", Value: "vm-1"}
	vm2   = vsphere.Ref{Type: "VirtualMachine", Value: "vm-2"}
	task1 = vsphere.Ref{Type: "Task", Value: "task-1"}
)

// watched runs answers through a waiting and returns the reports in order.
type watched struct {
	*waiting
	refs    []vsphere.Ref
	results map[vsphere.Ref]WaitResult
}

func watching(waits ...Wait) *watched {
	w := &watched{results: map[vsphere.Ref]WaitResult{}}
	w.waiting = newWaiting(waits, func(r vsphere.Ref) string { return r.Value }, func(r vsphere.Ref, result WaitResult) {
		w.refs = append(w.refs, r)
		w.results[r] = result
	})
	return w
}

func (w *watched) take(updates ...types.ObjectUpdate) {
	w.apply(&types.UpdateSet{FilterSet: []types.PropertyFilterUpdate{{ObjectSet: updates}}})
	w.reportKnown()
}

func power(ref vsphere.Ref, state types.VirtualMachinePowerState) types.ObjectUpdate {
	return types.ObjectUpdate{Obj: toMoRef(ref), Kind: types.ObjectUpdateKindModify, ChangeSet: []types.PropertyChange{
		{Name: "runtime.powerState", Val: state},
	}}
}

func endedTask(ref vsphere.Ref) types.ObjectUpdate {
	return types.ObjectUpdate{Obj: toMoRef(ref), Kind: types.ObjectUpdateKindModify, ChangeSet: []types.PropertyChange{
		{Name: "info.state", Val: types.TaskInfoStateSuccess},
	}}
}

func failedTask(ref, entity vsphere.Ref, f types.BaseMethodFault) types.ObjectUpdate {
	return types.ObjectUpdate{Obj: toMoRef(ref), Kind: types.ObjectUpdateKindModify, ChangeSet: []types.PropertyChange{
		{Name: "info.entity", Val: toMoRef(entity)},
		{Name: "info.state", Val: types.TaskInfoStateError},
		{Name: "info.error", Val: types.LocalizedMethodFault{Fault: f, LocalizedMessage: "no"}},
	}}
}

const (
	on        = types.VirtualMachinePowerStatePoweredOn
	off       = types.VirtualMachinePowerStatePoweredOff
	suspended = types.VirtualMachinePowerStateSuspended
)

func TestWatch(t *testing.T) {
	alreadyOff := &types.InvalidPowerState{RequestedState: off, ExistingState: off}
	gone := types.LocalizedMethodFault{Fault: &types.ManagedObjectNotFound{Obj: toMoRef(vm1)}}
	cases := map[string]struct {
		updates []types.ObjectUpdate
		missing *types.LocalizedMethodFault
		want    WaitResult
		kind    Kind
		open    bool
	}{
		"still on":                            {updates: []types.ObjectUpdate{power(vm1, on)}, open: true},
		"powered off, its task under way":     {updates: []types.ObjectUpdate{power(vm1, on), power(vm1, off)}, open: true},
		"powered off by its task":             {updates: []types.ObjectUpdate{power(vm1, off), endedTask(task1)}, want: WaitResult{Off: true, ByTask: true}},
		"suspended by its task":               {updates: []types.ObjectUpdate{power(vm1, suspended), endedTask(task1)}, want: WaitResult{Off: true, ByTask: true}},
		"powered off, its task gone":          {updates: []types.ObjectUpdate{power(vm1, off), {Obj: toMoRef(task1), Kind: types.ObjectUpdateKindLeave}}, want: WaitResult{Off: true}},
		"destroyed":                           {updates: []types.ObjectUpdate{power(vm1, on), {Obj: toMoRef(vm1), Kind: types.ObjectUpdateKindLeave}}, want: WaitResult{Gone: true}},
		"missing from the start":              {missing: &gone, want: WaitResult{Gone: true}},
		"not ours to see":                     {missing: &types.LocalizedMethodFault{Fault: &types.NoPermission{}}, kind: NoPermission},
		"task failed, VM on":                  {updates: []types.ObjectUpdate{power(vm1, on), failedTask(task1, vm1, &types.TaskInProgress{})}, kind: Busy},
		"task failed for a reason of its own": {updates: []types.ObjectUpdate{power(vm1, on), failedTask(task1, vm1, &types.FileFault{})}, kind: TaskFailed},
		"task failed, VM off":                 {updates: []types.ObjectUpdate{failedTask(task1, vm1, &types.FileFault{}), power(vm1, off)}, want: WaitResult{Off: true}},
		"task found it off, state to follow":  {updates: []types.ObjectUpdate{power(vm1, on), failedTask(task1, vm1, alreadyOff)}, open: true},
		"task found it off, state known":      {updates: []types.ObjectUpdate{power(vm1, off), failedTask(task1, vm1, alreadyOff)}, want: WaitResult{Off: true}},
		"a task of another VM, id used again": {updates: []types.ObjectUpdate{power(vm1, on), failedTask(task1, vm2, &types.FileFault{})}, open: true},
		"task ended well, state to follow":    {updates: []types.ObjectUpdate{power(vm1, on), endedTask(task1)}, open: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := watching(Wait{VM: vm1, Task: task1})
			set := types.PropertyFilterUpdate{ObjectSet: c.updates}
			if c.missing != nil {
				set.MissingSet = []types.MissingObject{{Obj: toMoRef(vm1), Fault: *c.missing}}
			}
			w.apply(&types.UpdateSet{FilterSet: []types.PropertyFilterUpdate{set}})
			w.reportKnown()
			w.reportKnown() // nobody is reported twice
			got, reported := w.results[vm1]
			if reported == c.open || len(w.refs) > 1 || (w.open > 0) != c.open {
				t.Fatalf("reported %v, open %d", w.refs, w.open)
			}
			if got.Off != c.want.Off || got.ByTask != c.want.ByTask || got.Gone != c.want.Gone || KindOf(got.Err) != c.kind {
				t.Errorf("got %+v, want %+v with kind %q", got, c.want, c.kind)
			}
		})
	}
}

func TestWatchAfterRestart(t *testing.T) {
	w := watching(Wait{VM: vm1, Task: task1}, Wait{VM: vm2})
	w.take(power(vm1, on), power(vm2, off))
	w.restart()
	if n := len(w.spec().ObjectSet); n != 2 {
		t.Errorf("%d objects are asked for again, want VM 1 and its task", n)
	}
	w.take(power(vm1, on)) // the task is not known any more
	w.absent()
	w.reportKnown()
	if w.open != 1 {
		t.Fatalf("open %d: %v", w.open, w.results)
	}
	w.take(power(vm1, off))
	if w.open != 0 || !w.results[vm1].Off || len(w.refs) != 2 {
		t.Errorf("reports %v", w.refs)
	}
}

func TestOneVMIsReportedOnceHoweverOftenNamed(t *testing.T) {
	w := watching(Wait{VM: vm1}, Wait{VM: vm1, Task: task1})
	if w.open != 1 {
		t.Fatalf("open %d", w.open)
	}
	w.take(power(vm1, on), failedTask(task1, vm1, &types.FileFault{}))
	if KindOf(w.results[vm1].Err) != TaskFailed || len(w.refs) != 1 {
		t.Errorf("results %v", w.results)
	}
}

func TestATaskThatDoesNotEndHoldsNoVMThatIsOff(t *testing.T) {
	w := watching(Wait{VM: vm1, Task: task1})
	w.take(power(vm1, off))
	if w.open != 1 {
		t.Fatal("reported before its task told who turned it off")
	}
	w.vms[vm1].since = time.Now().Add(-2 * taskPatience)
	if w.reportKnown(); w.open != 0 || w.results[vm1].ByTask {
		t.Errorf("reported %+v, want off by somebody", w.results)
	}
}
