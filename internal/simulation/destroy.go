package simulation

import (
	"fmt"
	"os"
	"path"
	"path/filepath"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// DestroyTask serves Destroy_Task. The simulator's own reads datastores without their locks while it deletes files, and
// adds what its disks had to free space that is counted here already.
func (m *machine) DestroyTask(ctx *simulator.Context, _ *types.Destroy_Task) soap.HasFault {
	return &methods.Destroy_TaskBody{Res: &types.Destroy_TaskResponse{Returnval: m.destroy(ctx)}}
}

func (m *machine) destroy(ctx *simulator.Context) types.ManagedObjectReference {
	user := ctx.Session.UserName
	return m.vcenter.runTask(ctx, m.vm.Entity(), "destroy", 0, func() (types.AnyType, types.BaseMethodFault) {
		return nil, m.vcenter.destroy(m.Self, user)
	})
}

// destroy takes a VM that is off out of the inventory, and its directory away.
func (v *VCenter) destroy(ref types.ManagedObjectReference, user string) (fault types.BaseMethodFault) {
	ctx := v.context(user)
	vm, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return &types.ManagedObjectNotFound{Obj: ref}
	}
	ctx.WithLock(vm, func() {
		if refused := vm.UnregisterVM(ctx, &types.UnregisterVM{This: ref}).Fault(); refused != nil {
			fault = refused.VimFault().(types.BaseMethodFault)
			return
		}
		var config object.DatastorePath
		home := ""
		if config.FromString(vm.Config.Files.VmPathName) {
			home = path.Dir(config.Path)
		}
		if home == "." || !filepath.IsLocal(home) || v.twin != nil {
			return // it has no directory of its own
		}
		if err := os.RemoveAll(filepath.Join(v.dir, config.Datastore, home)); err != nil {
			fault = &types.CannotDeleteFile{FileFault: types.FileFault{File: config.String()}}
		}
	})
	return fault
}

// RemoveVM destroys the VM as another administrator would: it goes off without an event, then away with a
// VmRemovedEvent. Its tags stay behind, as in vCenter.
func (v *VCenter) RemoveVM(ref types.ManagedObjectReference) error {
	var task types.ManagedObjectReference
	err := v.mustVM(ref, "remove", func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
		v.setPower(ctx, vm, off)
		task = (&machine{Self: ref, vcenter: v, vm: vm}).destroy(ctx)
	})
	if err != nil {
		return err
	}
	if _, err := v.await(task); err != nil {
		return fmt.Errorf("remove %s: %w", ref.Value, err)
	}
	return nil
}
