package simulation_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

func TestTagsCanBeReadAsFromVCenter(t *testing.T) {
	o := small()
	o.ExtraTags = 3
	v := start(t, o)
	m := tags.NewManager(loginREST(t, v, login(t, v)))
	all, err := m.ListTags(t.Context())
	must(t, err)
	if len(all) != 4 {
		t.Errorf("%d tags", len(all))
	}
	attached := func() int {
		tag, err := m.GetTagForCategory(t.Context(), "preemptible", "preemption")
		must(t, err)
		refs, err := m.ListAttachedObjects(t.Context(), tag.ID)
		must(t, err)
		return len(refs)
	}
	if attached() != 4 || len(v.TaggedVMs("")) != 4 || len(v.TaggedVMs("cluster-b")) != 2 {
		t.Errorf("%d tagged, %v", attached(), v.TaggedVMs(""))
	}
	app, batch := v.VM("cluster-a-app-01"), v.VM("cluster-a-batch-01")
	must(t, v.AttachTag("preemption", "preemptible", app))
	if attached() != 5 {
		t.Errorf("after attaching: %d", attached())
	}
	must(t, v.DetachTag("preemption", "preemptible", app))
	must(t, v.DetachTag("preemption", "preemptible", batch))
	if attached() != 3 {
		t.Errorf("after detaching two: %d", attached())
	}
}

func TestTheSameTagNameMayExistInTwoCategories(t *testing.T) {
	v := start(t, small())
	m := tags.NewManager(loginREST(t, v, login(t, v)))
	must(t, v.CreateTag("another", "preemptible"))
	must(t, v.CreateTag("another", "preemptible")) // already there
	must(t, v.CreateTag("another", "second"))
	must(t, v.AttachTag("another", "preemptible", v.Cluster("cluster-a").Hosts[0].Ref))
	for category, want := range map[string]int{"preemption": 4, "another": 1} {
		tag, err := m.GetTagForCategory(t.Context(), "preemptible", category)
		must(t, err)
		if refs, err := m.ListAttachedObjects(t.Context(), tag.ID); err != nil || len(refs) != want {
			t.Errorf("%s: %d objects, %v", category, len(refs), err)
		}
	}
	ref := v.VM("cluster-a-app-01")
	if v.AttachTag("no such", "tag", ref) == nil || v.DetachTag("no such", "tag", ref) == nil {
		t.Error("a tag that does not exist is accepted")
	}
}

func TestVMsCanBeMadeSpecial(t *testing.T) {
	v := start(t, small())
	c, ref := login(t, v), v.VM("cluster-a-batch-01")
	must(t, v.SetManagedBy(ref, "com.vmware.vim.eam", "cluster-agent"))
	must(t, v.SetDisabledMethods(ref, "PowerOffVM_Task"))
	var vm mo.VirtualMachine
	properties(t, c, ref, &vm, "config.managedBy", "disabledMethod")
	if vm.Config.ManagedBy.ExtensionKey != "com.vmware.vim.eam" || !slices.Contains(vm.DisabledMethod, "PowerOffVM_Task") {
		t.Errorf("managed by %+v, disabled %v", vm.Config.ManagedBy, vm.DisabledMethod)
	}
	if err := powerOff(t, c, ref); !isFault[*types.MethodDisabled](err) {
		t.Errorf("a disabled power-off: %v", err)
	}
	must(t, v.SetDisabledMethods(ref))
	must(t, powerOff(t, c, ref))
	must(t, v.SetTemplate(ref))
	properties(t, c, ref, &vm, "config.template")
	if !vm.Config.Template {
		t.Error("it is no template")
	}
	if _, err := object.NewVirtualMachine(c, ref).PowerOn(t.Context()); !isFault[*types.NotSupported](err) {
		t.Errorf("powering on a template: %v", err)
	}
	nobody := types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-none"}
	for what, err := range map[string]error{
		"template": v.SetTemplate(nobody), "managed by": v.SetManagedBy(nobody, "", ""), "power": v.SetPowerState(nobody, on),
		"tools": v.SetToolsRunning(nobody, true), "disabled": v.SetDisabledMethods(nobody), "off": v.PowerOffAs(nobody, "x"),
	} {
		if err == nil {
			t.Errorf("%s: a VM that does not exist is accepted", what)
		}
	}
}

// busy is the cluster's usage in percent as a client reads it from its hosts.
func busy(t testing.TB, c *vim25.Client, cluster simulation.Cluster) (cpu, mem float64) {
	t.Helper()
	var use, total [2]float64
	for _, h := range cluster.Hosts {
		var host mo.HostSystem
		properties(t, c, h.Ref, &host, "summary")
		hardware, stats := host.Summary.Hardware, host.Summary.QuickStats
		total[0] += float64(hardware.CpuMhz) * float64(hardware.NumCpuCores)
		total[1] += float64(hardware.MemorySize) / (1 << 20)
		use[0] += float64(stats.OverallCpuUsage)
		use[1] += float64(stats.OverallMemoryUsage)
	}
	return 100 * use[0] / total[0], 100 * use[1] / total[1]
}

func near(a, b float64) bool { return math.Abs(a-b) < 0.1 }

func TestTheLoadFollowsThePower(t *testing.T) {
	v := start(t, simulation.Options{})
	c, cluster := login(t, v), v.Cluster("cluster-a")
	must(t, v.SetClusterUsage("cluster-a", 90, 85))
	if cpu, mem := busy(t, c, cluster); !near(cpu, 90) || !near(mem, 85) {
		t.Fatalf("at %.2f %% CPU, %.2f %% memory", cpu, mem)
	}
	if cpu, mem := v.Usage("cluster-a"); !near(cpu, 90) || !near(mem, 85) {
		t.Errorf("it says %.2f %% CPU, %.2f %% memory", cpu, mem)
	}
	if cpu, mem := v.Usage("cluster-b"); !near(cpu, 60) || !near(mem, 55) {
		t.Errorf("cluster-b moved to %.2f %% CPU, %.2f %% memory", cpu, mem)
	}
	ref := cluster.VMs[0].Ref
	var before, after mo.VirtualMachine
	properties(t, c, ref, &before, "summary.quickStats")
	must(t, powerOff(t, c, ref))
	freed := 100 * float64(before.Summary.QuickStats.OverallCpuUsage) / (3 * 16 * 2400)
	eventually(t, "the hosts' load falls by the VM's", func() bool {
		cpu, _ := busy(t, c, cluster)
		return near(cpu, 90-freed)
	})
	eventually(t, "the VM uses nothing", func() bool {
		properties(t, c, ref, &after, "summary.quickStats")
		return after.Summary.QuickStats.OverallCpuUsage == 0 && after.Summary.QuickStats.HostMemoryUsage == 0
	})
	if freed < 2 {
		t.Errorf("the VM freed %.2f %%", freed)
	}
	must(t, v.SetPowerState(ref, on))
	eventually(t, "the load is back", func() bool { cpu, mem := busy(t, c, cluster); return near(cpu, 90) && near(mem, 85) })
	must(t, v.RemoveVM(ref))
	eventually(t, "the removed VM's load is gone", func() bool { cpu, _ := busy(t, c, cluster); return near(cpu, 90-freed) })
}

func TestAUsageThatCannotBeSetIsRefused(t *testing.T) {
	v := start(t, small())
	if v.SetClusterUsage("nowhere", 10, 10) == nil || v.SetClusterUsage("cluster-a", -1, 10) == nil {
		t.Error("it is accepted")
	}
	for _, vm := range v.Cluster("cluster-a").VMs {
		must(t, v.SetPowerState(vm.Ref, off))
	}
	if v.SetClusterUsage("cluster-a", 50, 50) == nil {
		t.Error("a cluster without a VM that is on takes load")
	}
	if cpu, _ := v.Usage("nowhere"); cpu != 0 {
		t.Errorf("nowhere is at %.1f %%", cpu)
	}
}

func TestAnAlarmIsPostedAsVCenterDoes(t *testing.T) {
	v := start(t, small())
	c, cluster := login(t, v), v.Cluster("cluster-a")
	host := cluster.Hosts[0]
	change := simulation.AlarmChange{Name: "cluster-cpu-above-80", Entity: host.Ref, From: "green", To: "red", Cluster: cluster.Ref}
	posted, err := v.PostAlarm(t.Context(), change)
	must(t, err)
	events := history(t, c, cluster.Ref, "AlarmStatusChangedEvent")
	if len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	e := events[0].(*types.AlarmStatusChangedEvent)
	if e.Key != posted.Key || e.Key == 0 || time.Since(e.CreatedTime) > time.Minute || e.UserName != "" {
		t.Errorf("key %d, posted as %d at %v by %q", e.Key, posted.Key, e.CreatedTime, e.UserName)
	}
	if e.Alarm.Name != change.Name || e.Alarm.Alarm != v.Alarm(change.Name) || e.Entity.Entity != host.Ref || e.Entity.Name != host.Name ||
		e.Source.Entity != cluster.Ref || e.ComputeResource.ComputeResource != cluster.Ref || e.Host.Host != host.Ref || e.Vm != nil || e.Ds != nil {
		t.Errorf("the event is %+v", e)
	}
	if want := "Alarm 'cluster-cpu-above-80' on " + host.Name + " changed from Green to Red"; e.FullFormattedMessage != want {
		t.Errorf("it says %q", e.FullFormattedMessage)
	}
	var alarm mo.Alarm
	properties(t, c, e.Alarm.Alarm, &alarm, "info")
	if alarm.Info.Name != change.Name {
		t.Errorf("the alarm's name is %q", alarm.Info.Name)
	}
	other := start(t, small())
	if other.Alarm(change.Name) != v.Alarm(change.Name) || v.Alarm("another") == v.Alarm(change.Name) {
		t.Error("the alarm's reference is not stable")
	}
}

func TestTheTriggeredStateFollowsTheAlarm(t *testing.T) {
	v := start(t, small())
	c, cluster := login(t, v), v.Cluster("cluster-a")
	host := cluster.Hosts[0].Ref
	for _, step := range []struct {
		from, to  string
		triggered int
	}{{"green", "yellow", 1}, {"yellow", "red", 1}, {"red", "gray", 0}, {"gray", "red", 1}, {"red", "green", 0}} {
		posted, err := v.PostAlarm(t.Context(), simulation.AlarmChange{Name: "cpu", Entity: host, From: step.from, To: step.to})
		must(t, err)
		var h mo.HostSystem
		var above mo.ClusterComputeResource
		properties(t, c, host, &h, "triggeredAlarmState", "declaredAlarmState")
		properties(t, c, cluster.Ref, &above, "triggeredAlarmState")
		if len(h.TriggeredAlarmState) != step.triggered || len(above.TriggeredAlarmState) != step.triggered {
			t.Errorf("%s to %s: %d on the host, %d on the cluster", step.from, step.to, len(h.TriggeredAlarmState), len(above.TriggeredAlarmState))
		}
		for _, s := range append(h.TriggeredAlarmState, above.TriggeredAlarmState...) {
			if string(s.OverallStatus) != step.to || s.Entity != host || s.Alarm != v.Alarm("cpu") || s.EventKey != posted.Key {
				t.Errorf("%s to %s: the state is %+v", step.from, step.to, s)
			}
		}
		if len(h.DeclaredAlarmState) != 1 || string(h.DeclaredAlarmState[0].OverallStatus) != step.to {
			t.Errorf("%s to %s: declared %+v", step.from, step.to, h.DeclaredAlarmState)
		}
	}
}

func TestAlarmsOnOtherEntities(t *testing.T) {
	v := start(t, small())
	cluster := v.Cluster("cluster-b")
	post := func(ref types.ManagedObjectReference) types.AlarmStatusChangedEvent {
		e, err := v.PostAlarm(t.Context(), simulation.AlarmChange{Name: "a", Entity: ref, From: "green", To: "yellow"})
		must(t, err)
		return e
	}
	if e := post(cluster.VMs[0].Ref); e.Vm == nil || e.Host == nil || e.ComputeResource.ComputeResource != cluster.Ref {
		t.Errorf("on a VM: %+v", e)
	}
	if e := post(cluster.Ref); e.Host != nil || e.ComputeResource.ComputeResource != cluster.Ref || e.Entity.Name != "cluster-b" {
		t.Errorf("on a cluster: %+v", e)
	}
	if e := post(cluster.Datastores[0]); e.Ds == nil || e.ComputeResource != nil || e.Source.Name == "" {
		t.Errorf("on a datastore: %+v", e)
	}
	for name, c := range map[string]simulation.AlarmChange{
		"unknown entity":  {Name: "a", Entity: types.ManagedObjectReference{Type: "HostSystem", Value: "host-none"}, From: "green", To: "red"},
		"unknown cluster": {Name: "a", Entity: cluster.Ref, From: "green", To: "red", Cluster: types.ManagedObjectReference{Type: "ClusterComputeResource", Value: "none"}},
		"no name":         {Entity: cluster.Ref, From: "green", To: "red"},
		"no colour":       {Name: "a", Entity: cluster.Ref, From: "green", To: "pink"},
		"a folder":        {Name: "a", Entity: v.Inventory().Datacenter, From: "green", To: "red"},
	} {
		if _, err := v.PostAlarm(t.Context(), c); err == nil {
			t.Errorf("%s: it is accepted", name)
		}
	}
}

func TestACollectorSeesAlarmsPostedLater(t *testing.T) {
	v := start(t, small())
	c := login(t, v)
	res, err := methods.CreateCollectorForEvents(t.Context(), c, &types.CreateCollectorForEvents{
		This:   *c.ServiceContent.EventManager,
		Filter: types.EventFilterSpec{EventTypeId: []string{"AlarmStatusChangedEvent"}},
	})
	must(t, err)
	for range 3 {
		_, err := v.PostAlarm(t.Context(), simulation.AlarmChange{Name: "a", Entity: v.Cluster("cluster-a").Ref, From: "green", To: "red"})
		must(t, err)
	}
	page, err := methods.ReadNextEvents(t.Context(), c, &types.ReadNextEvents{This: res.Returnval, MaxCount: 100})
	must(t, err)
	if len(page.Returnval) != 3 {
		t.Errorf("%d events", len(page.Returnval))
	}
}

func BenchmarkStart(b *testing.B) {
	for name, o := range map[string]simulation.Options{
		"demo":     {},
		"1000 VMs": {Clusters: 2, HostsPerCluster: 8, VMsPerCluster: 500, Tagged: 100},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				v, err := simulation.Start(b.Context(), o)
				must(b, err)
				v.Close()
			}
		})
	}
}
