package remediate

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

var errGone = errors.New("it does not exist (any more)")

// WishInput is a setting wanted of a VM.
type WishInput struct {
	VM       vsphere.Ref `json:"vm"`
	Category string      `json:"category"`
	Value    string      `json:"value"`
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
	VM    vsphere.Ref `json:"vm"`
	Since time.Time   `json:"since"` // when it was decided, for the evidence who turned it off
	Until time.Time   `json:"until"` // end of the window
}

// ShutDownResult is what became of it.
type ShutDownResult struct {
	Off    bool   `json:"off"`
	Ours   bool   `json:"ours"`             // it went off because of us
	Reason string `json:"reason,omitempty"` // it is on
}

// ShutDownVM asks the guest to shut down and waits until the VM is off, or the window is over. It never cuts the
// power. Whose doing it was, vCenter's events tell: what a person turned off meanwhile is not powered on.
func (a *Activities) ShutDownVM(ctx context.Context, in ShutDownInput) (res ShutDownResult, err error) {
	defer a.beat(ctx)()
	own, cancel := context.WithDeadline(context.WithoutCancel(ctx), in.Until)
	defer cancel()
	vm, err := a.hardware(context.WithoutCancel(ctx), in.VM) // also when the window is over: it may be off by our doing
	if err != nil {
		return res, step.Typed(err)
	}
	if vm.PowerState != vsphere.PoweredOn {
		return a.wentOff(ctx, in, false)
	}
	if own.Err() != nil {
		return ShutDownResult{Reason: "the window was over before its guest was asked to shut down"}, nil
	}
	if !vm.ToolsRunning {
		return ShutDownResult{Reason: "its guest runs no VMware Tools, so it cannot be shut down"}, nil
	}
	ask := func() error { return a.VCenter.ShutdownGuest(own, in.VM) }
	err = a.attempt(own, ask)
	for vm.ToolsStarting && vcenter.KindOf(err) == vcenter.ToolsUnavailable && clock.Sleep(own, a.Settings.Timing.Retry) {
		err = a.attempt(own, ask)
	}
	if err != nil && vcenter.KindOf(err) != vcenter.InvalidState {
		return res, step.Typed(err)
	}
	asked := err == nil // else somebody else was faster
	err = a.VCenter.AwaitOff(own, []vcenter.Wait{{VM: in.VM}}, func(_ vsphere.Ref, r vcenter.WaitResult) { res.Off = r.Off })
	if res.Off {
		return a.wentOff(ctx, in, asked)
	}
	if own.Err() != nil {
		return ShutDownResult{Reason: "its guest did not shut down within the window"}, nil
	}
	return res, step.Typed(err)
}

// wentOff says whose doing it was that the VM is off. asked: this attempt has asked its guest; an earlier one may have.
func (a *Activities) wentOff(ctx context.Context, in ShutDownInput, asked bool) (ShutDownResult, error) {
	res := ShutDownResult{Off: true}
	if !asked && activity.GetInfo(ctx).Attempt == 1 {
		return res, nil
	}
	own := context.WithoutCancel(ctx)
	var all map[vsphere.Ref]vcenter.Evidence
	err := a.attempt(own, func() (err error) {
		all, err = a.VCenter.AwaitEvidence(own, []vsphere.Ref{in.VM}, in.Since.Add(-time.Minute))
		return err
	})
	if err != nil && (!asked || vcenter.KindOf(err).Outage()) {
		return res, step.Typed(err)
	}
	switch ev := all[in.VM]; {
	case ev.Event != "" && ev.User != "":
		res.Ours = ev.Ours
	case ev.Event != "":
		res.Ours = asked || ev.Ours
	default: // no event says otherwise
		res.Ours = asked || !ev.Asked.IsZero()
	}
	return res, nil
}

// PowerOnVM powers a VM on and waits until it is. Want of room is waited out like an outage: a VM that was turned
// off here has to come back.
func (a *Activities) PowerOnVM(ctx context.Context, ref vsphere.Ref) error {
	defer a.beat(ctx)()
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.Settings.Timing.Task)
	defer cancel()
	task, err := a.VCenter.PowerOn(own, ref)
	if err == nil {
		var r vcenter.WaitResult
		err = a.VCenter.AwaitOn(own, []vcenter.Wait{{VM: ref, Task: task}}, func(_ vsphere.Ref, got vcenter.WaitResult) { r = got })
		if err == nil {
			err = r.Err
		}
	}
	kind := vcenter.KindOf(err)
	if vcenter.TaskLost(err) { // a vCenter that was started anew has forgotten it
		return temporal.NewApplicationError(err.Error(), string(kind))
	}
	switch kind {
	case vcenter.NoRoom, vcenter.Busy:
		return temporal.NewApplicationError(err.Error(), string(kind))
	case vcenter.InvalidState:
		if vm, err := a.hardware(own, ref); err == nil && vm.PowerState == vsphere.PoweredOn {
			return nil // an attempt before this one did it
		}
	}
	return step.Typed(err)
}
