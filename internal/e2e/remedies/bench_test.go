package remedies

import (
	"fmt"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// BenchmarkRemedies measures from a request until its workflow has ended, VM by VM, and counts the calls to vCenter.
func BenchmarkRemedies(b *testing.B) {
	const n = 12 // the first warms sessions and caches
	full := func(s *sitetest.Site, vms []simulation.VM) {
		for i, vm := range vms {
			ds, err := s.VC.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: fmt.Sprint("full-", i), CapacityGB: 1000, UsedGB: 650})
			s.Must(err)
			_, err = s.VC.AddDisk(vm.Ref, simulation.DiskOptions{CapacityGB: 100, UsedGB: 100, Datastore: ds})
			s.Must(err)
		}
	}
	for name, c := range map[string]struct {
		kind    string
		prepare func(*sitetest.Site, []simulation.VM)
		set     func(*placement.Request)
	}{
		"add a CPU hot": {placement.KindResize, func(s *sitetest.Site, vms []simulation.VM) {
			for _, vm := range vms {
				s.Must(s.VC.SetHardware(vm.Ref, simulation.Hardware{CPUs: 2, CoresPerSocket: 1, CPUHotAdd: true}))
			}
		}, func(r *placement.Request) {
			r.Resize = &placement.Resize{Resource: placement.CPU, Mode: placement.ModeHotAdd}
		}},
		"leave a size as a tag": {placement.KindResize, nil, func(r *placement.Request) {
			r.Resize = &placement.Resize{Resource: placement.CPU, Mode: placement.ModeTag}
		}},
		"apply tags at power-off": {placement.KindReconfigure, func(s *sitetest.Site, vms []simulation.VM) {
			for _, vm := range vms {
				s.Must(s.VC.SetTags(vm.Ref, placement.CategoryMemory, "20480"))
				s.Must(s.VC.SetPowerState(vm.Ref, vsphere.PoweredOff))
			}
		}, nil},
		"move a VM": {placement.KindMove, full, nil},
	} {
		b.Run(name, func(b *testing.B) {
			s := sitetest.New(b, sitetest.OneCluster(n))
			s.Remedy.PerHour = 0
			vms := s.VC.TaggedVMs("")
			if c.prepare != nil {
				c.prepare(s, vms)
			}
			s.Worker()
			var samples []time.Duration
			calls := 0
			for b.Loop() {
				for i, vm := range vms {
					before := total(s.VC.Calls())
					start := time.Now()
					r := s.ByRequest(sitetest.RemedyRequest(c.kind, vm.Ref, c.set))
					took := time.Since(start)
					if state := r.Decisions[0].State; state != remediateapi.Applied && state != remediateapi.Deferred {
						b.Fatalf("%s", sitetest.Pretty(r))
					}
					if calls = total(s.VC.Calls()) - before; i > 0 {
						samples = append(samples, took)
					}
				}
			}
			sitetest.Figures(b, name, samples)
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
