package policy

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// roomy is a cluster of hosts of 10 GHz and 100 GB each, used to so many percent, with VMs of 1 GHz and 10 GB on the first.
func roomy(used ...int64) vsphere.Snapshot {
	cluster := vsphere.Ref{Type: vsphere.TypeCluster, Value: "domain-c7"}
	s := vsphere.Snapshot{Scope: cluster}
	for i, u := range used {
		host := vsphere.Ref{Type: vsphere.TypeHost, Value: fmt.Sprintf("host-%d", i+1)}
		s.Hosts = append(s.Hosts, vsphere.Host{
			Ref: host, Cluster: cluster, Connected: true, CPUMHz: 10_000, CPUUsedMHz: u * 100, MemoryMB: 100_000, MemoryUsedMB: u * 1000,
		})
		for n := range 5 {
			s.VMs = append(s.VMs, vsphere.VM{
				Ref:  vsphere.Ref{Type: vsphere.TypeVM, Value: fmt.Sprintf("vm-%d%d", i+1, n)},
				Name: fmt.Sprintf("spot-%d%d", i+1, n), Host: host, Cluster: cluster, PowerState: vsphere.PoweredOn, Connected: true, Tagged: true,
				CPUMHz: 1000, MemoryMB: 10_000,
			})
		}
	}
	return s
}

func share(n int) Amount { return Amount{N: n, Percent: true} }

func TestHeadroomIsKeptFree(t *testing.T) {
	for name, c := range map[string]struct {
		headroom Headroom
		used     []int64
		gone     int
		partial  bool
	}{
		"nobody goes while it is there":                     {Headroom{CPU: share(10), Memory: share(20)}, []int64{70, 70, 70}, 0, false},
		"as many as it lacks":                               {Headroom{CPU: share(10), Memory: share(20)}, []int64{85, 85, 85}, 2, false},
		"of CPU alone":                                      {Headroom{CPU: share(10)}, []int64{95, 95, 95}, 2, false},
		"of memory alone":                                   {Headroom{Memory: share(50)}, []int64{60, 60, 60}, 3, false},
		"a host may fail, and the others carry it":          {Headroom{FailHosts: 1}, []int64{66, 66, 66}, 0, false},
		"a host may fail, and the others could not":         {Headroom{FailHosts: 1}, []int64{75, 75, 75}, 3, false},
		"a host may fail, and a share is free besides":      {Headroom{Memory: share(10), FailHosts: 1}, []int64{66, 66, 66}, 2, false},
		"of hosts of which all may fail nothing is known":   {Headroom{FailHosts: 3}, []int64{90, 90, 90}, 0, false},
		"two may fail, and all spot VMs are not enough for": {Headroom{FailHosts: 2}, []int64{99, 99, 99}, 15, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := Default()
			p.MaxVMs = 100
			p.Headroom = c.headroom
			if err := p.Validate(); err != nil {
				t.Fatal(err)
			}
			p, err := p.ForHeadroom()
			if err != nil {
				t.Fatal(err)
			}
			s := roomy(c.used...)
			plan := Choose(s, Demand{Tag: "t", Criticality: "HIGH", Scope: s.Scope}, p)
			if len(plan.Targets) != c.gone || plan.Partial != c.partial {
				t.Errorf("%d go, partial %t: want %d, %t; usage %+v, spared %+v", len(plan.Targets), plan.Partial, c.gone, c.partial, plan.Usage, plan.Spared[:1])
			}
			returns := ChooseReturns(s, nil, ReturnDemand{Tag: "t", Scope: s.Scope}, p)
			for i, u := range returns.Usage {
				if len(plan.Usage) > 0 && (u.CPU.Target != plan.Usage[i].CPU.Target || u.CPU.Kept != plan.Usage[i].CPU.Kept) {
					t.Errorf("a restore keeps other headroom: %+v", u)
				}
			}
		})
	}
}

func TestAPolicyWithoutHeadroomKeepsNone(t *testing.T) {
	if _, err := Default().ForHeadroom(); !errors.Is(err, ErrNoHeadroom) {
		t.Errorf("%v", err)
	}
}
