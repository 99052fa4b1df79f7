package simulation

import (
	"slices"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// defaultShutdown is how long a guest takes to shut down unless SetShutdownDelay says otherwise.
const defaultShutdown = 20 * time.Millisecond

// machines hold how the VMs behave, apart from what the simulator knows of them.
type machines struct {
	mu       sync.Mutex // a leaf
	shutdown time.Duration
	delay    time.Duration
	onDelay  time.Duration
	drs      *DRS
	byRef    map[types.ManagedObjectReference]*behaviour
	tasks    int
	running  map[types.ManagedObjectReference]bool // tasks under way
}

type behaviour struct {
	ignoresShutdown bool
	noTools         bool
	delay           *time.Duration
	disabled        []string
	faults          []*callRule
	boots           int
	bootMemory      int // MB at the last power-on
	interfered      int // reconfigurations before which somebody else makes one
	moving          *types.ManagedObjectReference
	keeper          *controller
	hung            *hanging // nil: its reconfigurations do not hang
	powering        []types.ManagedObjectReference
	reply           func(notice string) (answer string, after time.Duration)
}

func (m *machines) init() {
	m.shutdown = defaultShutdown
	m.byRef = map[types.ManagedObjectReference]*behaviour{}
}

// with runs fn on the behaviour of a VM under the lock.
func (m *machines) with(ref types.ManagedObjectReference, fn func(*behaviour)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.byRef[ref]
	if b == nil {
		b = &behaviour{}
		m.byRef[ref] = b
	}
	fn(b)
}

func (m *machines) disabled(ref types.ManagedObjectReference, method string) (found bool) {
	m.with(ref, func(b *behaviour) { found = slices.Contains(b.disabled, method) })
	return found
}

// taskDelay is how long a power-off or suspend of the VM takes.
func (m *machines) taskDelay(ref types.ManagedObjectReference) (d time.Duration) {
	m.with(ref, func(b *behaviour) {
		d = m.delay
		if b.delay != nil {
			d = *b.delay
		}
	})
	return d
}

// powerOnDelay is how long a power-on takes.
func (m *machines) powerOnDelay() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.onDelay
}

// SetPowerOnDelay lets the power-ons to come take so long.
func (v *VCenter) SetPowerOnDelay(d time.Duration) {
	v.machines.mu.Lock()
	defer v.machines.mu.Unlock()
	v.machines.onDelay = d
}

func (m *machines) taskFault(ref types.ManagedObjectReference) (fault types.BaseMethodFault) {
	m.with(ref, func(b *behaviour) {
		for _, rule := range b.faults {
			if rule.times != 0 {
				rule.times, fault = spend(rule.times), rule.fault
				return
			}
		}
	})
	return fault
}

// boots counts how often the VM was powered on, so that a late shutdown does not hit its next life.
func (m *machines) boots(ref types.ManagedObjectReference) (n int) {
	m.with(ref, func(b *behaviour) { n = b.boots })
	return n
}

// busy is the fault with which vCenter refuses a task on a VM of which another is under way: a relocation, or with
// power a power-on, power-off or suspend too.
func (m *machines) busy(ref types.ManagedObjectReference, power bool) (fault types.BaseMethodFault) {
	m.with(ref, func(b *behaviour) {
		switch {
		case b.moving != nil:
			fault = &types.TaskInProgress{Task: *b.moving}
		case power && len(b.powering) != 0:
			fault = &types.TaskInProgress{Task: b.powering[0]}
		}
	})
	return fault
}

func (m *machines) nextTask() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tasks++
	return m.tasks
}

func (m *machines) clearFaults() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.byRef {
		b.faults = nil
	}
}

// IgnoreShutdown lets the VM's guest accept shutdowns and stay on.
func (v *VCenter) IgnoreShutdown(ref types.ManagedObjectReference) {
	v.machines.with(ref, func(b *behaviour) { b.ignoresShutdown = true })
}

// SetShutdownDelay sets how long a guest takes to shut down; 20 ms unless set.
func (v *VCenter) SetShutdownDelay(d time.Duration) {
	v.machines.mu.Lock()
	defer v.machines.mu.Unlock()
	v.machines.shutdown = d
}

// SetTaskDelay sets how long each power-off and suspend task takes; the VM can be read meanwhile.
func (v *VCenter) SetTaskDelay(d time.Duration) {
	v.machines.mu.Lock()
	defer v.machines.mu.Unlock()
	v.machines.delay = d
}

// SetTaskDelayFor does the same for one VM, before what SetTaskDelay says.
func (v *VCenter) SetTaskDelayFor(ref types.ManagedObjectReference, d time.Duration) {
	v.machines.with(ref, func(b *behaviour) { b.delay = &d })
}

// FailTask lets the next times (-1: all) power-off and suspend tasks of the VM end in the fault; 0 withdraws that.
func (v *VCenter) FailTask(ref types.ManagedObjectReference, fault types.BaseMethodFault, times int) {
	v.machines.with(ref, func(b *behaviour) {
		if times == 0 {
			b.faults = nil
			return
		}
		b.faults = append(b.faults, &callRule{fault: fault, times: times})
	})
}

// overridden are the methods that a machine serves in the simulator's place.
var overridden = map[string]bool{
	"PowerOffVM_Task": true,
	"PowerOnVM_Task":  true,
	"SuspendVM_Task":  true,
	"ShutdownGuest":   true,
	"ReconfigVM_Task": true,
	"RelocateVM_Task": true,
	"Destroy_Task":    true,

	"RefreshStorageInfo": true,
}

// whileMoving are the methods that are disabled while a VM is relocated.
var whileMoving = []string{
	"PowerOnVM_Task", "PowerOffVM_Task", "SuspendVM_Task", "ResetVM_Task", "ReconfigVM_Task", "RelocateVM_Task",
	"MigrateVM_Task", "CloneVM_Task", "CreateSnapshot_Task", "CreateSnapshotEx_Task", "Destroy_Task", "UnregisterVM",
}

// machine serves one call on a VM. The simulator calls it with the VM's lock held for the call's context.
type machine struct {
	Self    types.ManagedObjectReference
	vcenter *VCenter
	vm      *simulator.VirtualMachine
	at      types.ManagedObjectReference // host on which to power it on; zero: where it is
}

// Reference makes a machine a managed object: the VM's.
func (m *machine) Reference() types.ManagedObjectReference { return m.Self }
