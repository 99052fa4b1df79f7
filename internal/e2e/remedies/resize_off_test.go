package remedies

import (
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// cycled resizes the VM in a window that is open.
func cycled(s *sitetest.Site, vm simulation.VM) remediateapi.Decision {
	s.T.Helper()
	s.Must(s.VC.SetHardware(vm.Ref, simulation.Hardware{CPUs: 2, CoresPerSocket: 1}))
	r := s.ByRequest(sitetest.RemedyRequest(placement.KindResize, vm.Ref, func(r *placement.Request) {
		r.Resize = &placement.Resize{
			Resource: placement.CPU, Mode: placement.ModePowerCycle, Window: "* * * * *", Duration: clock.Duration(10 * time.Minute),
		}
	}))
	return r.Decisions[0]
}

func TestAVMThatAPersonTurnsOffWithinTheWindowStaysOff(t *testing.T) {
	t.Parallel()
	for what, off := range map[string]func(*sitetest.Site, simulation.VM){
		"after its guest was asked": func(s *sitetest.Site, vm simulation.VM) {
			s.VC.IgnoreShutdown(vm.Ref)
			s.OnCall("ShutdownGuest", 1, func(types.ManagedObjectReference) {
				sitetest.After(sitetest.HalfASecond, func() { s.Must(s.VC.PowerOffAs(vm.Ref, "bob@example.org")) })
			})
		},
		"just before its guest is asked": func(s *sitetest.Site, vm simulation.VM) {
			s.OnCall("ShutdownGuest", 1, func(types.ManagedObjectReference) { s.Must(s.VC.PowerOffAs(vm.Ref, "bob@example.org")) })
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := sitetest.Remedied(t)
			s.Worker()
			vm := s.VC.TaggedVMs("")[0]
			off(s, vm)
			d := cycled(s, vm)
			if s.On(vm) || !strings.Contains(d.Reason, "somebody else turned it off") {
				t.Errorf("on: %v, %s", s.On(vm), sitetest.Pretty(d))
			}
		})
	}
}

func TestAVMThatWasShutDownWithinTheWindowComesBackWhateverTheLagOfEvents(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t)
	s.Lagging(time.Hour, sitetest.OffEvent)
	s.Worker()
	vm := s.VC.TaggedVMs("")[0]
	if d := cycled(s, vm); d.State != remediateapi.Applied || !s.On(vm) {
		t.Errorf("on: %v, %s", s.On(vm), sitetest.Pretty(d))
	}
}
