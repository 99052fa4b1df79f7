package simulation_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/mo"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// gauged is a vCenter of one cluster with an alarm on its usage, and the changes of its colour.
func gauged(t *testing.T) (*simulation.VCenter, *simulation.Gauge, chan string) {
	t.Helper()
	v := start(t, simulation.Options{Clusters: 1, HostsPerCluster: 2, VMsPerCluster: 10, Tagged: 5})
	must(t, v.SetClusterDemand("cluster-a", 50, 50))
	changes := make(chan string, 10)
	g, err := v.GaugeAlarm(simulation.UsageAlarm{
		Name: "cpu", Cluster: "cluster-a", Yellow: 80, Red: 90, Tolerance: 2, Falls: 10 * time.Millisecond, Every: time.Millisecond,
		Changed: func(c simulation.AlarmChange, _ float64) { changes <- c.From + " to " + c.To },
	})
	must(t, err)
	return v, g, changes
}

func changed(t *testing.T, changes <-chan string, want string) {
	t.Helper()
	select {
	case got := <-changes:
		if got != want {
			t.Fatalf("the alarm changed from %s, want %s", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("the alarm never changed from %s", want)
	}
}

func TestAVMThatIsTurnedOffLowersTheUsageAndOneThatIsTurnedOnRaisesIt(t *testing.T) {
	v := start(t, simulation.Options{Clusters: 1, HostsPerCluster: 2, VMsPerCluster: 10, Tagged: 5})
	idle, ref := v.VM("cluster-a-batch-01"), v.VM("cluster-a-batch-02")
	usage := func() float64 { cpu, _ := v.Usage("cluster-a"); return math.Round(cpu) }
	must(t, v.SetPowerState(idle, off))
	must(t, v.SetClusterDemand("cluster-a", 80, 50, idle))
	if usage() != 80 {
		t.Errorf("with all on but the idle one: %.0f %%", usage())
	}
	must(t, v.SetPowerState(ref, off))
	lower := usage()
	must(t, v.SetClusterDemand("cluster-a", 80, 50, idle))
	if lower >= 80 || usage() != lower {
		t.Errorf("with one off: %.0f %%, and %.0f %% when the same is asked again", lower, usage())
	}
	must(t, v.SetPowerState(ref, on))
	must(t, v.SetPowerState(idle, on))
	if usage() <= 80 {
		t.Errorf("with all on: %.0f %%", usage())
	}
	for _, err := range []error{v.SetClusterDemand("cluster-x", 80, 50), v.SetClusterDemand("cluster-a", -1, 50)} {
		if err == nil {
			t.Error("a demand that cannot be is taken")
		}
	}
}

func TestAnAlarmOnUsageRisesWithTheLoadAndFallsWhenVMsAreTurnedOff(t *testing.T) {
	v, g, changes := gauged(t)
	must(t, v.SetClusterDemand("cluster-a", 85, 50))
	changed(t, changes, "green to yellow")
	must(t, v.SetClusterDemand("cluster-a", 95, 50))
	changed(t, changes, "yellow to red")
	var c mo.ClusterComputeResource
	properties(t, login(t, v), v.Cluster("cluster-a").Ref, &c, "triggeredAlarmState")
	if s := c.TriggeredAlarmState; len(s) != 1 || s[0].OverallStatus != "red" || s[0].Alarm != v.Alarm("cpu") {
		t.Errorf("vCenter says of its alarms: %+v", s)
	}
	for _, vm := range v.TaggedVMs("cluster-a") {
		must(t, v.SetPowerState(vm.Ref, off))
	}
	for change := ""; !strings.HasSuffix(change, "to green"); { // by way of yellow, on a slow machine
		select {
		case change = <-changes:
		case <-time.After(10 * time.Second):
			t.Fatal("the alarm does not fall")
		}
	}
	if colour, held := g.Colour(); colour != "green" || held {
		t.Errorf("the alarm is %s, held %t", colour, held)
	}
}

func TestAnAlarmStaysWithinItsToleranceAndWhereItIsHeld(t *testing.T) {
	v, g, changes := gauged(t)
	must(t, v.SetClusterDemand("cluster-a", 85, 50))
	changed(t, changes, "green to yellow")
	must(t, v.SetClusterDemand("cluster-a", 79, 50)) // below the threshold, by less than the tolerance
	must(t, g.Hold("red"))
	changed(t, changes, "yellow to red")
	must(t, v.SetClusterDemand("cluster-a", 40, 50))
	if colour, held := g.Colour(); colour != "red" || !held {
		t.Errorf("the alarm that is held is %s, held %t", colour, held)
	}
	must(t, g.Release())
	changed(t, changes, "red to green")
	must(t, v.SetClusterDemand("cluster-a", 95, 50))
	changed(t, changes, "green to red")
	must(t, g.Err())
	if g.Hold("blue") == nil {
		t.Error("blue is a colour")
	}
}

func TestAnAlarmThatCannotBeGaugedIsRefused(t *testing.T) {
	v := start(t, small())
	for name, a := range map[string]simulation.UsageAlarm{
		"no such cluster":       {Name: "cpu", Cluster: "cluster-x", Yellow: 80, Red: 90, Every: time.Second},
		"no name":               {Cluster: "cluster-a", Yellow: 80, Red: 90, Every: time.Second},
		"red is below yellow":   {Name: "cpu", Cluster: "cluster-a", Yellow: 90, Red: 80, Every: time.Second},
		"nobody looks at usage": {Name: "cpu", Cluster: "cluster-a", Yellow: 80, Red: 90},
	} {
		if _, err := v.GaugeAlarm(a); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}
