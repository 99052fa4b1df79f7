package simulation

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// What a host uses without any VM, and how busy the clusters are at the start.
const (
	overheadMHz   = 400
	overheadMB    = 2048
	startCPU      = 60.0 // percent
	startMemory   = 55.0
	batchWeight   = 1.5 // of a tagged VM's CPU demand, against 1 of the others
	bytesPerMB    = 1 << 20
	hostMemoryMB  = hostMemory / bytesPerMB
	hostTotalMHz  = hostMHz * hostCores
	powerProperty = "runtime.powerState"
)

// load is what each VM asks for when it is on, and what was last told to the model.
type load struct {
	mu     sync.Mutex // guards the maps; a leaf
	demand map[types.ManagedObjectReference]usage
	place  map[types.ManagedObjectReference]types.ManagedObjectReference // VM to host
	on     map[types.ManagedObjectReference]bool
	told   map[types.ManagedObjectReference]usage
	size   map[types.ManagedObjectReference]usage // of hosts
	idle   map[types.ManagedObjectReference]usage // what hosts use without any VM
	limit  map[types.ManagedObjectReference]int64 // CPU limits in MHz, of VMs whose limit was set

	telling sync.Mutex // one at a time tells the model; never taken under an object's lock
	changed chan struct{}
}

// usage is CPU in MHz and memory in MB.
type usage struct{ mhz, mb float64 }

func (u usage) plus(o usage) usage { return usage{u.mhz + o.mhz, u.mb + o.mb} }

func (u usage) rounded() usage { return usage{math.Round(u.mhz), math.Round(u.mb)} }

// startLoad gives every VM its demand and keeps the statistics up to date until Close.
func (v *VCenter) startLoad() {
	l := &v.load
	l.demand, l.place = map[types.ManagedObjectReference]usage{}, map[types.ManagedObjectReference]types.ManagedObjectReference{}
	l.on, l.told = map[types.ManagedObjectReference]bool{}, map[types.ManagedObjectReference]usage{}
	l.size, l.idle = map[types.ManagedObjectReference]usage{}, map[types.ManagedObjectReference]usage{}
	l.limit, l.changed = map[types.ManagedObjectReference]int64{}, make(chan struct{}, 1)
	if v.twin != nil {
		v.measureTwin()
	} else {
		v.makeLoad()
	}
	v.tell()
	v.service.Context.Map.AddHandler(&powerWatch{vcenter: v, load: l})
	if !v.begin() {
		return
	}
	go func() {
		defer v.work.Done()
		for {
			select {
			case <-v.done:
				return
			case <-l.changed:
				v.tell()
			}
		}
	}()
}

// makeLoad gives the VMs that were built, all of which are on, what they ask for.
func (v *VCenter) makeLoad() {
	l := &v.load
	for _, vm := range v.VMs() {
		weight := 1.0
		if vm.Tagged {
			weight = batchWeight
		}
		l.demand[vm.Ref], l.place[vm.Ref], l.on[vm.Ref] = usage{weight, 1}, vm.Host, true
	}
	for _, c := range v.Inventory().Clusters {
		for _, h := range c.Hosts {
			l.size[h.Ref], l.idle[h.Ref] = usage{hostTotalMHz, hostMemoryMB}, usage{overheadMHz, overheadMB}
		}
		if len(c.VMs) != 0 {
			_ = v.SetClusterUsage(c.Name, startCPU, startMemory) // all its VMs are on
		}
	}
}

// SetClusterUsage scales what the cluster's VMs ask for so that the cluster is at these percentages of its hosts'
// CPU and memory now; VMs that are off keep their share for when they come back. It needs a VM that is on. The
// hosts' own overhead (400 MHz and 2048 MB each) is the least usage there is.
func (v *VCenter) SetClusterUsage(cluster string, cpuPercent, memPercent float64) error {
	c := v.Cluster(cluster)
	if c.Name == "" {
		return fmt.Errorf("set the usage of cluster %q: the simulated vCenter has none of that name; Inventory lists them", cluster)
	}
	if cpuPercent < 0 || memPercent < 0 {
		return fmt.Errorf("set the usage of %s to %.1f %% CPU and %.1f %% memory: a percentage cannot be negative", cluster, cpuPercent, memPercent)
	}
	size, idle := v.load.hosts(c)
	want := usage{max(0, size.mhz*cpuPercent/100-idle.mhz), max(0, size.mb*memPercent/100-idle.mb)}
	if err := v.load.scale(c, want, func(ref types.ManagedObjectReference) bool { return v.load.on[ref] }); err != nil {
		return err
	}
	v.tell()
	return nil
}

// SetClusterDemand scales what the cluster's VMs ask for so that the cluster would be at these percentages if all of its
// VMs but the idle ones were on. So its Usage is below that by what the VMs that are off would use: who turns a VM off
// relieves the cluster, and who turns it on loads it.
func (v *VCenter) SetClusterDemand(cluster string, cpuPercent, memPercent float64, idle ...types.ManagedObjectReference) error {
	c := v.Cluster(cluster)
	if c.Name == "" {
		return fmt.Errorf("set the demand of cluster %q: the simulated vCenter has none of that name; Inventory lists them", cluster)
	}
	if cpuPercent < 0 || memPercent < 0 {
		return fmt.Errorf("set the demand of %s to %.1f %% CPU and %.1f %% memory: a percentage cannot be negative", cluster, cpuPercent, memPercent)
	}
	size, without := v.load.hosts(c)
	want := usage{max(0, size.mhz*cpuPercent/100-without.mhz), max(0, size.mb*memPercent/100-without.mb)}
	if err := v.load.scale(c, want, func(ref types.ManagedObjectReference) bool { return !slices.Contains(idle, ref) }); err != nil {
		return err
	}
	v.tell()
	return nil
}

// hosts is the size of the cluster's hosts together, and what they use without any VM.
func (l *load) hosts(c Cluster) (size, idle usage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range c.Hosts {
		size, idle = size.plus(l.size[h.Ref]), idle.plus(l.idle[h.Ref])
	}
	return size, idle
}

// scale lets the cluster's VMs that count ask for so much together, and its other VMs for more or less alike. counts is
// called with the lock held.
func (l *load) scale(c Cluster, want usage, counts func(types.ManagedObjectReference) bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var sum usage
	for _, vm := range c.VMs {
		if counts(vm.Ref) {
			sum = sum.plus(l.demand[vm.Ref])
		}
	}
	if sum.mhz == 0 || sum.mb == 0 {
		return fmt.Errorf("set the usage of %s: none of its VMs that count asks for anything; power one on first", c.Name)
	}
	// Never quite zero, so that the VMs can be scaled up again.
	cpu, mem := max(want.mhz/sum.mhz, 1e-9), max(want.mb/sum.mb, 1e-9)
	for _, vm := range c.VMs {
		d := l.demand[vm.Ref]
		l.demand[vm.Ref] = usage{d.mhz * cpu, d.mb * mem}
	}
	return nil
}

// Usage is the cluster's use of its hosts' CPU and memory in percent, as its hosts' statistics will say in a
// moment; 0 for an unknown cluster.
func (v *VCenter) Usage(cluster string) (cpuPercent, memPercent float64) {
	return v.UsageOf(v.Cluster(cluster).Ref)
}

// UsageOf is Usage of the cluster of that reference, as names may repeat in a saved inventory.
func (v *VCenter) UsageOf(ref types.ManagedObjectReference) (cpuPercent, memPercent float64) {
	inventory := v.Inventory()
	at := slices.IndexFunc(inventory.Clusters, func(c Cluster) bool { return c.Ref == ref })
	if at < 0 || ref.Value == "" {
		return 0, 0
	}
	c := inventory.Clusters[at]
	size, _ := v.load.hosts(c)
	if size.mhz == 0 || size.mb == 0 {
		return 0, 0
	}
	now := v.load.now(inventory)
	var sum usage
	for _, h := range c.Hosts {
		sum = sum.plus(now[h.Ref])
	}
	return 100 * sum.mhz / size.mhz, 100 * sum.mb / size.mb
}

// now is what each VM and host uses at this moment.
func (l *load) now(inventory Inventory) map[types.ManagedObjectReference]usage {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[types.ManagedObjectReference]usage, len(l.demand))
	for _, c := range inventory.Clusters {
		for _, h := range c.Hosts {
			out[h.Ref] = l.idle[h.Ref]
		}
		for _, vm := range c.VMs {
			var u usage
			if l.on[vm.Ref] {
				u = l.limited(vm.Ref, l.demand[vm.Ref]).rounded()
			}
			out[vm.Ref] = u
			host := l.place[vm.Ref]
			out[host] = out[host].plus(u)
		}
	}
	return out
}

// limited is what a VM uses that asks for so much: no more CPU than its limit. The caller holds the lock.
func (l *load) limited(vm types.ManagedObjectReference, asks usage) usage {
	if most, ok := l.limit[vm]; ok {
		asks.mhz = min(asks.mhz, float64(most))
	}
	return asks
}

// room is the VM's host, what is free on each host, and what the VM asks for when it is on.
func (l *load) room(vm types.ManagedObjectReference, inventory Inventory) (host types.ManagedObjectReference, free map[types.ManagedObjectReference]usage, need usage) {
	used := l.now(inventory)
	free = map[types.ManagedObjectReference]usage{}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range inventory.Clusters {
		for _, h := range c.Hosts {
			free[h.Ref] = usage{l.size[h.Ref].mhz - used[h.Ref].mhz, l.size[h.Ref].mb - used[h.Ref].mb}
		}
	}
	return l.place[vm], free, l.demand[vm].rounded()
}

// tell writes the statistics that changed since the last time into the model.
func (v *VCenter) tell() {
	l := &v.load
	l.telling.Lock()
	defer l.telling.Unlock()
	now := l.now(v.Inventory())
	for ref, u := range now {
		if u != l.told[ref] {
			v.tellOne(ref, u)
		}
	}
	l.told = maps.Clone(now)
}

func (v *VCenter) tellOne(ref types.ManagedObjectReference, u usage) {
	ctx := v.context("")
	obj := ctx.Map.Get(ref)
	cpu, mem := int32(u.mhz), int32(u.mb)
	changes := []types.PropertyChange{{Name: "summary.quickStats.overallCpuUsage", Val: cpu}}
	switch obj.(type) {
	case *simulator.HostSystem:
		changes = append(changes, types.PropertyChange{Name: "summary.quickStats.overallMemoryUsage", Val: mem})
	case *simulator.VirtualMachine:
		changes = append(changes,
			types.PropertyChange{Name: "summary.quickStats.overallCpuDemand", Val: cpu},
			types.PropertyChange{Name: "summary.quickStats.guestMemoryUsage", Val: mem},
			types.PropertyChange{Name: "summary.quickStats.hostMemoryUsage", Val: mem})
	default:
		return // removed meanwhile
	}
	ctx.WithLock(obj, func() { ctx.Update(obj, changes) })
}

// powerWatch hears from the simulator's registry that a VM went on or off, or got a CPU limit, whoever did it.
type powerWatch struct {
	vcenter *VCenter
	load    *load
}

// Reference makes the watch an object of the registry.
func (*powerWatch) Reference() types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "SimulationLoad", Value: "load"}
}

// PutObject does nothing: new VMs have no demand.
func (*powerWatch) PutObject(*simulator.Context, mo.Reference) {}

// UpdateObject notes the power state and the CPU limit; the object's lock is held, so the work is left to others.
func (w *powerWatch) UpdateObject(_ *simulator.Context, obj mo.Reference, changes []types.PropertyChange) {
	for _, c := range changes {
		if state, ok := c.Val.(types.VirtualMachinePowerState); ok && c.Name == powerProperty {
			w.note(obj.Reference(), state == on)
		}
		if a, ok := c.Val.(types.ResourceAllocationInfo); ok && c.Name == "config.cpuAllocation" {
			w.noteLimit(obj.Reference(), a.Limit)
		}
	}
}

// RemoveObject forgets a VM.
func (w *powerWatch) RemoveObject(_ *simulator.Context, ref types.ManagedObjectReference) {
	if ref.Type == "VirtualMachine" {
		w.note(ref, false)
		w.vcenter.forgetFiles(ref)
	}
}

func (w *powerWatch) note(ref types.ManagedObjectReference, powered bool) {
	w.load.mu.Lock()
	w.load.on[ref] = powered
	w.load.mu.Unlock()
	w.tellSoon()
}

// noteLimit notes a VM's CPU limit; none and -1 are no limit.
func (w *powerWatch) noteLimit(ref types.ManagedObjectReference, mhz *int64) {
	w.load.mu.Lock()
	if mhz == nil || *mhz < 0 {
		delete(w.load.limit, ref)
	} else {
		w.load.limit[ref] = *mhz
	}
	w.load.mu.Unlock()
	w.tellSoon()
}

func (w *powerWatch) tellSoon() {
	select {
	case w.load.changed <- struct{}{}:
	default: // one is pending already
	}
}
