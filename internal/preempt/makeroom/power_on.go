package makeroom

import (
	"context"
	"errors"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// PowerOnInput asks to power on a VM for which room was made.
type PowerOnInput struct {
	VM   vsphere.Ref `json:"vm"`
	Name string      `json:"name"`
	Host vsphere.Ref `json:"host"` // where its room is
	Tag  string      `json:"tag"`  // by which VMs go; any tag that vCenter has
}

// PowerOnResult is vCenter's answer.
type PowerOnResult struct {
	On      bool   `json:"on,omitempty"`
	Refused string `json:"refused,omitempty"` // why it is off, in words
	NoRoom  bool   `json:"noRoom,omitempty"`  // for lack of resources: more room may help
}

// powerOnTime is how long vCenter may take to power a VM on.
const powerOnTime = 5 * time.Minute

// PowerOnAsker powers the VM on where its room is, and waits until it is on. vCenter's refusal is an answer. It may be
// repeated: a VM that is on stays as it is.
func (a *Activities) PowerOnAsker(ctx context.Context, in PowerOnInput) (PowerOnResult, error) {
	changing, end := a.Change(ctx, in.Name, false)
	defer end()
	out := PowerOnResult{Refused: "vCenter stayed away"}
	err := preempt.UntilDecided(changing, []vsphere.Ref{in.VM}, func([]vsphere.Ref) ([]vsphere.Ref, error) {
		var again bool
		var err error
		out, again, err = a.powerOn(changing, in)
		if err != nil || again {
			return []vsphere.Ref{in.VM}, err
		}
		return nil, nil
	}, func(_ []vsphere.Ref, err error) {
		if err != nil {
			out = PowerOnResult{Refused: preempt.Clip(err.Error())}
		}
	})
	a.Logger(ctx).Info("powered on for whom room was made", "vm", in.Name, "moref", in.VM.Value, "on", out.On, "reason", out.Refused)
	return out, preempt.WhenEnded(ctx, err)
}

// powerOn tries once. again: another operation is under way on the VM.
func (a *Activities) powerOn(c *preempt.Changing, in PowerOnInput) (out PowerOnResult, again bool, err error) {
	now, err := a.VCenter.State(c.Ctx, in.Tag, []vsphere.Ref{in.VM})
	if err != nil {
		return out, false, err
	}
	vm, ok := now[in.VM]
	switch {
	case !ok:
		return PowerOnResult{Refused: "the VM no longer exists"}, false, nil
	case vm.PowerState == vsphere.PoweredOn:
		return PowerOnResult{On: true}, false, nil
	case c.Cancelled():
		return PowerOnResult{Refused: "cancelled before it was powered on"}, false, nil
	}
	c.Sent = true
	task, err := a.VCenter.PowerOnAt(c.Ctx, in.VM, in.Host)
	if err == nil {
		err = a.awaitOn(c.Ctx, vcenter.Wait{VM: in.VM, Task: task})
	}
	switch kind := vcenter.KindOf(err); {
	case err == nil:
		return PowerOnResult{On: true}, false, nil
	case kind.Outage(), vcenter.TaskLost(err):
		return out, true, err
	case kind == vcenter.Busy || kind == vcenter.InvalidState || kind == vcenter.Conflict:
		if c.Failures[in.VM]++; c.Failures[in.VM] < busyTries {
			return out, true, nil
		}
	}
	return PowerOnResult{Refused: preempt.Clip(err.Error()), NoRoom: vcenter.KindOf(err) == vcenter.NoRoom}, false, nil
}

// busyTries is how often a power-on is tried while another operation is under way on the VM.
const busyTries = 5

var errGone = errors.New("the VM no longer exists")

// awaitOn waits until the VM is on, and returns why it is not.
func (a *Activities) awaitOn(ctx context.Context, w vcenter.Wait) (failed error) {
	ctx, cancel := context.WithTimeout(ctx, powerOnTime)
	defer cancel()
	err := a.VCenter.AwaitOn(ctx, []vcenter.Wait{w}, func(_ vsphere.Ref, r vcenter.WaitResult) {
		if failed = r.Err; r.Gone {
			failed = errGone
		}
	})
	if failed != nil {
		return failed
	}
	return err
}
