package simulation

import (
	"fmt"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	on        = types.VirtualMachinePowerStatePoweredOn
	off       = types.VirtualMachinePowerStatePoweredOff
	suspended = types.VirtualMachinePowerStateSuspended
)

// PowerOffVMTask serves PowerOffVM_Task: as the simulator's, but with delays, faults and the user's name.
func (m *machine) PowerOffVMTask(ctx *simulator.Context, _ *types.PowerOffVM_Task) soap.HasFault {
	return &methods.PowerOffVM_TaskBody{Res: &types.PowerOffVM_TaskResponse{Returnval: m.powerTask(ctx, "powerOff", off)}}
}

// SuspendVMTask serves SuspendVM_Task.
func (m *machine) SuspendVMTask(ctx *simulator.Context, _ *types.SuspendVM_Task) soap.HasFault {
	return &methods.SuspendVM_TaskBody{Res: &types.SuspendVM_TaskResponse{Returnval: m.powerTask(ctx, "suspend", suspended)}}
}

// PowerOnVMTask serves PowerOnVM_Task; it also sets runtime.bootTime, which the simulator forgets. The VM starts on the
// host that the call names, or where it is. A host that is in maintenance, is not connected or has not the memory that
// the VM will use ends the task in a fault, and with SetAdmission what admission control refuses.
func (m *machine) PowerOnVMTask(ctx *simulator.Context, req *types.PowerOnVM_Task) soap.HasFault {
	if m.vm.Config.Template {
		return &methods.PowerOnVM_TaskBody{Fault_: simulator.Fault("a template cannot be powered on", &types.NotSupported{})}
	}
	if req.Host != nil {
		if fault := m.wrongHost(ctx, *req.Host); fault != nil {
			return &methods.PowerOnVM_TaskBody{Fault_: simulator.Fault("the VM cannot start on that host", fault)}
		}
		m.at = *req.Host
	}
	return &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{Returnval: m.powerTask(ctx, "powerOn", on)}}
}

// wrongHost returns why a call may not name that host: there is none, or it is not of the VM's cluster.
func (m *machine) wrongHost(ctx *simulator.Context, host types.ManagedObjectReference) types.BaseMethodFault {
	switch {
	case host.Type != "HostSystem" || ctx.Map.Get(host) == nil:
		return &types.ManagedObjectNotFound{Obj: host}
	case m.vm.Runtime.Host != nil && parentOf(ctx, *m.vm.Runtime.Host) != parentOf(ctx, host):
		return &types.InvalidArgument{InvalidProperty: "host"}
	}
	return nil
}

func (m *machine) powerTask(ctx *simulator.Context, name string, state types.VirtualMachinePowerState) types.ManagedObjectReference {
	user := ctx.Session.UserName
	var delay time.Duration
	var fault types.BaseMethodFault
	if busy := m.vcenter.machines.busy(m.Self, false); busy != nil {
		fault = busy
	} else if state == on {
		delay = m.vcenter.machines.powerOnDelay()
	} else {
		delay, fault = m.vcenter.machines.taskDelay(m.Self), m.vcenter.machines.taskFault(m.Self)
	}
	task := m.vcenter.newTask(ctx, m.vm.Entity(), name)
	m.vcenter.machines.with(m.Self, func(b *behaviour) { b.powering = append(b.powering, task.Self) })
	m.vcenter.run(task, delay, func() (types.AnyType, types.BaseMethodFault) {
		defer m.vcenter.machines.with(m.Self, func(b *behaviour) { simulator.RemoveReference(&b.powering, task.Self) })
		if state == on {
			defer m.vcenter.admission.settle(m.Self)
		}
		switch {
		case fault != nil:
			return nil, fault
		case state == on:
			return nil, m.vcenter.powerOn(m.Self, m.at, user)
		}
		return nil, m.vcenter.setState(m.Self, state, user)
	})
	return task.Self
}

// powerOnMany serves one PowerOnMultiVM_Task of a datacenter.
type powerOnMany struct {
	Self    types.ManagedObjectReference
	vcenter *VCenter
}

// Reference makes it a managed object: the datacenter's.
func (p *powerOnMany) Reference() types.ManagedObjectReference { return p.Self }

// PowerOnMultiVMTask serves PowerOnMultiVM_Task with one task per VM, as PowerOnVM_Task makes it, on another host of
// its cluster where its own cannot take it. A VM that no host can take is not attempted, with what lacks as the fault.
func (p *powerOnMany) PowerOnMultiVMTask(ctx *simulator.Context, req *types.PowerOnMultiVM_Task) soap.HasFault {
	result := types.ClusterPowerOnVmResult{}
	for _, ref := range req.Vm {
		p.vcenter.admission.gate.Lock()
		fault := p.vcenter.placeVM(ref, ctx.Session.UserName)
		p.vcenter.admission.gate.Unlock()
		if fault != nil {
			result.NotAttempted = append(result.NotAttempted, types.ClusterNotAttemptedVmInfo{Vm: ref, Fault: localized(fault)})
			continue
		}
		result.Attempted = append(result.Attempted, p.vcenter.powerOnOne(ref, ctx.Session.UserName))
	}
	var task types.ManagedObjectReference
	if dc, ok := ctx.Map.Get(p.Self).(mo.Entity); ok {
		task = p.vcenter.runTask(ctx, dc.Entity(), "powerOnMultiVM", 0, func() (types.AnyType, types.BaseMethodFault) { return result, nil })
	}
	return &methods.PowerOnMultiVM_TaskBody{Res: &types.PowerOnMultiVM_TaskResponse{Returnval: task}}
}

// powerOnOne starts the task of one VM; a VM that is gone has none.
func (v *VCenter) powerOnOne(ref types.ManagedObjectReference, user string) types.ClusterAttemptedVmInfo {
	info := types.ClusterAttemptedVmInfo{Vm: ref}
	ctx := v.context(user)
	vm, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return info
	}
	if drs := v.machines.managed(); drs != nil {
		v.placeLater(ref, user, *drs)
		return info
	}
	ctx.WithLock(vm, func() {
		task := (&machine{Self: ref, vcenter: v, vm: vm}).powerTask(ctx, "powerOn", on)
		info.Task = &task
	})
	return info
}

// changePower turns a VM on, off or suspends it on behalf of user, with the events that vCenter posts.
func (v *VCenter) changePower(ref types.ManagedObjectReference, state types.VirtualMachinePowerState, user string) types.BaseMethodFault {
	if state == on {
		return v.powerOn(ref, types.ManagedObjectReference{}, user)
	}
	return v.setState(ref, state, user)
}

// powerOn turns a VM on on that host, or with the zero host where it is, unless that is refused.
func (v *VCenter) powerOn(ref, host types.ManagedObjectReference, user string) types.BaseMethodFault {
	v.admission.gate.Lock()
	defer v.admission.gate.Unlock()
	if state := v.PowerState(ref); state != on && state != "" {
		if fault := v.refused(ref, host, user); fault != nil {
			return fault
		}
		if from, _ := v.claimOf(ref); host.Value != "" && from.host != host {
			v.moveVM(ref, from.host, host)
		}
	}
	return v.setState(ref, on, user)
}

// setState changes a VM's power state, whatever its host has room for.
func (v *VCenter) setState(ref types.ManagedObjectReference, state types.VirtualMachinePowerState, user string) (fault types.BaseMethodFault) {
	ctx := v.context(user)
	vm, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return &types.ManagedObjectNotFound{Obj: ref}
	}
	ctx.WithLock(vm, func() {
		current := vm.Runtime.PowerState
		if current == state || (state == suspended && current != on) {
			fault = &types.InvalidPowerState{RequestedState: state, ExistingState: current}
			return
		}
		event := v.vmEvent(ctx, vm)
		switch state {
		case on:
			v.post(ctx, &types.VmStartingEvent{VmEvent: event})
			v.setPower(ctx, vm, on)
			v.post(ctx, &types.VmPoweredOnEvent{VmEvent: event})
		case suspended:
			v.post(ctx, &types.VmSuspendingEvent{VmEvent: event})
			v.setPower(ctx, vm, suspended)
			v.post(ctx, &types.VmSuspendedEvent{VmEvent: event})
		default:
			v.post(ctx, &types.VmStoppingEvent{VmEvent: event})
			v.goOff(ctx, vm, event)
		}
	})
	return fault
}

// setPower changes what the model says of a VM's power and tools; the caller holds the VM's lock.
func (v *VCenter) setPower(ctx *simulator.Context, vm *simulator.VirtualMachine, state types.VirtualMachinePowerState) {
	var boot, clean types.AnyType
	tools := false
	if state == off {
		clean = true // unless its host dies, see crash
	}
	if state == on {
		boot = time.Now()
		v.machines.with(vm.Self, func(b *behaviour) { b.boots++; tools = !b.noTools })
	}
	ctx.Update(vm, []types.PropertyChange{
		{Name: "runtime.powerState", Val: state},
		{Name: "summary.runtime.powerState", Val: state},
		{Name: "runtime.bootTime", Val: boot},
		{Name: "summary.runtime.bootTime", Val: boot},
		{Name: "runtime.cleanPowerOff", Val: clean},
		{Name: "summary.runtime.cleanPowerOff", Val: clean},
		{Name: "summary.quickStats.uptimeSeconds", Val: int32(0)},
	})
	ctx.Update(vm, v.machines.hotPlug(vm, state))
	setTools(ctx, vm, tools)
	v.showTwinMethods(ctx, vm, state)
}

// runTask starts a task on the entity whose lock ctx holds. Unlike the simulator's own tasks it does not hold that
// lock while it waits, so the entity can be read.
func (v *VCenter) runTask(ctx *simulator.Context, entity *mo.ManagedEntity, name string, delay time.Duration,
	work func() (types.AnyType, types.BaseMethodFault),
) types.ManagedObjectReference {
	task := v.newTask(ctx, entity, name)
	v.run(task, delay, work)
	return task.Self
}

// newTask is a running task on the entity whose lock ctx holds.
func (v *VCenter) newTask(ctx *simulator.Context, entity *mo.ManagedEntity, name string) *simulator.Task {
	task := simulator.CreateTask(entity.Self, name, nil)
	task.Self = types.ManagedObjectReference{Type: "Task", Value: fmt.Sprintf("task-%d", 1_000_000+v.machines.nextTask())}
	now := time.Now()
	task.Info.Key, task.Info.Task = task.Self.Value, task.Self
	task.Info.EntityName, task.Info.Cancelable = entity.Name, name == relocateTask
	task.Info.Reason = &types.TaskReasonUser{UserName: ctx.Session.UserName}
	task.Info.StartTime, task.Info.State = &now, types.TaskInfoStateRunning
	ctx.Map.Put(task)
	return task
}

// run does a task's work after the delay, and ends the task.
func (v *VCenter) run(task *simulator.Task, delay time.Duration, work func() (types.AnyType, types.BaseMethodFault)) {
	if !v.begin() {
		return
	}
	v.machines.beginTask(task.Self)
	go func() {
		defer v.work.Done()
		if v.sleep(delay) && v.machines.endTask(task.Self) {
			result, fault := work()
			v.finishTask(task, result, fault)
		}
	}()
}

func (v *VCenter) finishTask(task *simulator.Task, result types.AnyType, fault types.BaseMethodFault) {
	ctx := v.context("")
	state, failure := types.TaskInfoStateSuccess, any(nil)
	if fault != nil {
		state = types.TaskInfoStateError
		failure = types.LocalizedMethodFault{Fault: fault, LocalizedMessage: fmt.Sprintf("%T", fault)}
	}
	ctx.Map.AtomicUpdate(ctx, task, []types.PropertyChange{
		{Name: "info.completeTime", Val: time.Now()},
		{Name: "info.state", Val: state},
		{Name: "info.result", Val: result},
		{Name: "info.error", Val: failure},
	})
}

// ShutdownGuest serves ShutdownGuest: it needs running tools, takes its time, and the guest may ignore it.
func (m *machine) ShutdownGuest(ctx *simulator.Context, _ *types.ShutdownGuest) soap.HasFault {
	body := &methods.ShutdownGuestBody{}
	if state := m.vm.Runtime.PowerState; state != on {
		body.Fault_ = simulator.Fault("the VM is not powered on", &types.InvalidPowerState{RequestedState: on, ExistingState: state})
		return body
	}
	if m.vm.Guest == nil || m.vm.Guest.ToolsRunningStatus != string(types.VirtualMachineToolsRunningStatusGuestToolsRunning) {
		body.Fault_ = simulator.Fault("VMware Tools is not running in the VM", &types.ToolsUnavailable{})
		return body
	}
	body.Res = &types.ShutdownGuestResponse{}
	m.vcenter.post(ctx, &types.VmGuestShutdownEvent{VmEvent: m.vcenter.vmEvent(ctx, m.vm)})
	m.vcenter.shutDownLater(m.Self)
	return body
}

// shutDownLater turns the VM off when its guest is through, unless it ignores that or is in another life by then.
func (v *VCenter) shutDownLater(ref types.ManagedObjectReference) {
	ignores, delay, boots := false, time.Duration(0), v.machines.boots(ref)
	v.machines.with(ref, func(b *behaviour) { ignores, delay = b.ignoresShutdown, v.machines.shutdown })
	if ignores || !v.begin() {
		return
	}
	go func() {
		defer v.work.Done()
		if v.sleep(delay) {
			v.guestOff(ref, boots)
		}
	}()
}

func (v *VCenter) guestOff(ref types.ManagedObjectReference, boots int) {
	ctx := v.context("")
	vm, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return
	}
	ctx.WithLock(vm, func() {
		if vm.Runtime.PowerState != on || v.machines.boots(ref) != boots {
			return
		}
		event := v.vmEvent(ctx, vm)
		v.goOff(ctx, vm, event)
	})
}

// PowerOffAs lets somebody else turn the VM off: the events carry that user, written as vCenter writes it. It
// fails if the VM is gone or off.
func (v *VCenter) PowerOffAs(ref types.ManagedObjectReference, user string) error {
	return faultError("power off "+ref.Value+" as "+user, v.changePower(ref, off, v.writeUser(user)))
}

// PowerOnAs lets somebody else turn the VM on. It fails if the VM is gone or on.
func (v *VCenter) PowerOnAs(ref types.ManagedObjectReference, user string) error {
	return faultError("power on "+ref.Value+" as "+user, v.changePower(ref, on, v.writeUser(user)))
}

func faultError(what string, fault types.BaseMethodFault) error {
	if fault == nil {
		return nil
	}
	return fmt.Errorf("%s: the simulated vCenter answers %T", what, fault)
}
