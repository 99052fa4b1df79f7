package simulation_test

import (
	"slices"
	"testing"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

func TestHAKeepsBackWhatAFailoverNeeds(t *testing.T) {
	percent := func(cpu, memory int32) types.BaseClusterDasAdmissionControlPolicy {
		return &types.ClusterFailoverResourcesAdmissionControlPolicy{CpuFailoverResourcesPercent: cpu, MemoryFailoverResourcesPercent: memory}
	}
	for name, c := range map[string]struct {
		policy types.BaseClusterDasAdmissionControlPolicy
		asks   simulation.Reservation
		others simulation.Reservation // of each of the five that are on
		fits   bool
	}{
		"half of the memory stays":     {percent(0, 50), simulation.Reservation{MemoryMB: hostMB}, simulation.Reservation{}, true},
		"less than half of it stays":   {percent(0, 50), simulation.Reservation{MemoryMB: hostMB - 4}, simulation.Reservation{MemoryMB: 1}, false},
		"32 MHz count for each VM":     {percent(100, 0), simulation.Reservation{}, simulation.Reservation{}, false},
		"nearly all of the CPU stays":  {percent(99, 0), simulation.Reservation{CPUMHz: 2*hostMHz/100 - 5*32}, simulation.Reservation{}, true},
		"a MHz less of it stays":       {percent(99, 0), simulation.Reservation{CPUMHz: 2*hostMHz/100 - 5*32 + 1}, simulation.Reservation{}, false},
		"one slot for each VM":         {slots(1, nil), simulation.Reservation{MemoryMB: hostMB / 6}, simulation.Reservation{}, true},
		"slots too large for one host": {slots(1, nil), simulation.Reservation{MemoryMB: hostMB/6 + 1}, simulation.Reservation{}, false},
		"two hosts that may fail":      {slots(2, nil), simulation.Reservation{}, simulation.Reservation{}, false},
		"slots of a fixed size":        {slots(1, &types.ClusterFixedSizeSlotPolicy{Cpu: 500, Memory: hostMB / 7}), simulation.Reservation{MemoryMB: hostMB / 4}, simulation.Reservation{}, true},
		"a VM that needs three slots":  {slots(1, &types.ClusterFixedSizeSlotPolicy{Cpu: 500, Memory: hostMB / 7}), simulation.Reservation{MemoryMB: hostMB / 3}, simulation.Reservation{}, false},
		"what the others reserve":      {percent(0, 25), simulation.Reservation{MemoryMB: 2048}, simulation.Reservation{MemoryMB: 20000}, false},
		"HA without admission control": {&types.ClusterDasAdmissionControlPolicy{}, simulation.Reservation{MemoryMB: hostMB}, simulation.Reservation{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			v, client, asker := admitting(t, simulation.Admission{HA: c.policy})
			for _, vm := range v.VMs() {
				must(t, v.SetReservation(vm.Ref, c.others))
			}
			must(t, v.SetReservation(asker, c.asks))
			err := powerOn(t, client, asker, nil)
			if c.fits {
				must(t, err)
				return
			}
			if !isFault[*types.InsufficientFailoverResourcesFault](err) {
				t.Errorf("by itself: %v", err)
			}
			if refused := powerOnAll(t, v, client, asker); !isRefusedFor[*types.InsufficientFailoverResourcesFault](refused, asker) {
				t.Errorf("with DRS: %+v", refused)
			}
			if n := len(history(t, client, asker, "VmFailedToPowerOnEvent", "NotEnoughResourcesToStartVmEvent")); n != 2 {
				t.Errorf("%d events", n)
			}
		})
	}
	v := start(t, small())
	if v.SetAdmission("cluster-a", &simulation.Admission{HA: unknownPolicy{}}) == nil || v.SetAdmission("cluster-z", &simulation.Admission{}) == nil {
		t.Error("a policy or a cluster that does not exist is taken")
	}
}

type unknownPolicy struct{}

func (unknownPolicy) GetClusterDasAdmissionControlPolicy() *types.ClusterDasAdmissionControlPolicy {
	return nil
}

func slots(failures int32, policy types.BaseClusterSlotPolicy) types.BaseClusterDasAdmissionControlPolicy {
	return &types.ClusterFailoverLevelAdmissionControlPolicy{FailoverLevel: failures, SlotPolicy: policy}
}

func TestTheClusterTellsOfItsAdmissionControl(t *testing.T) {
	v, c, _ := admitting(t, simulation.Admission{HA: slots(1, nil)})
	var got mo.ClusterComputeResource
	properties(t, c, v.Cluster("cluster-a").Ref, &got, "configurationEx")
	das := got.ConfigurationEx.(*types.ClusterConfigInfoEx).DasConfig
	if _, ok := das.AdmissionControlPolicy.(*types.ClusterFailoverLevelAdmissionControlPolicy); !ok || !*das.Enabled || !*das.AdmissionControlEnabled {
		t.Errorf("%+v", das)
	}
}

func TestAHostThatDiesTakesItsVMsAndHARestartsThoseThatFit(t *testing.T) {
	v, c, asker := admitting(t, simulation.Admission{HA: &types.ClusterDasAdmissionControlPolicy{}})
	must(t, v.PowerOnAs(asker, "bob"))
	hosts := v.Cluster("cluster-a").Hosts
	mine := slices.DeleteFunc(v.VMs(), func(vm simulation.VM) bool { return vm.Host != hosts[0].Ref })
	if len(mine) != 3 {
		t.Fatalf("%d VMs", len(mine))
	}
	for _, vm := range mine {
		must(t, v.SetReservation(vm.Ref, simulation.Reservation{MemoryMB: hostMB * 3 / 8})) // two of them fit on the other host
	}
	left, err := v.KillHost(hosts[0].Ref)
	must(t, err)
	if len(left) != 1 || left[0] != mine[2].Ref {
		t.Fatalf("left %v", left)
	}
	for i, vm := range mine {
		var got mo.VirtualMachine
		properties(t, c, vm.Ref, &got, "runtime")
		kind, state, host := "VmRestartedOnAlternateHostEvent", on, hosts[1].Ref
		if i == 2 {
			kind, state, host = "VmFailoverFailed", off, hosts[0].Ref
		}
		clean := got.Runtime.CleanPowerOff
		if got.Runtime.PowerState != state || *got.Runtime.Host != host || (state == off) != (clean != nil && !*clean) {
			t.Errorf("%s: %s on %v, cleanly %v", vm.Name, got.Runtime.PowerState, got.Runtime.Host, clean)
		}
		if events := history(t, c, vm.Ref, kind); len(events) != 1 || events[0].GetEvent().UserName != "" {
			t.Errorf("%s: %+v", vm.Name, events)
		}
	}
	failed := history(t, c, left[0], "VmFailoverFailed")[0].(*types.VmFailoverFailed)
	if failed.Reason == nil || !isFault[*types.InsufficientMemoryResourcesFault](asError(*failed.Reason)) || failed.ComputeResource == nil {
		t.Errorf("%+v", failed)
	}
	if n := len(history(t, c, v.Cluster("cluster-a").Ref, "InsufficientFailoverResourcesEvent")); n != 1 {
		t.Errorf("%d events of the cluster", n)
	}
	var dead mo.HostSystem
	properties(t, c, hosts[0].Ref, &dead, "runtime.connectionState")
	if dead.Runtime.ConnectionState != types.HostSystemConnectionStateNotResponding {
		t.Errorf("the host is %s", dead.Runtime.ConnectionState)
	}

	must(t, powerOff(t, c, mine[0].Ref)) // makes room
	left, err = v.RetryFailover(hosts[0].Ref, left...)
	must(t, err)
	if len(left) != 0 || v.PowerState(mine[2].Ref) != on || hostOf(t, c, mine[2].Ref) != hosts[1].Ref {
		t.Errorf("left %v; the VM is %s", left, v.PowerState(mine[2].Ref))
	}
}

func TestWithoutHAAllVMsOfADeadHostStayOff(t *testing.T) {
	v := start(t, small())
	c, host := login(t, v), v.Cluster("cluster-a").Hosts[0].Ref
	left, err := v.KillHost(host)
	must(t, err)
	for _, vm := range v.VMs() {
		if dead := vm.Host == host; dead != (v.PowerState(vm.Ref) == off) {
			t.Errorf("%s is %s", vm.Name, v.PowerState(vm.Ref))
		}
	}
	if len(left) != 0 || len(history(t, c, v.VM("cluster-a-batch-01"), "VmFailoverFailed", "VmPoweredOffEvent")) != 0 {
		t.Errorf("left %v", left)
	}
	if _, err := v.RetryFailover(host); err == nil {
		t.Error("HA that is off restarts VMs")
	}
	if _, err := v.KillHost(ref{Type: "HostSystem", Value: "host-none"}); err == nil {
		t.Error("a host that does not exist dies")
	}
}
