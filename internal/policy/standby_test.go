package policy

import (
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestAHostThatDPMWakesIsRoomForARestoreAndIsToldInAPlan(t *testing.T) {
	cluster := vsphere.Ref{Type: vsphere.TypeCompute, Value: "domain-c1"}
	awake, asleep, vm := vsphere.Ref{Type: vsphere.TypeHost, Value: "host-1"}, vsphere.Ref{Type: vsphere.TypeHost, Value: "host-2"}, vsphere.Ref{Type: vsphere.TypeVM, Value: "vm-1"}
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	off := now.Add(-time.Hour)
	for name, wakes := range map[string]bool{"DPM wakes it": true, "DPM leaves it to people": false} {
		s := vsphere.Snapshot{
			Time: now, Scope: cluster,
			Hosts: []vsphere.Host{
				{Ref: awake, Cluster: cluster, Connected: true, CPUMHz: 10000, CPUUsedMHz: 7000, MemoryMB: 10000},
				{Ref: asleep, Cluster: cluster, Standby: true, Wakeable: wakes, CPUMHz: 10000, MemoryMB: 10000},
			},
			VMs: []vsphere.VM{{Ref: vm, Name: "batch", PowerState: vsphere.PoweredOff, Connected: true, Cluster: cluster, Host: awake, InstanceUUID: "u"}},
		}
		p := Default()
		p.Target, p.Restore = Goal{CPU: 80, Margin: 5}, DefaultRestore()
		owned := []Owned{{
			Ref: vm, PowerState: vsphere.PoweredOff, InstanceUUID: "u", Record: &Record{InstanceUUID: "u", Tag: "spot", Scope: cluster, At: off, CPUMHz: 2000},
			Off: &Trace{Time: off, Event: "VmPoweredOffEvent", Ours: true},
		}}
		got := ChooseReturns(s, owned, ReturnDemand{Tag: "spot", Scope: cluster}, p)
		if back := len(got.Returns) == 1; back != wakes {
			t.Errorf("%s: comes back: %v, %+v", name, back, got.Left)
		}
		u := usageOf(&s, &Demand{}, cluster)
		if told := u.Standby == 1; told != wakes || u.Hosts != 1 || u.CPU.Capacity != 10000 {
			t.Errorf("%s: the plan says %+v", name, u)
		}
	}
}
