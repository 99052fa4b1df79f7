package standalone

import (
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// vmState is what vCenter says of one VM.
type vmState struct {
	Ref       types.ManagedObjectReference
	Name      string
	Power     types.VirtualMachinePowerState
	Attribute string // the custom attribute's value; "" for none
}

// states reads the state of every VM from the model, in the order of the inventory.
func states(vc *simulation.VCenter) []vmState {
	var all []vmState
	for _, vm := range vc.VMs() {
		value, _ := vc.Attribute(vm.Ref, preemption.AttributeKey)
		all = append(all, vmState{Ref: vm.Ref, Name: vm.Name, Power: vc.PowerState(vm.Ref), Attribute: value})
	}
	return all
}

// observer looks at the simulated VMs and says what has changed.
type observer struct {
	vc  *simulation.VCenter
	out *screen

	mu    sync.Mutex
	known map[types.ManagedObjectReference]vmState
}

func newObserver(vc *simulation.VCenter, out *screen) *observer {
	o := &observer{vc: vc, out: out, known: map[types.ManagedObjectReference]vmState{}}
	for _, s := range states(vc) {
		o.known[s.Ref] = s
	}
	return o
}

// watch looks again and again until the function it returns is called, and once more then.
func (o *observer) watch(every time.Duration) (stop func()) {
	end := clock.Every(every, o.look)
	return func() {
		end()
		o.look()
	}
}

// look says what has changed since it last did.
func (o *observer) look() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, now := range states(o.vc) {
		before := o.known[now.Ref]
		if now == before {
			continue
		}
		o.known[now.Ref] = now
		if now.Power != before.Power {
			o.sayPower(now)
		}
		if now.Attribute != before.Attribute {
			o.out.say("annotated", "%s", now.Name)
		}
	}
}

func (o *observer) sayPower(now vmState) {
	kind := "off"
	switch now.Power {
	case types.VirtualMachinePowerStatePoweredOn:
		kind = "on"
	case types.VirtualMachinePowerStateSuspended:
		kind = "suspended"
	}
	cluster := ""
	for _, vm := range o.vc.VMs() {
		if vm.Ref == now.Ref {
			cluster = vm.Cluster
		}
	}
	cpu, _ := o.vc.Usage(cluster)
	o.out.say(kind, "%-*s  %s is at %.0f %% CPU", nameWidth, now.Name, cluster, cpu)
}
