package vcenter

import (
	"context"
	"slices"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// vCenter's names of the tasks of Reconfigure and Relocate, for RunningTask.
const (
	ReconfigureOperation = "VirtualMachine.reconfigure"
	RelocateOperation    = "VirtualMachine.relocate"
)

// operationIDs are the description ids under which an operation is known, other than its own. The simulator
// names them after the methods.
var operationIDs = map[string][]string{
	ReconfigureOperation: {"VirtualMachine.reconfigVm"},
	RelocateOperation:    {"VirtualMachine.relocateVm"},
}

const (
	firstTaskPoll   = 100 * time.Millisecond
	longestTaskPoll = 2 * time.Second
)

var taskProperties = []string{
	"info.state", "info.progress", "info.error", "info.entity", "info.entityName", "info.name", "info.descriptionId", "info.queueTime",
}

// AwaitTask waits until the task has ended, across lost sessions and restarts of vCenter, and returns why it
// failed, or nil. The error is an *Error like that of a call, of kind TaskFailed if the fault
// is not more specific or the task was cancelled. Kind NotFound: vCenter no longer knows the task, which has
// ended long ago or with a restart; or the VM no longer exists. Check the object then. Progress, if not nil, is
// called with each higher percentage. A call every 2 seconds, the first ones sooner.
func (g *Gateway) AwaitTask(ctx context.Context, task vsphere.Ref, progress func(percent int)) error {
	c := call{op: "wait for", object: "task " + task.Value}
	if task.Zero() {
		return &Error{Op: c.op, Object: "a task", Kind: NotFound, Err: errTaskLost}
	}
	told, wait, failures := -1, firstTaskPoll, 0
	for {
		o, err := g.readTask(ctx, c, task)
		switch {
		case ctx.Err() != nil:
			return interrupted(c, ctx.Err())
		case err != nil:
			if kind := KindOf(err); !kind.Outage() {
				if failures++; failures >= patience || !kind.Retryable() {
					return err
				}
			}
			g.log.Debug("a task could not be looked at", "task", task.Value, "reason", err)
		default:
			failures = 0
			if percent := progressOf(o); percent > told && progress != nil {
				told = percent
				progress(percent)
			}
			if over, err := g.taskResult(o); over {
				g.log.Debug("task ended", "task", task.Value, "reason", err)
				return err
			}
		}
		if !clock.Sleep(ctx, wait) {
			return interrupted(c, ctx.Err())
		}
		wait = min(2*wait, longestTaskPoll)
	}
}

func (g *Gateway) readTask(ctx context.Context, c call, task vsphere.Ref) (object, error) {
	objects, err := g.retrieve(ctx, c, types.PropertyFilterSpec{
		PropSet:   []types.PropertySpec{{Type: task.Type, PathSet: taskProperties}},
		ObjectSet: []types.ObjectSpec{{Obj: toMoRef(task)}},
	})
	if err != nil {
		return object{}, err
	}
	if len(objects) == 0 {
		return object{}, &Error{Op: c.op, Object: c.object, Kind: NotFound, Err: errTaskLost}
	}
	if denied := objects[0].denied["info.state"]; denied != nil {
		return object{}, g.failure(c, denied)
	}
	return objects[0], nil
}

// progressOf is the progress of a task in percent; -1 if unknown.
func progressOf(o object) int {
	if percent, ok := o.props["info.progress"].(int32); ok {
		return int(percent)
	}
	return -1
}

// taskResult reports whether the task has ended, and why it failed.
func (g *Gateway) taskResult(o object) (over bool, err error) {
	switch types.TaskInfoState(o.text("info.state")) {
	case types.TaskInfoStateSuccess:
		return true, nil
	case types.TaskInfoStateError:
		entity := o.refTo("info.entity")
		g.names.learn(entity, unescape(o.text("info.entityName")))
		c := call{op: o.text("info.name"), object: g.names.describe(entity)}
		if c.op == "" {
			c.op = "task " + o.ref.Value
		}
		var fault *types.LocalizedMethodFault
		if f, ok := o.props["info.error"].(types.LocalizedMethodFault); ok {
			fault = &f
		}
		kind, err := taskError(fault)
		if kind.Outage() { // vCenter answered: it is the task that could not reach something
			kind = TaskFailed
		}
		failed := &Error{Op: c.op, Object: c.object, Kind: kind, Err: err}
		if kind == NoPermission {
			failed.Remedy = permissionRemedy(err, g.User(), "")
		}
		return true, failed
	}
	return false, nil
}

// RunningTask returns the queued or running task of this operation on the VM, the latest of several: to continue
// waiting for a task that was begun before a crash. Kind NotFound: the VM no longer exists. One call.
func (g *Gateway) RunningTask(ctx context.Context, ref vsphere.Ref, operation string) (task vsphere.Ref, found bool, err error) {
	c := call{op: "list the tasks of", object: g.names.describe(ref)}
	objects, err := g.retrieve(ctx, c, types.PropertyFilterSpec{
		PropSet: []types.PropertySpec{
			{Type: vsphere.TypeVM, PathSet: []string{"name", "recentTask"}},
			{Type: "Task", PathSet: taskProperties},
		},
		ObjectSet: []types.ObjectSpec{{Obj: toMoRef(ref), SelectSet: []types.BaseSelectionSpec{recentTasks(vsphere.TypeVM)}}},
	})
	if err != nil {
		return vsphere.Ref{}, false, err
	}
	exists := false
	var latest time.Time
	for _, o := range objects {
		if o.ref == ref {
			exists = true
			g.names.learn(ref, o.text("name"))
		}
		if o.ref.Type != "Task" || !o.pending() || !isOperation(o.text("info.descriptionId"), operation) {
			continue
		}
		queued, _ := o.props["info.queueTime"].(time.Time)
		if !found || queued.After(latest) {
			task, found, latest = o.ref, true, queued
		}
	}
	if !exists {
		return vsphere.Ref{}, false, &Error{Op: c.op, Object: c.object, Kind: NotFound, Err: errGone}
	}
	return task, found, nil
}

// recentTasks traverses from an object of the type to its recent tasks.
func recentTasks(kind string) *types.TraversalSpec {
	return &types.TraversalSpec{Type: kind, Path: "recentTask"}
}

// pending reports whether a task is queued or running.
func (o object) pending() bool {
	state := types.TaskInfoState(o.text("info.state"))
	return state == types.TaskInfoStateQueued || state == types.TaskInfoStateRunning
}

func isOperation(id, operation string) bool {
	return id == operation || slices.Contains(operationIDs[operation], id)
}
