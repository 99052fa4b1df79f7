package simulation

import (
	"fmt"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// withVM runs fn on a VM under its lock, with the context that holds it; it tells whether there is such a VM.
func (v *VCenter) withVM(ref types.ManagedObjectReference, fn func(*simulator.Context, *simulator.VirtualMachine)) bool {
	ctx := v.context("")
	vm, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
	if ok {
		ctx.WithLock(vm, func() { fn(ctx, vm) })
	}
	return ok
}

func (v *VCenter) mustVM(ref types.ManagedObjectReference, what string, fn func(*simulator.Context, *simulator.VirtualMachine)) error {
	if !v.withVM(ref, fn) {
		return fmt.Errorf("%s of %s: the simulated vCenter has no such VM; take it from Inventory", what, ref.Value)
	}
	return nil
}

// PowerState is the VM's power state in the model; empty if the VM is gone.
func (v *VCenter) PowerState(ref types.ManagedObjectReference) (state types.VirtualMachinePowerState) {
	v.withVM(ref, func(_ *simulator.Context, vm *simulator.VirtualMachine) { state = vm.Runtime.PowerState })
	return state
}

// SetPowerState sets the VM's power state in the model: no task, no event. PowerOffAs and PowerOnAs post events.
func (v *VCenter) SetPowerState(ref types.ManagedObjectReference, state types.VirtualMachinePowerState) error {
	return v.mustVM(ref, "set the power state", func(ctx *simulator.Context, vm *simulator.VirtualMachine) { v.setPower(ctx, vm, state) })
}

// Attribute is the value of the VM's custom attribute of that name in the model.
func (v *VCenter) Attribute(ref types.ManagedObjectReference, key string) (value string, ok bool) {
	ctx := v.context("")
	fields := map[int32]bool{}
	manager := ctx.Map.CustomFieldsManager()
	ctx.WithLock(manager, func() {
		for _, f := range manager.Field {
			if f.Name == key {
				fields[f.Key] = true
			}
		}
	})
	v.withVM(ref, func(_ *simulator.Context, vm *simulator.VirtualMachine) {
		for _, field := range vm.CustomValue {
			if s, is := field.(*types.CustomFieldStringValue); is && fields[s.Key] {
				value, ok = s.Value, true
			}
		}
	})
	return value, ok
}

// SetTemplate turns the VM into a template, whatever its power state.
func (v *VCenter) SetTemplate(ref types.ManagedObjectReference) error {
	return v.mustVM(ref, "make a template", func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
		ctx.Update(vm, []types.PropertyChange{
			{Name: "config.template", Val: true},
			{Name: "summary.config.template", Val: true},
		})
	})
}

// SetManagedBy marks the VM as belonging to an extension: com.vmware.vim.eam with type cluster-agent for vCLS.
func (v *VCenter) SetManagedBy(ref types.ManagedObjectReference, extensionKey, kind string) error {
	return v.mustVM(ref, "set managedBy", func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
		info := types.ManagedByInfo{ExtensionKey: extensionKey, Type: kind}
		ctx.Update(vm, []types.PropertyChange{
			{Name: "config.managedBy", Val: info},
			{Name: "summary.config.managedBy", Val: info},
		})
	})
}

// SetDisabledMethods sets the VM's disabledMethod property; calls of those methods (PowerOffVM_Task, ...) answer
// MethodDisabled.
func (v *VCenter) SetDisabledMethods(ref types.ManagedObjectReference, methods ...string) error {
	v.machines.with(ref, func(b *behaviour) { b.disabled = methods })
	return v.mustVM(ref, "disable methods", v.showDisabled)
}

// showDisabled writes the VM's disabledMethod property: what was disabled, and while it moves what that disables.
func (v *VCenter) showDisabled(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	disabled := []string{}
	v.machines.with(vm.Self, func(b *behaviour) {
		disabled = append(disabled, b.disabled...)
		if b.moving != nil {
			disabled = append(disabled, whileMoving...)
		}
	})
	slices.Sort(disabled)
	ctx.Update(vm, []types.PropertyChange{{Name: "disabledMethod", Val: slices.Compact(disabled)}})
}

// SetToolsRunning says whether VMware Tools run in the VM now and whenever it is on; they do unless set.
func (v *VCenter) SetToolsRunning(ref types.ManagedObjectReference, running bool) error {
	v.machines.with(ref, func(b *behaviour) { b.noTools = !running })
	return v.mustVM(ref, "set the tools", func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
		setTools(ctx, vm, running && vm.Runtime.PowerState == on)
	})
}

// setTools changes what the model says of the guest; the caller holds the VM's lock.
func setTools(ctx *simulator.Context, vm *simulator.VirtualMachine, running bool) {
	tools, status, guest := types.VirtualMachineToolsRunningStatusGuestToolsNotRunning, types.VirtualMachineToolsStatusToolsNotRunning, types.VirtualMachineGuestStateNotRunning
	if running {
		tools, status, guest = types.VirtualMachineToolsRunningStatusGuestToolsRunning, types.VirtualMachineToolsStatusToolsOk, types.VirtualMachineGuestStateRunning
	}
	ctx.Update(vm, []types.PropertyChange{
		{Name: "guest.toolsRunningStatus", Val: string(tools)},
		{Name: "guest.toolsStatus", Val: status},
		{Name: "guest.guestState", Val: string(guest)},
		{Name: "summary.guest.toolsRunningStatus", Val: string(tools)},
		{Name: "summary.guest.toolsStatus", Val: status},
	})
}

// Rename gives the VM another name, as vCenter keeps it: a slash is written %2f.
func (v *VCenter) Rename(ref types.ManagedObjectReference, name string) error {
	return v.mustVM(ref, "rename", func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
		ctx.Update(vm, []types.PropertyChange{{Name: "name", Val: name}, {Name: "config.name", Val: name}, {Name: "summary.config.name", Val: name}})
	})
}
