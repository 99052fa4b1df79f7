package remediate

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

var errGone = errors.New("it does not exist (any more)")

// WishInput is a setting wanted of a VM.
type WishInput struct {
	VM       policy.Ref `json:"vm"`
	Category string     `json:"category"`
	Value    string     `json:"value"`
}

// SetWish leaves the setting as a tag, in place of what the category said before. It is repeated until it is done:
// what is wanted stands in the workflow, so that a crash between detaching and attaching loses nothing.
func (a *Activities) SetWish(ctx context.Context, in WishInput) error {
	defer a.beat(ctx)()
	own := context.WithoutCancel(ctx)
	return step.Typed(a.attempt(own, func() error { return a.VCenter.SetTag(own, in.VM, in.Category, in.Value) }))
}

// ShutDownInput is a VM to shut down within a window.
type ShutDownInput struct {
	VM    policy.Ref `json:"vm"`
	Since time.Time  `json:"since"` // when it was decided, for the evidence who turned it off
	Until time.Time  `json:"until"` // end of the window
}

// ShutDownResult is what became of it.
type ShutDownResult struct {
	Off    bool   `json:"off"`
	Ours   bool   `json:"ours"`             // it went off because of us
	Reason string `json:"reason,omitempty"` // it is on
}

// ShutDownVM asks the guest to shut down and waits until the VM is off, or the window is over. It never cuts the
// power. Repeated after a crash it tells by vCenter's events whose doing it was.
func (a *Activities) ShutDownVM(ctx context.Context, in ShutDownInput) (res ShutDownResult, err error) {
	defer a.beat(ctx)()
	own, cancel := context.WithDeadline(context.WithoutCancel(ctx), in.Until)
	defer cancel()
	vm, err := a.hardware(context.WithoutCancel(ctx), in.VM) // also when the window is over: it may be off by our doing
	if err != nil {
		return res, step.Typed(err)
	}
	if vm.PowerState != policy.PoweredOn {
		return a.wentOff(ctx, in, activity.GetInfo(ctx).Attempt > 1)
	}
	if own.Err() != nil {
		return ShutDownResult{Reason: "the window was over before its guest was asked to shut down"}, nil
	}
	if !vm.ToolsRunning {
		return ShutDownResult{Reason: "its guest runs no VMware Tools, so it cannot be shut down"}, nil
	}
	err = a.attempt(own, func() error { return a.VCenter.ShutdownGuest(own, in.VM) })
	if err != nil && vcenter.KindOf(err) != vcenter.InvalidState {
		return res, step.Typed(err)
	}
	err = a.VCenter.AwaitOff(own, []vcenter.Wait{{VM: in.VM}}, func(_ policy.Ref, r vcenter.WaitResult) { res.Off = r.Off })
	if res.Off {
		res.Ours = true
		return res, nil
	}
	if own.Err() != nil {
		return ShutDownResult{Reason: "its guest did not shut down within the window"}, nil
	}
	return res, step.Typed(err)
}

func (a *Activities) wentOff(ctx context.Context, in ShutDownInput, repeated bool) (ShutDownResult, error) {
	res := ShutDownResult{Off: true}
	if !repeated {
		return res, nil
	}
	all, err := a.VCenter.PowerOffEvidence(ctx, []policy.Ref{in.VM}, in.Since.Add(-time.Minute))
	res.Ours = all[in.VM].Ours
	return res, step.Typed(err)
}

// PowerOnVM powers a VM on and waits until it is. Want of room is waited out like an outage: a VM that was turned
// off here has to come back.
func (a *Activities) PowerOnVM(ctx context.Context, ref policy.Ref) error {
	defer a.beat(ctx)()
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.Settings.Timing.Task)
	defer cancel()
	task, err := a.VCenter.PowerOn(own, ref)
	if err == nil {
		var r vcenter.WaitResult
		err = a.VCenter.AwaitOn(own, []vcenter.Wait{{VM: ref, Task: task}}, func(_ policy.Ref, got vcenter.WaitResult) { r = got })
		if err == nil {
			err = r.Err
		}
	}
	switch kind := vcenter.KindOf(err); kind {
	case vcenter.NoRoom, vcenter.Busy:
		return temporal.NewApplicationError(err.Error(), string(kind))
	case vcenter.InvalidState:
		if vm, err := a.hardware(own, ref); err == nil && vm.PowerState == policy.PoweredOn {
			return nil // an attempt before this one did it
		}
	}
	return step.Typed(err)
}
