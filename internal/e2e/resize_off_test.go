package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remedy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// cycled resizes the VM in a window that is open.
func (s *site) cycled(vm simulation.VM) remediateapi.Decision {
	s.t.Helper()
	s.must(s.vc.SetHardware(vm.Ref, simulation.Hardware{CPUs: 2, CoresPerSocket: 1}))
	r := s.byRequest(asks(remedy.KindResize, vm.Ref, func(r *remedy.Request) {
		r.Resize = &remedy.Resize{
			Resource: remedy.CPU, Mode: remedy.ModePowerCycle, Window: "* * * * *", Duration: clock.Duration(10 * time.Minute),
		}
	}))
	return r.Decisions[0]
}

func TestAVMThatAPersonTurnsOffWithinTheWindowStaysOff(t *testing.T) {
	t.Parallel()
	for what, off := range map[string]func(*site, simulation.VM){
		"after its guest was asked": func(s *site, vm simulation.VM) {
			s.vc.IgnoreShutdown(vm.Ref)
			s.onCall("ShutdownGuest", 1, func(types.ManagedObjectReference) {
				later(time500, func() { s.must(s.vc.PowerOffAs(vm.Ref, "bob@example.org")) })
			})
		},
		"just before its guest is asked": func(s *site, vm simulation.VM) {
			s.onCall("ShutdownGuest", 1, func(types.ManagedObjectReference) { s.must(s.vc.PowerOffAs(vm.Ref, "bob@example.org")) })
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := remedied(t)
			s.worker()
			vm := s.vc.TaggedVMs("")[0]
			off(s, vm)
			d := s.cycled(vm)
			if s.on(vm) || !strings.Contains(d.Reason, "somebody else turned it off") {
				t.Errorf("on: %v, %s", s.on(vm), pretty(d))
			}
		})
	}
}

func TestAVMThatWasShutDownWithinTheWindowComesBackWhateverTheLagOfEvents(t *testing.T) {
	t.Parallel()
	s := remedied(t)
	s.lagging(time.Hour, offEvent)
	s.worker()
	vm := s.vc.TaggedVMs("")[0]
	if d := s.cycled(vm); d.State != remediateapi.Applied || !s.on(vm) {
		t.Errorf("on: %v, %s", s.on(vm), pretty(d))
	}
}
