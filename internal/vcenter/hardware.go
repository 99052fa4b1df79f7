package vcenter

import (
	"context"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// hardwareProperties are the properties of a placement.VM, apart from its tags.
var hardwareProperties = []string{
	"name", "disabledMethod", "recentTask",
	"config.template", "config.uuid", "config.instanceUuid", "config.changeVersion", "config.managedBy", "config.ftInfo",
	"config.guestId", "config.guestFullName",
	"config.hardware.numCPU", "config.hardware.numCoresPerSocket", "config.hardware.memoryMB",
	"config.cpuHotAddEnabled", "config.cpuHotRemoveEnabled", "config.memoryHotAddEnabled",
	"config.hotPlugMemoryLimit", "config.hotPlugMemoryIncrementSize",
	"runtime.powerState", "runtime.connectionState", "runtime.host", "runtime.faultToleranceState",
	"guest.toolsRunningStatus", "guest.guestFamily", "guest.hostName", "guest.ipAddress",
}

// sizeProperties are the properties of hosts on which VMs may grow or to which they may move.
var sizeProperties = []string{
	"name", "parent", "recentTask", "runtime.connectionState", "runtime.standbyMode", "runtime.inMaintenanceMode",
	"summary.hardware.numCpuThreads", "summary.hardware.memorySize",
}

// Hardware reads the input of a resize of VMs, with their tags of placement.Categories. A VM absent from
// the result no longer exists. One SOAP call for all, with their hosts and all others of the clusters, and one
// REST call per 1000 VMs; one more for each tag and category on them that was not seen before.
func (g *Gateway) Hardware(ctx context.Context, refs []vsphere.Ref) (map[vsphere.Ref]placement.VM, error) {
	const op = "read the hardware of"
	vms := make(map[vsphere.Ref]placement.VM, len(refs))
	wanted, _ := split(unique(slices.Clone(refs)))
	if len(wanted) == 0 {
		return vms, nil
	}
	spec := types.PropertyFilterSpec{PropSet: machineProperties(hardwareProperties)}
	for _, ref := range wanted {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: toMoRef(ref), SelectSet: aroundVM()})
	}
	inv, err := g.machines(ctx, call{op: op, object: g.describeAll(wanted)}, spec)
	if err != nil {
		return nil, err
	}
	existing := slices.DeleteFunc(wanted, func(ref vsphere.Ref) bool { _, ok := inv[ref]; return !ok })
	carried, err := g.tagsOn(ctx, op, existing, placement.Categories())
	if err != nil {
		return nil, err
	}
	sizes := inv.clusterSizes()
	for _, ref := range existing {
		vm := inv.machine(ref)
		vm.Tags = carried[ref]
		largest := sizes[vm.Cluster]
		vm.ClusterCPUs, vm.ClusterMemoryMB = largest.cpus, largest.memoryMB
		vms[ref] = vm
	}
	return vms, nil
}

// machineProperties asks for these properties of VMs, and for the objects around them.
func machineProperties(ofVMs []string) []types.PropertySpec {
	return []types.PropertySpec{
		{Type: vsphere.TypeVM, PathSet: ofVMs},
		{Type: vsphere.TypeHost, PathSet: sizeProperties},
		{Type: "Task", PathSet: []string{"info.state", "info.descriptionId"}},
	}
}

// aroundVM traverses from a VM to its recent tasks, and to all hosts of its cluster and theirs.
func aroundVM() []types.BaseSelectionSpec {
	return []types.BaseSelectionSpec{
		recentTasks(vsphere.TypeVM),
		&types.TraversalSpec{
			Type: vsphere.TypeVM, Path: "runtime.host",
			SelectSet: []types.BaseSelectionSpec{
				recentTasks(vsphere.TypeHost),
				&types.TraversalSpec{
					Type: vsphere.TypeHost, Path: "parent",
					SelectSet: []types.BaseSelectionSpec{&types.TraversalSpec{
						Type: vsphere.TypeCompute, Path: "host",
						SelectSet: []types.BaseSelectionSpec{recentTasks(vsphere.TypeHost)},
					}},
				},
			},
		},
	}
}

// machines retrieves VMs with the objects around them, in one call.
func (g *Gateway) machines(ctx context.Context, c call, specs ...types.PropertyFilterSpec) (inventory, error) {
	objects, err := g.retrieve(ctx, c, specs...)
	if err != nil {
		return nil, err
	}
	return g.inventoryOf(objects), nil
}

// inventoryOf also learns the names of VMs and datastores.
func (g *Gateway) inventoryOf(objects []object) inventory {
	inv := make(inventory, len(objects))
	for _, o := range objects {
		inv[o.ref] = o
		if o.ref.Type == vsphere.TypeVM || o.ref.Type == vsphere.TypeDatastore {
			g.names.learn(o.ref, o.text("name"))
		}
	}
	return inv
}

// machine makes a placement.VM of the retrieved properties, without tags and cluster sizes.
func (inv inventory) machine(ref vsphere.Ref) placement.VM {
	o := inv[ref]
	base, _ := inv.vm(ref)
	vm := placement.VM{
		Ref:           ref,
		Name:          base.Name,
		InstanceUUID:  base.InstanceUUID,
		BIOSUUID:      base.BIOSUUID,
		PowerState:    base.PowerState,
		Template:      base.Template,
		Connected:     base.Connected,
		ManagedBy:     base.ManagedBy,
		GuestAddrs:    base.GuestAddrs,
		ChangeVersion: base.ChangeVersion,
		ToolsRunning:  base.ToolsRunning,
		ToolsStarting: base.ToolsStarting,
		Host:          base.Host,
		Cluster:       base.Cluster,

		Busy:          inv.busy(o),
		FaultTolerant: o.faultTolerant(),
		Hardware: placement.Hardware{
			CPUs:           int(o.number("config.hardware.numCPU")),
			CoresPerSocket: max(1, int(o.number("config.hardware.numCoresPerSocket"))),
			MemoryMB:       int(o.number("config.hardware.memoryMB")),
			CPUHotAdd:      o.flag("config.cpuHotAddEnabled"),
			CPUHotRemove:   o.flag("config.cpuHotRemoveEnabled"),
			MemoryHotAdd:   o.flag("config.memoryHotAddEnabled"),
		},
		Linux:            isLinux(o.text("guest.guestFamily"), o.text("config.guestId"), o.text("config.guestFullName")),
		HotMemoryLimitMB: int(o.number("config.hotPlugMemoryLimit")),
		HotMemoryStepMB:  int(o.number("config.hotPlugMemoryIncrementSize")),
	}
	if host, ok := inv[vm.Host]; ok {
		size := host.size()
		vm.HostCPUs, vm.HostMemoryMB = size.cpus, size.memoryMB
	}
	return vm
}

// busy reports whether another operation is under way on the VM: a task that has not ended, or one of somebody
// else that keeps it from being changed or moved, such as a backup.
func (inv inventory) busy(vm object) bool {
	disabled := vm.texts("disabledMethod")
	return slices.Contains(disabled, "ReconfigVM_Task") || slices.Contains(disabled, "RelocateVM_Task") ||
		slices.ContainsFunc(vm.refs("recentTask"), func(task vsphere.Ref) bool { return inv[task].pending() })
}

func (o object) faultTolerant() bool {
	state := o.text("runtime.faultToleranceState")
	return o.props["config.ftInfo"] != nil || state != "" && state != string(types.VirtualMachineFaultToleranceStateNotConfigured)
}

// isLinux reads the guest system from VMware Tools, or without Tools from the VM's configuration.
func isLinux(family, id, name string) bool {
	switch types.VirtualMachineGuestOsFamily(family) {
	case types.VirtualMachineGuestOsFamilyLinuxGuest:
		return true
	case types.VirtualMachineGuestOsFamilyWindowsGuest, types.VirtualMachineGuestOsFamilySolarisGuest,
		types.VirtualMachineGuestOsFamilyNetwareGuest, types.VirtualMachineGuestOsFamilyDarwinGuestFamily:
		return false
	}
	id, name = strings.ToLower(id), strings.ToLower(name)
	if strings.Contains(id, "linux") || strings.Contains(name, "linux") {
		return true
	}
	return slices.ContainsFunc(distributions, func(d string) bool { return strings.HasPrefix(id, d) })
}

// distributions are the prefixes of Linux guest ids that do not contain "linux".
var distributions = []string{
	"almalinux", "amazonlinux", "asianux", "centos", "coreos", "crxpod", "crxsys", "debian", "fedora", "mandrake", "mandriva",
	"fusionos", "nld", "oes", "opensuse", "oraclelinux", "pardus", "redhat", "rhel", "rocky", "sjds", "sles", "suse", "turbolinux",
	"ubuntu", "vmwarephoton",
}

// size is what a host has.
type size struct {
	cpus, memoryMB int
}

func (o object) size() size {
	return size{
		cpus:     int(o.number("summary.hardware.numCpuThreads")),
		memoryMB: int(o.number("summary.hardware.memorySize") / bytesPerMB),
	}
}

// usable reports whether VMs can be on the host, now and after a while.
func (inv inventory) usable(host object) bool {
	h := inv.host(host)
	return h.Connected && !h.InMaintenance && !h.EnteringMaintenance
}

// clusterSizes are what the largest usable host of each compute resource has, of CPUs and of memory.
func (inv inventory) clusterSizes() map[vsphere.Ref]size {
	sizes := make(map[vsphere.Ref]size)
	for ref, o := range inv {
		if ref.Type != vsphere.TypeHost || !inv.usable(o) {
			continue
		}
		cluster, has := o.refTo("parent"), o.size()
		most := sizes[cluster]
		sizes[cluster] = size{cpus: max(most.cpus, has.cpus), memoryMB: max(most.memoryMB, has.memoryMB)}
	}
	return sizes
}
