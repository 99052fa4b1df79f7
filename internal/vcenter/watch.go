package vcenter

import (
	"time"

	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// Wait is a VM to wait for, and the task that turns it off if there is one.
type Wait struct {
	VM   policy.Ref
	Task policy.Ref // zero: none, as after ShutdownGuest
}

// WaitResult is what became of a VM: exactly one of Off, Gone and Err is set.
type WaitResult struct {
	Off    bool  // vCenter says it is powered off or suspended
	ByTask bool  // with Off: its task succeeded, so that nobody else turned it off
	Gone   bool  // the VM no longer exists
	Err    error // its task failed and it is still on
}

// watch holds what is known of the VMs that AwaitOff waits for.
type watch struct {
	vms      map[policy.Ref]*awaited
	tasks    map[policy.Ref]*awaited
	order    []*awaited
	open     int // not yet reported
	rounds   int // answers taken
	describe func(policy.Ref) string
	report   func(policy.Ref, WaitResult)
}

// awaited is one VM, its task, and vCenter's last word on them.
type awaited struct {
	vm, task policy.Ref
	done     bool

	seen, gone bool
	denied     error // vCenter does not let us see the VM
	power      string
	offSince   time.Time // when it was first seen off
	taskSeen   bool
	taskLost   bool // vCenter no longer has it, as after a restart
	taskState  types.TaskInfoState
	taskEntity policy.Ref
	taskFault  *types.LocalizedMethodFault
}

func newWatch(waits []Wait, describe func(policy.Ref) string, report func(policy.Ref, WaitResult)) *watch {
	w := &watch{
		vms: make(map[policy.Ref]*awaited), tasks: make(map[policy.Ref]*awaited),
		describe: describe, report: report,
	}
	for _, wait := range waits {
		a := w.vms[wait.VM]
		if a == nil {
			a = &awaited{vm: wait.VM}
			w.vms[wait.VM] = a
			w.order = append(w.order, a)
			w.open++
		}
		if !wait.Task.Zero() {
			a.task = wait.Task
			w.tasks[wait.Task] = a
		}
	}
	return w
}

// restart forgets what a lost collector said of the open VMs.
func (w *watch) restart() {
	for _, a := range w.order {
		*a = awaited{vm: a.vm, task: a.task, done: a.done, offSince: a.offSince}
	}
}

// spec asks for the power state of the open VMs and the state of their tasks.
func (w *watch) spec() types.PropertyFilterSpec {
	spec := types.PropertyFilterSpec{
		ReportMissingObjectsInResults: types.NewBool(true),
		PropSet: []types.PropertySpec{
			{Type: policy.TypeVM, PathSet: []string{"runtime.powerState"}},
			{Type: "Task", PathSet: []string{"info.state", "info.entity", "info.error"}},
		},
	}
	for _, a := range w.order {
		if a.done {
			continue
		}
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: toMoRef(a.vm)})
		if !a.task.Zero() {
			spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: toMoRef(a.task)})
		}
	}
	return spec
}

// apply takes in an answer.
func (w *watch) apply(set *types.UpdateSet) {
	for _, filter := range set.FilterSet {
		for _, update := range filter.ObjectSet {
			w.update(update)
		}
		for _, missing := range filter.MissingSet {
			w.missing(missing)
		}
	}
}

func (w *watch) update(u types.ObjectUpdate) {
	ref := fromMoRef(u.Obj)
	if a := w.vms[ref]; a != nil {
		a.seen = true
		a.gone = u.Kind == types.ObjectUpdateKindLeave
		for _, change := range u.ChangeSet {
			if state, ok := change.Val.(types.VirtualMachinePowerState); ok {
				a.power = string(state)
			}
		}
		for _, property := range u.MissingSet {
			a.denied = task.Error{LocalizedMethodFault: &property.Fault}
		}
	}
	if a := w.tasks[ref]; a != nil {
		a.taskSeen, a.taskLost = true, u.Kind == types.ObjectUpdateKindLeave
		a.taskChanged(u.ChangeSet)
	}
}

func (a *awaited) taskChanged(changes []types.PropertyChange) {
	for _, change := range changes {
		switch v := change.Val.(type) {
		case types.TaskInfoState:
			a.taskState = v
		case types.ManagedObjectReference:
			a.taskEntity = fromMoRef(v)
		case types.LocalizedMethodFault:
			a.taskFault = &v
		}
	}
}

func (w *watch) missing(m types.MissingObject) {
	if a := w.tasks[fromMoRef(m.Obj)]; a != nil {
		a.taskLost = true
	}
	a := w.vms[fromMoRef(m.Obj)]
	if a == nil {
		return
	}
	err := task.Error{LocalizedMethodFault: &m.Fault}
	if holds[*types.ManagedObjectNotFound](err) {
		a.gone = true
	} else {
		a.denied = err
	}
}

// absent marks the VMs and tasks that a complete first answer did not name.
func (w *watch) absent() {
	for _, a := range w.order {
		a.taskLost = a.taskLost || !a.taskSeen
		if !a.seen && a.denied == nil {
			a.gone = true
		}
	}
}

// settle reports the VMs whose fate is known, and how many they were.
func (w *watch) settle() (reported int) {
	for _, a := range w.order {
		if a.done {
			continue
		}
		if result, ok := w.result(a); ok {
			a.done = true
			w.open--
			reported++
			w.report(a.vm, result)
		}
	}
	return reported
}

func (w *watch) result(a *awaited) (WaitResult, bool) {
	switch {
	case a.gone:
		return WaitResult{Gone: true}, true
	case a.power == policy.PoweredOff, a.power == policy.Suspended:
		return WaitResult{Off: true, ByTask: a.taskState == types.TaskInfoStateSuccess}, a.taskOver()
	case a.denied != nil:
		return w.failed(a, "watch", a.denied, classify(a.denied)), true
	case a.taskState == types.TaskInfoStateError && a.taskEntity == a.vm && !a.foundOff():
		kind, err := a.taskError()
		return w.failed(a, "power off", err, kind), true
	}
	return WaitResult{}, false
}

// taskPatience is how long the task of a VM that is off may take to end. It tells who turned it off.
const taskPatience = time.Second

// taskOver tells whether nothing more is to be learned from the task of a VM that is off.
func (a *awaited) taskOver() bool {
	if a.offSince.IsZero() {
		a.offSince = time.Now()
	}
	return time.Since(a.offSince) > taskPatience || a.task.Zero() || a.taskLost || a.taskState == types.TaskInfoStateSuccess || a.taskState == types.TaskInfoStateError
}

// foundOff tells whether the task failed because the VM was off already: then its power state, which
// may arrive a moment later, decides.
func (a *awaited) foundOff() bool {
	if a.taskFault == nil {
		return false
	}
	f, ok := a.taskFault.Fault.(*types.InvalidPowerState)
	return ok && f.ExistingState != types.VirtualMachinePowerStatePoweredOn
}

func (a *awaited) taskError() (Kind, error) {
	if a.taskFault == nil {
		return TaskFailed, errTaskFailed
	}
	err := task.Error{LocalizedMethodFault: a.taskFault}
	kind := classify(err)
	if kind == Unknown {
		kind = TaskFailed
	}
	return kind, err
}

func (w *watch) failed(a *awaited, op string, err error, kind Kind) WaitResult {
	return WaitResult{Err: &Error{Op: op, Object: w.describe(a.vm), Kind: kind, Err: err}}
}
