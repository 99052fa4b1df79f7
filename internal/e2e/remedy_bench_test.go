package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remedy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// BenchmarkRemedies measures from a request until its workflow has ended, VM by VM, and counts the calls to vCenter.
func BenchmarkRemedies(b *testing.B) {
	const n = 12 // the first warms sessions and caches
	full := func(s *site, vms []simulation.VM) {
		for i, vm := range vms {
			ds, err := s.vc.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: fmt.Sprint("full-", i), CapacityGB: 1000, UsedGB: 650})
			s.must(err)
			_, err = s.vc.AddDisk(vm.Ref, simulation.DiskOptions{CapacityGB: 100, UsedGB: 100, Datastore: ds})
			s.must(err)
		}
	}
	for name, c := range map[string]struct {
		kind    string
		prepare func(*site, []simulation.VM)
		set     func(*remedy.Request)
	}{
		"add a CPU hot": {remedy.KindResize, func(s *site, vms []simulation.VM) {
			for _, vm := range vms {
				s.must(s.vc.SetHardware(vm.Ref, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
			}
		}, func(r *remedy.Request) { r.Resize = &remedy.Resize{Resource: remedy.CPU, Mode: remedy.ModeHotAdd} }},
		"leave a size as a tag": {remedy.KindResize, nil, func(r *remedy.Request) {
			r.Resize = &remedy.Resize{Resource: remedy.CPU, Mode: remedy.ModeTag}
		}},
		"apply tags at power-off": {remedy.KindReconfigure, func(s *site, vms []simulation.VM) {
			for _, vm := range vms {
				s.must(s.vc.SetTags(vm.Ref, remedy.CategoryMemory, "20480"))
				s.must(s.vc.SetPowerState(vm.Ref, vsphere.PoweredOff))
			}
		}, nil},
		"move a VM": {remedy.KindMove, full, nil},
	} {
		b.Run(name, func(b *testing.B) {
			s := newSite(b, oneCluster(n))
			s.remedy.PerHour = 0
			vms := s.vc.TaggedVMs("")
			if c.prepare != nil {
				c.prepare(s, vms)
			}
			s.worker()
			var samples []time.Duration
			calls := 0
			for b.Loop() {
				for i, vm := range vms {
					before := total(s.vc.Calls())
					start := time.Now()
					r := s.byRequest(asks(c.kind, vm.Ref, c.set))
					took := time.Since(start)
					if state := r.Decisions[0].State; state != remediateapi.Applied && state != remediateapi.Deferred {
						b.Fatalf("%s", pretty(r))
					}
					if calls = total(s.vc.Calls()) - before; i > 0 {
						samples = append(samples, took)
					}
				}
			}
			figures(b, name, samples)
			b.ReportMetric(float64(calls), "calls")
		})
	}
}

func total(calls map[string]int) (n int) {
	for _, k := range calls {
		n += k
	}
	return n
}
