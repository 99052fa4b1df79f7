package vcenter

import (
	"time"

	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Wait is a VM to wait for, and the task that turns it off or on if there is one.
type Wait struct {
	VM     vsphere.Ref
	Task   vsphere.Ref   // zero: none, as after ShutdownGuest
	Action action.Action // that the task carries out, for the text of errors; empty: it turns the VM off or on
}

// WaitResult is the result for a VM: exactly one of Off, On, Gone and Err is set.
type WaitResult struct {
	Off       bool  // vCenter says it is powered off or suspended
	Suspended bool  // with Off: which of the two
	On        bool  // vCenter says it is powered on; with AwaitOff: although its task succeeded, so somebody powered it on again
	ByTask    bool  // with Off and On: its task succeeded, so that nobody else turned it off or on
	Gone      bool  // the VM no longer exists
	Err       error // its task failed, or vCenter lost it, see TaskLost, and the VM is as it was
}

// goal is what is waited for.
type goal int

const (
	goalOff  goal = iota // powered off or suspended
	goalOn               // powered on
	goalTask             // the end of the task, whatever it does and to what
)

func (g goal) String() string { return [...]string{"off", "on", "reconfigured"}[g] }

// reached reports whether a power state is the goal.
func (g goal) reached(state string) bool {
	switch g {
	case goalOff:
		return state == vsphere.PoweredOff || state == vsphere.Suspended
	case goalOn:
		return state == vsphere.PoweredOn
	}
	return false
}

// waiting holds what is known of the VMs that are waited for.
type waiting struct {
	goal     goal
	op       string // of an error
	vms      map[vsphere.Ref]*awaited
	tasks    map[vsphere.Ref]*awaited
	order    []*awaited
	open     int // not yet reported
	rounds   int // answers processed
	describe func(vsphere.Ref) string
	report   func(vsphere.Ref, WaitResult)
}

// awaited is one VM, its task, and their last known states.
type awaited struct {
	vm, task vsphere.Ref
	action   action.Action
	done     bool

	seen, gone bool
	denied     error // vCenter does not let us see the VM
	power      string
	since      time.Time // when it was first seen in the wanted state
	forgotten  time.Time // when its task was first seen to be lost
	undone     time.Time // when it was first seen unchanged although its task had succeeded
	taskSeen   bool
	taskLost   bool // vCenter no longer knows it, as after a restart
	taskState  types.TaskInfoState
	taskEntity vsphere.Ref
	taskFault  *types.LocalizedMethodFault
}

func newWaiting(waits []Wait, describe func(vsphere.Ref) string, report func(vsphere.Ref, WaitResult)) *waiting {
	w := &waiting{
		vms: make(map[vsphere.Ref]*awaited), tasks: make(map[vsphere.Ref]*awaited),
		op: "power off", describe: describe, report: report,
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
			a.task, a.action = wait.Task, wait.Action
			w.tasks[wait.Task] = a
		}
	}
	return w
}

// restart forgets what a lost collector said of the open VMs.
func (w *waiting) restart() {
	for _, a := range w.order {
		*a = awaited{vm: a.vm, task: a.task, action: a.action, done: a.done, since: a.since}
	}
}

// spec asks for the power state of the open VMs and the state of their tasks.
func (w *waiting) spec() types.PropertyFilterSpec {
	spec := types.PropertyFilterSpec{
		ReportMissingObjectsInResults: types.NewBool(true),
		PropSet: []types.PropertySpec{
			{Type: vsphere.TypeVM, PathSet: []string{"runtime.powerState"}},
			{Type: "Task", PathSet: []string{"info.state", "info.entity", "info.error"}},
		},
	}
	for _, a := range w.order {
		if a.done {
			continue
		}
		if w.goal != goalTask {
			spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: toMoRef(a.vm)})
		}
		if !a.task.Zero() {
			spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: toMoRef(a.task)})
		}
	}
	return spec
}

// apply takes in an answer.
func (w *waiting) apply(set *types.UpdateSet) {
	for _, filter := range set.FilterSet {
		for _, update := range filter.ObjectSet {
			w.update(update)
		}
		for _, missing := range filter.MissingSet {
			w.missing(missing)
		}
	}
}

func (w *waiting) update(u types.ObjectUpdate) {
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

func (w *waiting) missing(m types.MissingObject) {
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
func (w *waiting) absent() {
	for _, a := range w.order {
		a.taskLost = a.taskLost || !a.taskSeen
		if !a.seen && a.denied == nil && w.goal != goalTask {
			a.gone = true
		}
	}
}

// reportKnown reports the VMs whose fate is known, and how many they were.
func (w *waiting) reportKnown() (reported int) {
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

// result is what became of a VM, and whether that is known yet.
func (w *waiting) result(a *awaited) (WaitResult, bool) {
	succeeded := a.taskState == types.TaskInfoStateSuccess
	switch {
	case a.gone:
		return WaitResult{Gone: true}, true
	case w.goal == goalTask && (succeeded || a.taskLost && a.taskState != types.TaskInfoStateError):
		return WaitResult{ByTask: succeeded}, true
	case w.goal == goalOff && w.goal.reached(a.power):
		return WaitResult{Off: true, Suspended: a.power == vsphere.Suspended, ByTask: succeeded}, a.taskOver()
	case w.goal == goalOn && w.goal.reached(a.power):
		return WaitResult{On: true, ByTask: succeeded}, a.taskOver()
	case w.goal == goalOff && succeeded && a.cameBack():
		return WaitResult{On: true, ByTask: true}, true
	}
	err := w.failure(a)
	return WaitResult{Err: err}, err != nil
}

// failure returns why a VM cannot become as wanted; nil while it can.
func (w *waiting) failure(a *awaited) error {
	switch {
	case a.denied != nil:
		return w.failed(a, "watch", a.denied, classify(a.denied))
	case a.taskState == types.TaskInfoStateError && a.taskEntity == a.vm && !a.found(w.goal):
		kind, err := a.taskError()
		return w.failed(a, w.opOf(a), err, kind)
	case w.goal != goalTask && a.taskForgotten():
		return w.failed(a, w.opOf(a), errTaskLost, TaskFailed)
	}
	return nil
}

// taskForgotten reports whether vCenter no longer knows the task of a VM that is not as wanted, and has had a moment
// to show what the task did before.
func (a *awaited) taskForgotten() bool {
	if a.task.Zero() || !a.taskLost || a.power == "" || a.taskState == types.TaskInfoStateSuccess {
		return false
	}
	if a.forgotten.IsZero() {
		a.forgotten = time.Now()
	}
	return time.Since(a.forgotten) > taskPatience
}

// cameBack reports whether a VM is on although its task turned it off, and vCenter has had time to show it off.
func (a *awaited) cameBack() bool {
	if a.power != vsphere.PoweredOn {
		return false
	}
	if a.undone.IsZero() {
		a.undone = time.Now()
	}
	return time.Since(a.undone) > undonePatience
}

// undonePatience is how long vCenter may take to show the effect of a successful task.
const undonePatience = 3 * time.Second

func (w *waiting) opOf(a *awaited) string {
	if a.action != "" {
		return a.action.Words()
	}
	return w.op
}

// taskPatience is how long the task of a VM that is off or on may take to end. The task shows who caused the change.
const taskPatience = time.Second

// taskOver reports whether nothing more is to be learned from the task of a VM that is as wanted.
func (a *awaited) taskOver() bool {
	if a.since.IsZero() {
		a.since = time.Now()
	}
	return time.Since(a.since) > taskPatience || a.task.Zero() || a.taskLost || a.taskState == types.TaskInfoStateSuccess || a.taskState == types.TaskInfoStateError
}

// found reports whether the task failed because the VM was as wanted already: then its power state, which
// may arrive a moment later, decides.
func (a *awaited) found(want goal) bool {
	if a.taskFault == nil {
		return false
	}
	f, ok := a.taskFault.Fault.(*types.InvalidPowerState)
	return ok && want.reached(string(f.ExistingState))
}

func (a *awaited) taskError() (Kind, error) { return taskError(a.taskFault) }

// taskError classifies why a task failed.
func taskError(f *types.LocalizedMethodFault) (Kind, error) {
	if f == nil {
		return TaskFailed, errTaskFailed
	}
	err := task.Error{LocalizedMethodFault: f}
	kind := classify(err)
	if kind == Unknown {
		kind = TaskFailed
	}
	return kind, err
}

func (w *waiting) failed(a *awaited, op string, err error, kind Kind) error {
	return &Error{Op: op, Object: w.describe(a.vm), Kind: kind, Err: err}
}
