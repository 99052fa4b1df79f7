package standalone

import (
	"slices"
	"strings"
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
	Cluster   string
	Power     types.VirtualMachinePowerState
	Attribute string // the custom attribute's value; "" for none
}

// states reads the state of every VM from the model, in the order of the inventory.
func states(vc *simulation.VCenter) []vmState {
	var all []vmState
	for _, vm := range vc.VMs() {
		value, _ := vc.Attribute(vm.Ref, preemption.AttributeKey)
		all = append(all, vmState{Ref: vm.Ref, Name: vm.Name, Cluster: vm.Cluster, Power: vc.PowerState(vm.Ref), Attribute: value})
	}
	return all
}

// observer looks at the simulated VMs and says what has changed.
type observer struct {
	vc    *simulation.VCenter
	out   *screen
	brief bool // one line for all VMs of a cluster that went on or off together, and none for records

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
	var powered []vmState
	for _, now := range states(o.vc) {
		before := o.known[now.Ref]
		if now == before {
			continue
		}
		o.known[now.Ref] = now
		switch {
		case now.Power != before.Power && o.brief:
			powered = append(powered, now)
		case now.Power != before.Power:
			o.sayPower([]vmState{now})
		}
		if now.Attribute != before.Attribute && !o.brief {
			o.out.say("annotated", "%s", now.Name)
		}
	}
	for len(powered) > 0 {
		first := powered[0]
		alike := func(s vmState) bool { return s.Power == first.Power && s.Cluster == first.Cluster }
		o.sayPower(slices.DeleteFunc(slices.Clone(powered), func(s vmState) bool { return !alike(s) }))
		powered = slices.DeleteFunc(powered, alike)
	}
}

// sayPower says that VMs of one cluster have a new power state, the same.
func (o *observer) sayPower(vms []vmState) {
	kind := "off"
	switch vms[0].Power {
	case types.VirtualMachinePowerStatePoweredOn:
		kind = "on"
	case types.VirtualMachinePowerStateSuspended:
		kind = "suspended"
	}
	var names []string
	for _, vm := range vms {
		names = append(names, vm.Name)
	}
	cluster := vms[0].Cluster
	cpu, _ := o.vc.Usage(cluster)
	o.out.say(kind, "%-*s  %s is at %.0f %% CPU", nameWidth, strings.Join(names, ", "), cluster, cpu)
}
