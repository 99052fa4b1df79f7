package sitetest

import (
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// WithThrottle lets HIGH throttle VMs to a quarter of what they use, and the policy restore.
func WithThrottle(f ...func(*policy.Policy)) Option {
	return WithRestore(append([]func(*policy.Policy){func(p *policy.Policy) {
		p.Criticality.High = policy.Treatment{Action: action.Throttle, Throttle: policy.Throttle{CPU: policy.Speed{N: 25, Percent: true}}}
	}}, f...)...)
}

// WithLadder throttles for CPU, and suspends so long after that for the memory that is still short.
func WithLadder(between time.Duration) Option {
	return WithThrottle(func(p *policy.Policy) {
		p.Target = policy.Goal{CPU: 60, Memory: 50, Margin: 1}
		p.Criticality.High = policy.Treatment{Steps: []policy.Step{
			{Action: action.Throttle, Throttle: p.Criticality.High.Throttle, For: clock.Duration(between)}, {Action: action.Suspend},
		}}
		p.RepeatWhileRed = false
	})
}

// Limits are the CPU limits of the tagged VMs, as vCenter has them; -1: unlimited.
func (s *Site) Limits() map[types.ManagedObjectReference]int64 {
	s.T.Helper()
	out := map[types.ManagedObjectReference]int64{}
	s.limits(func(g *vcenter.Gateway) {
		var refs []vsphere.Ref
		vms := s.VC.TaggedVMs("")
		for _, vm := range vms {
			refs = append(refs, Ref(vm.Ref))
		}
		limits, err := g.CPULimits(s.T.Context(), refs)
		s.Must(err)
		for _, vm := range vms {
			limit := limits[Ref(vm.Ref)]
			if !limit.Known {
				s.T.Fatalf("the limit of %s is not known", vm.Name)
			}
			out[vm.Ref] = limit.MHz
		}
	})
	return out
}

// SetLimit sets a VM's CPU limit as its owner does.
func (s *Site) SetLimit(vm types.ManagedObjectReference, mhz int64) {
	s.T.Helper()
	s.limits(func(g *vcenter.Gateway) { s.Must(g.SetCPULimit(s.T.Context(), Ref(vm), mhz, "")) })
}

func (s *Site) limits(f func(*vcenter.Gateway)) {
	g := s.Gateway()
	defer g.Close(s.T.Context())
	f(g)
}

// WantLimits checks the CPU limits of the tagged VMs from vCenter's side. Those that want does not name have none.
func (s *Site) WantLimits(want map[types.ManagedObjectReference]int64) {
	s.T.Helper()
	for vm, got := range s.Limits() {
		limit, ok := want[vm]
		if !ok {
			limit = policy.Unlimited
		}
		if got != limit {
			s.T.Errorf("%s has a CPU limit of %d MHz, want %d", vm, got, limit)
		}
	}
}
