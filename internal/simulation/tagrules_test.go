package simulation_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

func refusedAs(err error, what string) bool {
	return err != nil && strings.Contains(err.Error(), "400") && strings.Contains(err.Error(), what)
}

func TestTagsKeepToTheirCategory(t *testing.T) {
	v := start(t, small())
	m := tags.NewManager(loginREST(t, v, login(t, v)))
	vm, other, host := v.VM("cluster-a-batch-01"), v.VM("cluster-a-batch-02"), v.Cluster("cluster-a").Hosts[0].Ref
	category := func(c tags.Category) string { return made[string](t)(m.CreateCategory(t.Context(), &c)) }
	tag := func(category, name string) string {
		return made[string](t)(m.CreateTag(t.Context(), &tags.Tag{Name: name, CategoryID: category}))
	}
	single := category(tags.Category{Name: "tier", Cardinality: "SINGLE", AssociableTypes: []string{"VirtualMachine"}})
	gold, silver := tag(single, "gold"), tag(single, "silver")
	must(t, m.AttachTag(t.Context(), gold, vm))
	must(t, m.AttachTag(t.Context(), gold, vm)) // it has it already
	if err := m.AttachTag(t.Context(), silver, vm); !refusedAs(err, "invalid_argument") {
		t.Errorf("a second tag: %v", err)
	}
	if err := m.AttachTag(t.Context(), silver, host); !refusedAs(err, "invalid_argument") {
		t.Errorf("a host: %v", err)
	}
	if err := m.AttachMultipleTagsToObject(t.Context(), []string{silver}, vm); err == nil {
		t.Error("a second tag, among several")
	}
	if v.AttachTag("tier", "silver", vm) == nil {
		t.Error("a second tag, directly")
	}
	if got := v.TagsOf(vm); !slices.Equal(got["tier"], []string{"gold"}) || !slices.Equal(got["preemption"], []string{"preemptible"}) || len(got) != 2 {
		t.Errorf("it carries %v", got)
	}
	must(t, m.AttachTagToMultipleObjects(t.Context(), silver, []mo.Reference{other}))
	must(t, m.DetachTag(t.Context(), gold, vm))
	must(t, m.AttachTag(t.Context(), silver, vm))
	must(t, v.SetTags(vm, "tier", "gold"))
	must(t, m.DetachMultipleTagsFromObject(t.Context(), []string{gold}, vm))
	refs, err := m.ListAttachedObjects(t.Context(), gold)
	must(t, err)
	if len(refs) != 0 || len(v.TagsOf(vm)["tier"]) != 0 || !slices.Equal(v.TagsOf(other)["tier"], []string{"silver"}) {
		t.Errorf("gold is on %v, %v, %v", refs, v.TagsOf(vm), v.TagsOf(other))
	}
	if _, err := m.CreateCategory(t.Context(), &tags.Category{Name: "tier", Cardinality: "SINGLE"}); !refusedAs(err, "already_exists") {
		t.Errorf("the category again: %v", err)
	}
	if _, err := m.CreateTag(t.Context(), &tags.Tag{Name: "gold", CategoryID: single}); !refusedAs(err, "already_exists") {
		t.Errorf("the tag again: %v", err)
	}
	if err := m.AttachTag(t.Context(), "urn:vmomi:InventoryServiceTag:none:GLOBAL", vm); err == nil {
		t.Error("a tag that does not exist")
	}
}

func TestOneOfManyAttachesWins(t *testing.T) {
	v := start(t, small())
	m := tags.NewManager(loginREST(t, v, login(t, v)))
	vm := v.VM("cluster-a-batch-01")
	must(t, v.CreateCategory("tier", true, "VirtualMachine"))
	var wait sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		must(t, v.CreateTag("tier", name))
		id, err := m.GetTagForCategory(t.Context(), name, "tier")
		must(t, err)
		wait.Go(func() { _ = m.AttachTag(t.Context(), id.ID, vm) })
	}
	wait.Wait()
	if got := v.TagsOf(vm)["tier"]; len(got) != 1 {
		t.Errorf("it carries %v", got)
	}
}

func TestAlarmsOfVMsAndDatastoresAreToldAsVCenterDoes(t *testing.T) {
	v := start(t, small())
	c, vm, ds := login(t, v), v.Cluster("cluster-a").VMs[0], v.Datastore("datastore-a-1")
	e, err := v.PostAlarm(t.Context(), simulation.AlarmChange{Name: "Virtual machine memory usage", Entity: vm.Ref, From: "green", To: "red"})
	must(t, err)
	if e.Vm.Vm != vm.Ref || e.Host.Host != vm.Host || e.ComputeResource.ComputeResource != v.Cluster("cluster-a").Ref || e.Ds != nil || e.Entity.Entity != vm.Ref {
		t.Errorf("%+v", e)
	}
	e, err = v.PostAlarm(t.Context(), simulation.AlarmChange{Name: "Datastore usage on disk", Entity: ds.Ref, From: "green", To: "yellow"})
	must(t, err)
	if e.Ds.Datastore != ds.Ref || e.Vm != nil || e.Host != nil || e.Datacenter == nil || e.Entity.Entity != ds.Ref || e.Entity.Name != ds.Name {
		t.Errorf("%+v", e)
	}
	pod := made[ref](t)(v.AddPod("pod", true, true))
	inside := made[ref](t)(v.AddDatastore("cluster-a", simulation.DatastoreOptions{Name: "inside", Pod: "pod"}))
	_, err = v.PostAlarm(t.Context(), simulation.AlarmChange{Name: "Datastore usage on disk", Entity: inside, From: "green", To: "red"})
	must(t, err)
	if n := len(history(t, c, ds.Ref, "AlarmStatusChangedEvent")); n != 1 {
		t.Errorf("the datastore has %d events", n)
	}
	for object, want := range map[ref]int{vm.Ref: 1, ds.Ref: 1, inside: 1, pod: 1, c.ServiceContent.RootFolder: 3} {
		if got := triggered(t, c, object); len(got) != want {
			t.Errorf("%v: %+v", object, got)
		}
	}
	_, err = v.PostAlarm(t.Context(), simulation.AlarmChange{Name: "Datastore usage on disk", Entity: ds.Ref, From: "yellow", To: "green"})
	must(t, err)
	if len(triggered(t, c, ds.Ref)) != 0 || len(triggered(t, c, c.ServiceContent.RootFolder)) != 2 {
		t.Error("the alarm stays")
	}
}

func triggered(t testing.TB, c *vim25.Client, object ref) []types.AlarmState {
	t.Helper()
	var entity mo.ManagedEntity
	properties(t, c, object, &entity, "triggeredAlarmState")
	return entity.TriggeredAlarmState
}
