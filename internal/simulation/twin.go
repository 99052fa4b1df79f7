package simulation

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// twin is what is known of a vCenter that was loaded from a saved inventory.
type twin struct {
	leftOut []string
	methods map[types.ManagedObjectReference][]string // disabled whatever the power state is
}

// LeftOut tells which files of the saved inventory could not be used and why, the first of many.
func (v *VCenter) LeftOut() []string {
	if v.twin == nil {
		return nil
	}
	return slices.Clone(v.twin.leftOut)
}

// loadTwin makes the model of a saved inventory. The simulator panics on what it does not expect.
func (v *VCenter) loadTwin() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("load the inventory of %s: the simulator cannot work with it: %v", v.options.Inventory, p)
		}
	}()
	s, err := readSaved(v.options.Inventory)
	if err != nil {
		return err
	}
	v.twin = &twin{leftOut: s.leftOut, methods: map[types.ManagedObjectReference][]string{}}
	if s.more > 0 {
		v.twin.leftOut = append(v.twin.leftOut, fmt.Sprintf("and %d more", s.more))
	}
	stage := filepath.Join(v.dir, "saved")
	if err := os.Mkdir(stage, 0o700); err != nil {
		return fmt.Errorf("make a folder for the inventory: %w", err)
	}
	defer os.RemoveAll(stage)
	if err := s.stage(stage); err != nil {
		return err
	}
	v.model = new(simulator.Model)
	v.model.Service = &simulator.Service{Context: simulator.NewContext()} // for Remove, should Load fail
	if err := v.model.Load(stage); err != nil {
		return fmt.Errorf("load the inventory of %s: %w", v.options.Inventory, err)
	}
	s.restoreParents(v.model.Service.Context)
	return nil
}

func (s *saved) restoreParents(ctx *simulator.Context) {
	for ref, parent := range s.hidden {
		if e, ok := ctx.Map.Get(ref).(mo.Entity); ok {
			e.Entity().Parent = &parent
		}
	}
}

// describeTwin learns from the model what the inventory is.
func (v *VCenter) describeTwin() {
	ctx := v.context("")
	for _, dc := range ctx.Map.All("Datacenter") {
		if ref := dc.Reference(); v.datacenter.Value == "" || ref.Value < v.datacenter.Value {
			v.datacenter = ref
		}
	}
	for _, kind := range []string{"ClusterComputeResource", "ComputeResource"} {
		for _, e := range ctx.Map.All(kind) {
			v.clusters = append(v.clusters, twinCluster(ctx, e))
		}
	}
	slices.SortStableFunc(v.clusters, func(a, b Cluster) int { return strings.Compare(a.Name, b.Name) })
	v.sortVMs(ctx)
	v.knowAlarms(ctx)
}

func twinCluster(ctx *simulator.Context, e mo.Entity) Cluster {
	c := Cluster{Ref: e.Reference(), Name: e.Entity().Name}
	var resource *mo.ComputeResource
	switch r := e.(type) {
	case *simulator.ClusterComputeResource:
		resource = &r.ComputeResource
	case *mo.ComputeResource:
		resource = r
	default:
		return c
	}
	for _, ref := range resource.Host {
		if h, ok := ctx.Map.Get(ref).(*simulator.HostSystem); ok {
			c.Hosts = append(c.Hosts, Host{Ref: ref, Name: h.Name})
		}
	}
	for _, ref := range resource.Datastore {
		if ctx.Map.Get(ref) != nil {
			c.Datastores = append(c.Datastores, ref)
		}
	}
	return c
}

// sortVMs puts each VM into the cluster of its host. Those of no known host are in a last cluster without a name.
func (v *VCenter) sortVMs(ctx *simulator.Context) {
	of := map[types.ManagedObjectReference]int{}
	for i, c := range v.clusters {
		for _, h := range c.Hosts {
			of[h.Ref] = i
		}
	}
	var nowhere []VM
	for _, e := range ctx.Map.All("VirtualMachine") {
		vm, ok := e.(*simulator.VirtualMachine)
		if !ok {
			continue
		}
		out := VM{Ref: vm.Self, Name: vm.Name}
		v.settle(vm)
		i, known := 0, false
		if vm.Runtime.Host != nil {
			out.Host = *vm.Runtime.Host
			i, known = of[out.Host]
		}
		if !known {
			nowhere = append(nowhere, out)
			continue
		}
		out.Cluster = v.clusters[i].Name
		v.clusters[i].VMs = append(v.clusters[i].VMs, out)
	}
	if len(nowhere) > 0 {
		v.clusters = append(v.clusters, Cluster{VMs: nowhere})
	}
	for _, c := range v.clusters {
		slices.SortFunc(c.VMs, func(a, b VM) int {
			return strings.Compare(a.Name+"\x00"+a.Ref.Value, b.Name+"\x00"+b.Ref.Value)
		})
	}
}

// settle keeps what of the VM's disabled methods does not follow from its power state, and whether its tools run.
func (v *VCenter) settle(vm *simulator.VirtualMachine) {
	var always []string
	for _, method := range vm.DisabledMethod {
		if !slices.Contains(disabledWhile(vm.Runtime.PowerState), method) {
			always = append(always, method)
		}
	}
	v.twin.methods[vm.Self] = always
	v.machines.with(vm.Self, func(b *behaviour) {
		b.disabled = slices.DeleteFunc(slices.Clone(always), func(method string) bool { return !slices.Contains(whileMoving, method) })
		running := vm.Guest != nil && vm.Guest.ToolsRunningStatus == string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
		installed := vm.Guest != nil && vm.Guest.ToolsVersionStatus2 != "" &&
			vm.Guest.ToolsVersionStatus2 != string(types.VirtualMachineToolsVersionStatusGuestToolsNotInstalled)
		b.noTools = !running && (vm.Runtime.PowerState == on || !installed)
	})
}

// disabledWhile are the methods that a VM in this state does not have, of those that we know and use.
func disabledWhile(state types.VirtualMachinePowerState) []string {
	if state == on {
		return []string{"PowerOnVM_Task"}
	}
	methods := []string{"SuspendVM_Task", "ResetVM_Task", "ShutdownGuest", "RebootGuest", "StandbyGuest"}
	if state == off {
		methods = append(methods, "PowerOffVM_Task")
	}
	return methods
}

// showTwinMethods writes which methods a VM of a saved inventory has in its new state; the caller holds its lock.
func (v *VCenter) showTwinMethods(ctx *simulator.Context, vm *simulator.VirtualMachine, state types.VirtualMachinePowerState) {
	if v.twin == nil {
		return
	}
	methods := append(slices.Clone(v.twin.methods[vm.Self]), disabledWhile(state)...)
	ctx.Update(vm, []types.PropertyChange{{Name: "disabledMethod", Val: methods}})
}

// knowAlarms takes over the alarms that were saved, in place of the simulator's own.
func (v *VCenter) knowAlarms(ctx *simulator.Context) {
	var refs []types.ManagedObjectReference
	for _, o := range ctx.Map.AllReference("Alarm") {
		alarm, ok := o.(*simulator.Alarm)
		if !ok {
			continue
		}
		refs = append(refs, alarm.Self)
		if other, twice := v.alarms[alarm.Info.Name]; !twice || alarm.Self.Value < other.Value {
			v.alarms[alarm.Info.Name] = alarm.Self
		}
	}
	m := ctx.Map.AlarmManager()
	ctx.WithLock(m, func() { m.GetAlarmResponse.Returnval = refs })
}

// inert tells whether nothing can be done with a VM: vCenter does not reach its configuration or knows no host of it.
func inert(vm *simulator.VirtualMachine) bool { return vm.Config == nil || vm.Runtime.Host == nil }

// twinFault is why a call on a VM of a saved inventory is refused, nil if it is not. Disks are not simulated there.
func (v *VCenter) twinFault(vm *simulator.VirtualMachine, method string) types.BaseMethodFault {
	switch {
	case v.twin == nil || method == "RefreshStorageInfo":
		return nil
	case inert(vm):
		return &types.InvalidState{}
	case method == "RelocateVM_Task" || strings.HasPrefix(method, "CreateSnapshot") || method == "CloneVM_Task":
		return &types.NotSupported{}
	}
	return nil
}
