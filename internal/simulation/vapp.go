package simulation

import (
	"fmt"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// VMFolder is the folder in which the simulated VMs are.
func (v *VCenter) VMFolder() types.ManagedObjectReference {
	return v.service.Context.Map.Get(v.datacenter).(*simulator.Datacenter).VmFolder
}

// CreateFolder makes a folder for VMs in another one.
func (v *VCenter) CreateFolder(parent types.ManagedObjectReference, name string) (types.ManagedObjectReference, error) {
	ctx := v.context("")
	in, ok := ctx.Map.Get(parent).(*simulator.Folder)
	if !ok {
		return types.ManagedObjectReference{}, fmt.Errorf("create folder %q: %s is no folder", name, parent.Value)
	}
	body, ok := in.CreateFolder(ctx, &types.CreateFolder{This: parent, Name: name}).(*methods.CreateFolderBody)
	if !ok || body.Res == nil {
		return types.ManagedObjectReference{}, fmt.Errorf("create folder %q: refused", name)
	}
	return body.Res.Returnval, nil
}

// MoveToFolder puts VMs into a folder.
func (v *VCenter) MoveToFolder(folder types.ManagedObjectReference, vms ...types.ManagedObjectReference) error {
	return v.place(folder, vms, func(ctx *simulator.Context, vm *simulator.VirtualMachine, in *simulator.Folder) {
		vm.Parent = &in.Self
		ctx.WithLock(in, func() { in.ChildEntity = append(in.ChildEntity, vm.Self) })
	})
}

// PutInVApp makes a vApp in the cluster of the first VM, which appears in the folder, and puts the VMs into it. As with
// vCenter these have no parent then: their folder is the parentFolder of the vApp.
func (v *VCenter) PutInVApp(name string, folder types.ManagedObjectReference, vms ...types.ManagedObjectReference) (types.ManagedObjectReference, error) {
	ctx := v.context("")
	var none types.ManagedObjectReference
	if len(vms) == 0 {
		return none, fmt.Errorf("a vApp %q without VMs", name)
	}
	first, ok := ctx.Map.Get(vms[0]).(*simulator.VirtualMachine)
	if !ok || first.ResourcePool == nil {
		return none, fmt.Errorf("put VMs into vApp %q: there is no VM %s with a resource pool", name, vms[0].Value)
	}
	pool, ok := ctx.Map.Get(*first.ResourcePool).(*simulator.ResourcePool)
	if !ok {
		return none, fmt.Errorf("put VMs into vApp %q: VM %s is in no plain resource pool", name, vms[0].Value)
	}
	body, ok := pool.CreateVApp(ctx, &types.CreateVApp{
		This: pool.Self, Name: name, ResSpec: types.DefaultResourceConfigSpec(), VmFolder: &folder,
	}).(*methods.CreateVAppBody)
	if !ok || body.Res == nil {
		return none, fmt.Errorf("create vApp %q: refused", name)
	}
	vapp := body.Res.Returnval
	return vapp, v.place(folder, vms, func(_ *simulator.Context, vm *simulator.VirtualMachine, _ *simulator.Folder) {
		vm.Parent, vm.ParentVApp, vm.ResourcePool = nil, &vapp, &vapp
	})
}

// place takes VMs out of their folders and lets put say where they are from now on.
func (v *VCenter) place(folder types.ManagedObjectReference, vms []types.ManagedObjectReference, put func(*simulator.Context, *simulator.VirtualMachine, *simulator.Folder)) error {
	ctx := v.context("")
	in, ok := ctx.Map.Get(folder).(*simulator.Folder)
	if !ok {
		return fmt.Errorf("%s is no folder", folder.Value)
	}
	for _, ref := range vms {
		vm, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
		if !ok {
			return fmt.Errorf("there is no VM %s", ref.Value)
		}
		if vm.Parent != nil {
			if from, ok := ctx.Map.Get(*vm.Parent).(*simulator.Folder); ok {
				ctx.WithLock(from, func() { simulator.RemoveReference(&from.ChildEntity, ref) })
			}
		}
		ctx.WithLock(vm, func() { put(ctx, vm, in) })
	}
	return nil
}
