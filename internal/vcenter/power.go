package vcenter

import (
	"context"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Cut sends the call of an action that takes the power, or the processor, from a VM without asking its guest, and returns
// the task, without waiting for it. An action that has no such call is an error, and nothing is sent. One call.
func (g *Gateway) Cut(ctx context.Context, what action.Action, ref vsphere.Ref) (task vsphere.Ref, err error) {
	switch what {
	case action.PowerOff:
		return g.PowerOff(ctx, ref)
	case action.Suspend:
		return g.Suspend(ctx, ref)
	}
	return task, action.Unhandled(what)
}

// PowerOff cuts the power of a VM and returns the task, without waiting for it. A VM that is already
// off results in a failed task (kind InvalidState), not as an error here. One call.
func (g *Gateway) PowerOff(ctx context.Context, ref vsphere.Ref) (task vsphere.Ref, err error) {
	err = g.onVM(ctx, "power off", ref, func(ctx context.Context, s *soapSession) error {
		res, err := methods.PowerOffVM_Task(ctx, s.client, &types.PowerOffVM_Task{This: toMoRef(ref)})
		if err == nil {
			task = fromMoRef(res.Returnval)
		}
		return err
	})
	return task, err
}

// Suspend writes the VM's memory to disk and stops it; it returns the task, as PowerOff does. One call.
func (g *Gateway) Suspend(ctx context.Context, ref vsphere.Ref) (task vsphere.Ref, err error) {
	err = g.onVM(ctx, "suspend", ref, func(ctx context.Context, s *soapSession) error {
		res, err := methods.SuspendVM_Task(ctx, s.client, &types.SuspendVM_Task{This: toMoRef(ref)})
		if err == nil {
			task = fromMoRef(res.Returnval)
		}
		return err
	})
	return task, err
}

// PowerOn turns a VM on, or resumes it, on the host where it is registered, and returns the task without
// waiting for it. A VM that is already on results in a failed task of kind InvalidState, one for which there
// is no room in one of kind NoRoom. One call.
func (g *Gateway) PowerOn(ctx context.Context, ref vsphere.Ref) (task vsphere.Ref, err error) {
	return g.PowerOnAt(ctx, ref, vsphere.Ref{})
}

// PowerOnAt is PowerOn on a host of the VM's cluster, to which vCenter moves it first. Where the host is not compatible,
// vCenter takes the one where the VM is registered. The zero host is that one.
func (g *Gateway) PowerOnAt(ctx context.Context, ref, host vsphere.Ref) (task vsphere.Ref, err error) {
	req := types.PowerOnVM_Task{This: toMoRef(ref)}
	if !host.Zero() {
		at := toMoRef(host)
		req.Host = &at
	}
	err = g.onVM(ctx, "power on", ref, func(ctx context.Context, s *soapSession) error {
		res, err := methods.PowerOnVM_Task(ctx, s.client, &req)
		if err == nil {
			task = fromMoRef(res.Returnval)
		}
		return err
	})
	return task, err
}

// ShutdownGuest asks the guest to shut down. Use AwaitOff to see whether and when it does. Kind
// ToolsUnavailable: the guest has no running VMware Tools. One call.
func (g *Gateway) ShutdownGuest(ctx context.Context, ref vsphere.Ref) error {
	return g.onVM(ctx, "shut down the guest of", ref, func(ctx context.Context, s *soapSession) error {
		_, err := methods.ShutdownGuest(ctx, s.client, &types.ShutdownGuest{This: toMoRef(ref)})
		return err
	})
}

// onVM makes one call that changes a VM.
func (g *Gateway) onVM(ctx context.Context, op string, ref vsphere.Ref, f func(context.Context, *soapSession) error) error {
	c := call{op: op, object: g.names.describe(ref), write: true, alike: true}
	if ref.Type != vsphere.TypeVM {
		return &Error{Op: op, Object: ref.String(), Kind: NotFound, Err: errNotVM}
	}
	err := g.soap(ctx, c, f)
	g.log.Debug(op, "moref", ref.Value, "reason", err)
	return err
}
