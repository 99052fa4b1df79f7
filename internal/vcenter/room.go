package vcenter

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Asker is a VM for which room is to be made, and what it needs on one host.
type Asker struct {
	Ref        vsphere.Ref
	Name       string
	PowerState string
	Template   bool
	Cluster    vsphere.Ref // of the host on which it is registered
	CPUs       int
	MemoryMB   int64
	// What admission asks for: its reservations, memory with the overhead that vCenter gives or, for want of that, an
	// estimate.
	CPUReservedMHz   int64
	MemoryReservedMB int64
	Priority         []string            // its tags of policy.CategoryPriority
	Tags             map[string][]string // its tags, by those categories that were asked for
	Host             vsphere.Ref         // on which it is registered
	// CannotTake says in words, by host as Ref.String writes it, why a host cannot take it: its networks, its datastores,
	// a rule of DRS.
	CannotTake map[string]string
	// CPUPool and MemoryPool are the resource pools that bound what it may reserve; nil: the hosts alone do.
	CPUPool, MemoryPool *policy.RoomPool
	Err                 error // it cannot be read, and the rest is empty; kind NotFound: there is no such VM
}

// What a VM without a known overhead is taken to need: vCenter's own figure is known only once it was on.
const (
	overheadOfVMMB   = 32
	overheadOfCPUMB  = 12
	overheadOfMemory = 200 // a 200th of it
)

var (
	reservedProperties = []string{"runtime.host", "runtime.powerState", "summary.config.cpuReservation", "summary.config.memoryReservation", "runtime.memoryOverhead"}
	askerProperties    = append([]string{
		"name", "resourcePool", "config.template", "config.hardware.numCPU", "config.hardware.memoryMB", "config.initialOverhead", "network", "datastore",
	}, reservedProperties...)
	takerProperties = []string{"parent", "summary.hardware.cpuMhz", "summary.hardware.numCpuThreads", "network", "datastore"}
)

// Room adds to the hosts of a snapshot what is reserved on them, and to its VMs what they reserve. It returns each asker,
// in the same order, with the hosts that cannot take it. One call, and for askers one REST call.
func (g *Gateway) Room(ctx context.Context, s *vsphere.Snapshot, askers []vsphere.Ref) ([]Asker, error) {
	const op = "read the room of"
	objects, err := g.retrieveWith(ctx, call{op: op, object: "hosts"}, func(session *soapSession) ([]types.PropertyFilterSpec, error) {
		return roomSpecs(fromMoRef(session.client.ServiceContent.RootFolder), s.Scope, askers), nil
	})
	if err != nil {
		return nil, err
	}
	inv := g.inventoryOf(merged(objects))
	inv.addReserved(s)
	s.Failover = inv.failover()
	if len(askers) == 0 {
		return nil, nil
	}
	tags, err := g.tagsOn(ctx, op, unique(slices.Clone(askers)), []string{policy.CategoryPriority})
	if err != nil {
		return nil, err
	}
	list := make([]Asker, 0, len(askers))
	for _, ref := range askers {
		who := g.askerIn(inv, op, ref, s.Hosts)
		who.CPUPool, who.MemoryPool = inv.poolsOf(ref, s)
		who.Priority = tags[ref][policy.CategoryPriority]
		list = append(list, who)
	}
	return list, nil
}

// Askers returns what VMs need that ask for room, in the same order, with their tags of policy.CategoryPriority and of the
// categories. One call, and one REST call.
func (g *Gateway) Askers(ctx context.Context, vms []vsphere.Ref, categories ...string) ([]Asker, error) {
	const op = "read who asks for room:"
	objects, err := g.retrieve(ctx, call{op: op, object: g.describeAll(vms)}, askerSpec(vms))
	if err != nil {
		return nil, err
	}
	tags, err := g.tagsOn(ctx, op, unique(slices.Clone(vms)), append([]string{policy.CategoryPriority}, categories...))
	if err != nil {
		return nil, err
	}
	inv := g.inventoryOf(merged(objects))
	list := make([]Asker, 0, len(vms))
	for _, ref := range vms {
		who := g.askerIn(inv, op, ref, nil)
		who.Tags, who.Priority = tags[ref], tags[ref][policy.CategoryPriority]
		list = append(list, who)
	}
	return list, nil
}

// askerIn reads one asker, and which hosts cannot take it.
func (g *Gateway) askerIn(inv inventory, op string, ref vsphere.Ref, hosts []vsphere.Host) Asker {
	o, ok := inv[ref]
	if !ok {
		return Asker{Ref: ref, Err: &Error{Op: op, Object: ref.Value, Kind: NotFound, Err: errGone}}
	}
	who := inv.asker(o)
	if who.CPUs <= 0 || who.MemoryMB <= 0 {
		who.Err = &Error{Op: op, Object: g.names.describe(ref), Kind: Invalid, Err: errNoSize, Remedy: "check that the account may read the VM"}
		return who
	}
	who.CannotTake = map[string]string{}
	for i := range hosts {
		if why := inv.cannotTake(hosts[i].Ref, o); why != "" {
			who.CannotTake[hosts[i].Ref.String()] = why
		}
	}
	return who
}

var errNoSize = errors.New("vCenter does not show how many CPUs and how much memory it has")

// merged joins what several specs ask of one object: vCenter answers each apart, in no promised order.
func merged(objects []object) (list []object) {
	at := make(map[vsphere.Ref]int, len(objects))
	for _, o := range objects {
		if i, twice := at[o.ref]; twice {
			maps.Copy(list[i].props, o.props)
			continue
		}
		at[o.ref] = len(list)
		list = append(list, o)
	}
	return list
}

func roomSpecs(root, scope vsphere.Ref, askers []vsphere.Ref) []types.PropertyFilterSpec {
	start := scope
	if scope.Zero() {
		start = root
	}
	specs := []types.PropertyFilterSpec{{
		PropSet: []types.PropertySpec{
			{Type: vsphere.TypeHost, PathSet: takerProperties},
			{Type: vsphere.TypeVM, PathSet: reservedProperties},
			{Type: typeCluster, PathSet: []string{"configurationEx"}},
		},
		ObjectSet: []types.ObjectSpec{{
			Obj:       toMoRef(start),
			SelectSet: hosts(&types.TraversalSpec{Type: vsphere.TypeHost, Path: "vm"}),
		}},
	}}
	if len(askers) == 0 {
		return specs
	}
	return append(specs, askerSpec(askers), poolSpec(askers))
}

func askerSpec(askers []vsphere.Ref) types.PropertyFilterSpec {
	of := types.PropertyFilterSpec{PropSet: []types.PropertySpec{
		{Type: vsphere.TypeVM, PathSet: askerProperties},
		{Type: vsphere.TypeHost, PathSet: takerProperties},
	}}
	for _, ref := range askers {
		of.ObjectSet = append(of.ObjectSet, types.ObjectSpec{
			Obj: toMoRef(ref), SelectSet: []types.BaseSelectionSpec{&types.TraversalSpec{Type: vsphere.TypeVM, Path: "runtime.host"}},
		})
	}
	return of
}

// addReserved sums up what running VMs reserve on each host.
func (inv inventory) addReserved(s *vsphere.Snapshot) {
	cpu, memory := map[vsphere.Ref]int64{}, map[vsphere.Ref]int64{}
	for ref, o := range inv {
		if ref.Type == vsphere.TypeVM && o.text("runtime.powerState") == vsphere.PoweredOn {
			host := o.refTo("runtime.host")
			mhz, mb := o.reserved()
			cpu[host] += mhz
			memory[host] += mb
		}
	}
	for i := range s.Hosts {
		h := &s.Hosts[i]
		o := inv[h.Ref]
		h.CPUReservedMHz, h.MemoryReservedMB = cpu[h.Ref], memory[h.Ref]
		h.CoreMHz, h.Threads = o.number("summary.hardware.cpuMhz"), int(o.number("summary.hardware.numCpuThreads"))
	}
	for i := range s.VMs {
		vm := &s.VMs[i]
		vm.CPUReservedMHz, vm.MemoryReservedMB = inv[vm.Ref].reserved()
	}
}

// reserved is what a running VM holds of its host's capacity: MHz, and MB with its overhead.
func (o object) reserved() (mhz, mb int64) {
	return o.number("summary.config.cpuReservation"), o.number("summary.config.memoryReservation") + o.number("runtime.memoryOverhead")/bytesPerMB
}

func (inv inventory) asker(o object) Asker {
	a := Asker{
		Ref: o.ref, Name: unescape(o.text("name")), PowerState: o.text("runtime.powerState"), Template: o.flag("config.template"),
		Host: o.refTo("runtime.host"), Cluster: inv[o.refTo("runtime.host")].refTo("parent"),
		CPUs: int(o.number("config.hardware.numCPU")), MemoryMB: o.number("config.hardware.memoryMB"),
	}
	overhead := o.number("runtime.memoryOverhead") / bytesPerMB
	if initial, ok := o.props["config.initialOverhead"].(types.VirtualMachineConfigInfoOverheadInfo); ok && overhead == 0 {
		overhead = initial.InitialMemoryReservation / bytesPerMB
	}
	if overhead == 0 {
		overhead = overheadOfVMMB + overheadOfCPUMB*int64(a.CPUs) + a.MemoryMB/overheadOfMemory
	}
	a.CPUReservedMHz, a.MemoryReservedMB = o.number("summary.config.cpuReservation"), o.number("summary.config.memoryReservation")+overhead
	return a
}

// cannotTake says why the asker cannot run on a host; empty: it can.
func (inv inventory) cannotTake(host vsphere.Ref, asker object) string {
	h := inv[host]
	for _, need := range []struct{ what, path string }{{"network", "network"}, {"datastore", "datastore"}} {
		there := h.refs(need.path)
		for _, ref := range asker.refs(need.path) {
			if !slices.Contains(there, ref) {
				return fmt.Sprintf("it does not have the VM's %s %s", need.what, ref.Value)
			}
		}
	}
	config, _ := inv[h.refTo("parent")].props["configurationEx"].(types.ClusterConfigInfoEx)
	for _, rule := range config.Rule {
		if info := rule.GetClusterRuleInfo(); info.Enabled == nil || !*info.Enabled {
			continue
		}
		if why := inv.ruledOut(config, rule, toMoRef(host), asker); why != "" {
			return why
		}
	}
	return ""
}

// ruledOut says which DRS rule keeps the asker off a host; empty: this one does not.
func (inv inventory) ruledOut(config types.ClusterConfigInfoEx, rule types.BaseClusterRuleInfo, host types.ManagedObjectReference, asker object) string {
	self := toMoRef(asker.ref)
	switch r := rule.(type) {
	case *types.ClusterVmHostRuleInfo:
		if r.Mandatory == nil || !*r.Mandatory || !slices.Contains(vmsOfGroup(config, r.VmGroupName), self) {
			return ""
		}
		if r.AffineHostGroupName != "" && !slices.Contains(hostsOfGroup(config, r.AffineHostGroupName), host) {
			return fmt.Sprintf("rule %q lets the VM run on hosts of group %q only", r.Name, r.AffineHostGroupName)
		}
		if r.AntiAffineHostGroupName != "" && slices.Contains(hostsOfGroup(config, r.AntiAffineHostGroupName), host) {
			return fmt.Sprintf("rule %q keeps the VM off the hosts of group %q", r.Name, r.AntiAffineHostGroupName)
		}
	case *types.ClusterAntiAffinityRuleSpec:
		if here, _ := inv.running(r.Vm, self, host); here {
			return fmt.Sprintf("rule %q separates the VM from one that runs there", r.Name)
		}
	case *types.ClusterAffinityRuleSpec:
		if here, elsewhere := inv.running(r.Vm, self, host); elsewhere && !here {
			return fmt.Sprintf("rule %q keeps the VM with one that runs elsewhere", r.Name)
		}
	}
	return ""
}

// running reports whether other VMs of a rule that the asker is in run on the host, and elsewhere.
func (inv inventory) running(members []types.ManagedObjectReference, self, host types.ManagedObjectReference) (here, elsewhere bool) {
	if !slices.Contains(members, self) {
		return false, false
	}
	for _, vm := range members {
		o := inv[fromMoRef(vm)]
		if vm == self || o.text("runtime.powerState") != vsphere.PoweredOn {
			continue
		}
		if at := toMoRef(o.refTo("runtime.host")); at == host {
			here = true
		} else {
			elsewhere = true
		}
	}
	return here, elsewhere
}

func vmsOfGroup(config types.ClusterConfigInfoEx, name string) []types.ManagedObjectReference {
	for _, g := range config.Group {
		if group, ok := g.(*types.ClusterVmGroup); ok && group.Name == name {
			return group.Vm
		}
	}
	return nil
}

func hostsOfGroup(config types.ClusterConfigInfoEx, name string) []types.ManagedObjectReference {
	for _, g := range config.Group {
		if group, ok := g.(*types.ClusterHostGroup); ok && group.Name == name {
			return group.Host
		}
	}
	return nil
}
