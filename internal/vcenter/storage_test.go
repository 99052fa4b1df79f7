package vcenter

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func stores(v *simulation.VCenter, cluster int) (refs []vsphere.Ref) {
	for _, ref := range v.Inventory().Clusters[cluster].Datastores {
		refs = append(refs, fromMoRef(ref))
	}
	return refs
}

// pod makes a storage pod with these datastores.
func pod(t *testing.T, g *Gateway, v *simulation.VCenter, stores ...vsphere.Ref) (pod vsphere.Ref) {
	t.Helper()
	var move vsphere.Ref
	check(t, g.soap(t.Context(), call{op: "make a pod"}, func(ctx context.Context, s *soapSession) error {
		res, err := methods.FindByInventoryPath(ctx, s.client, &types.FindByInventoryPath{This: *s.client.ServiceContent.SearchIndex, InventoryPath: "datacenter/datastore"})
		if err != nil {
			return err
		}
		made, err := methods.CreateStoragePod(ctx, s.client, &types.CreateStoragePod{This: *res.Returnval, Name: "pod"})
		if err != nil {
			return err
		}
		pod = fromMoRef(made.Returnval)
		req := types.MoveIntoFolder_Task{This: made.Returnval}
		for _, ref := range stores {
			req.List = append(req.List, toMoRef(ref))
		}
		moved, err := methods.MoveIntoFolder_Task(ctx, s.client, &req)
		if err == nil {
			move = fromMoRef(moved.Returnval)
		}
		return err
	}))
	check(t, g.AwaitTask(t.Context(), move, nil))
	return pod
}

func TestStorageTellsDatastoresAndVMsOfTheSource(t *testing.T) {
	v, g := warm(t, simulation.Options{Clusters: 2, HostsPerCluster: 2, VMsPerCluster: 3, Tagged: 2})
	a, b := v.Inventory().Clusters[0], v.Inventory().Clusters[1]
	source, refs := stores(v, 0)[0], taggedRefs(v)
	check(t, v.SetTags(toMoRef(refs[0]), placement.CategoryMode, "recommend"))
	check(t, v.SetTemplate(toMoRef(refs[1])))
	check(t, v.SetHostMaintenance(a.Hosts[0].Ref, true))
	s, err := g.Storage(t.Context(), source, vsphere.Ref{})
	check(t, err)
	if len(s.Datastores) != 4 || len(s.VMs) != len(a.VMs) || s.Time.IsZero() {
		t.Errorf("%d datastores, %d VMs", len(s.Datastores), len(s.VMs))
	}
	for _, d := range s.Datastores {
		if d.Name == "" || d.Kind == "" || !d.Accessible || d.Maintenance || d.Capacity == 0 || d.Provisioned < d.Capacity-d.Free || d.PodMode != "" || !d.Pod.Zero() {
			t.Errorf("datastore %+v", d)
		}
	}
	if d := storeOf(t, s, source); d.Name != "datastore-a-1" || len(d.Hosts) != 2 {
		t.Errorf("source %+v", d)
	}
	vm := storedVM(t, s, refs[0])
	if vm.Home != source || vm.Snapshots || vm.LinkedClone || vm.Busy || fmt.Sprint(vm.Tags) != "map[remediation-mode:[recommend]]" {
		t.Errorf("VM %+v", vm)
	}
	if !storedVM(t, s, refs[1]).Template {
		t.Error("a template is none")
	}
	if len(s.Hosts) != 4 || s.Hosts[fromMoRef(b.Hosts[0].Ref).String()] != fromMoRef(b.Ref) {
		t.Errorf("hosts %v", s.Hosts)
	}
	if usable := s.Clusters[fromMoRef(a.Ref).String()]; !slices.Equal(usable, []vsphere.Ref{fromMoRef(a.Hosts[1].Ref)}) || len(s.Clusters) != 2 {
		t.Errorf("usable hosts %v", s.Clusters)
	}
}

func TestStorageOfOneVM(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[1]
	s, err := g.Storage(t.Context(), vsphere.Ref{}, ref)
	check(t, err)
	if len(s.VMs) != 1 || s.VMs[0].Ref != ref || len(s.Datastores) != 2 || len(s.Hosts) != 1 {
		t.Errorf("storage %+v", s)
	}
}

func TestStorageTakesTheSameCallsWhateverTheNumber(t *testing.T) {
	for _, n := range []int{1, 40} {
		v, g := warm(t, simulation.Options{Clusters: 1, HostsPerCluster: 2, VMsPerCluster: n, Tagged: n})
		s, err := g.Storage(t.Context(), stores(v, 0)[0], vsphere.Ref{})
		check(t, err)
		if len(s.VMs) != n {
			t.Errorf("%d VMs of %d", len(s.VMs), n)
		}
		v.ResetCalls()
		_, err = g.Storage(t.Context(), stores(v, 0)[0], vsphere.Ref{})
		check(t, err)
		wantCalls(t, v, 2)
		check(t, v.TerminateSessions())
		again, err := g.Storage(t.Context(), stores(v, 0)[0], vsphere.Ref{})
		check(t, err)
		if len(again.VMs) != n {
			t.Errorf("in a new session %d VMs of %d", len(again.VMs), n)
		}
	}
}

func TestStorageOfWhatDoesNotExist(t *testing.T) {
	v, g := warm(t, small())
	_, err := g.Storage(t.Context(), vsphere.Ref{Type: vsphere.TypeDatastore, Value: "datastore-99999"}, vsphere.Ref{})
	wantKind(t, err, ScopeNotFound)
	_, err = g.Storage(t.Context(), vsphere.Ref{}, gone)
	wantKind(t, err, NotFound)
	_, err = g.Storage(t.Context(), vsphere.Ref{Type: typePod, Value: "group-p1"}, vsphere.Ref{})
	wantKind(t, err, Invalid)
	_, err = g.Storage(t.Context(), vsphere.Ref{}, vsphere.Ref{})
	wantKind(t, err, Invalid)
	v.FailCall("RetrievePropertiesEx", nil, &types.NoPermission{PrivilegeId: "System.Read"}, 1)
	_, err = g.Storage(t.Context(), stores(v, 0)[0], vsphere.Ref{})
	wantKind(t, err, NoPermission)
}

func TestStoragePodsAndTheirMode(t *testing.T) {
	v, g := warm(t, small())
	made := pod(t, g, v, stores(v, 0)...)
	s, err := g.Storage(t.Context(), stores(v, 0)[0], vsphere.Ref{})
	check(t, err)
	if len(s.Datastores) != 2 {
		t.Errorf("datastores %+v", s.Datastores)
	}
	for _, d := range s.Datastores {
		if d.Pod != made || d.PodMode != placement.PodManual {
			t.Errorf("datastore %+v", d)
		}
	}
	for _, c := range []struct {
		config types.StorageDrsPodConfigInfo
		want   string
	}{
		{types.StorageDrsPodConfigInfo{Enabled: true, DefaultVmBehavior: "automated"}, placement.PodAutomated},
		{types.StorageDrsPodConfigInfo{Enabled: true, DefaultVmBehavior: "manual"}, placement.PodManual},
		{types.StorageDrsPodConfigInfo{DefaultVmBehavior: "automated"}, ""},
	} {
		if got := (object{props: map[string]any{podPath: c.config}}).podMode(); got != c.want {
			t.Errorf("%+v is %q", c.config, got)
		}
	}
	_, ok, err := g.RecommendDatastore(t.Context(), taggedRefs(v)[0], made)
	check(t, err)
	if ok {
		t.Error("nothing was recommended")
	}
	v.FailCall("RecommendDatastores", nil, &types.NoPermission{PrivilegeId: "StoragePod.Config"}, 1)
	_, _, err = g.RecommendDatastore(t.Context(), taggedRefs(v)[0], made)
	wantKind(t, err, NoPermission)
}

func TestOnlyOneDatastoreIsARecommendation(t *testing.T) {
	place := func(value string) types.BaseClusterAction {
		return &types.StoragePlacementAction{Destination: types.ManagedObjectReference{Type: vsphere.TypeDatastore, Value: value}}
	}
	for name, c := range map[string]struct {
		r    types.ClusterRecommendation
		want string
	}{
		"one":                 {types.ClusterRecommendation{Action: []types.BaseClusterAction{place("a")}}, "a"},
		"the same for each":   {types.ClusterRecommendation{Action: []types.BaseClusterAction{place("a"), place("a")}}, "a"},
		"two":                 {types.ClusterRecommendation{Action: []types.BaseClusterAction{place("a"), place("b")}}, ""},
		"none":                {types.ClusterRecommendation{}, ""},
		"with another's move": {types.ClusterRecommendation{Action: []types.BaseClusterAction{&types.StorageMigrationAction{}, place("a")}}, ""},
		"after another":       {types.ClusterRecommendation{Action: []types.BaseClusterAction{place("a")}, Prerequisite: []string{"1"}}, ""},
	} {
		dest, ok := recommended(c.r)
		if ok != (c.want != "") || ok && dest.Value != c.want {
			t.Errorf("%s: %v %v", name, dest, ok)
		}
	}
}

func TestOnlyHostsThatCanWriteCount(t *testing.T) {
	yes, no := types.NewBool(true), types.NewBool(false)
	for i, c := range []struct {
		mount types.HostMountInfo
		want  bool
	}{
		{types.HostMountInfo{AccessMode: "readWrite", Mounted: yes, Accessible: yes}, true},
		{types.HostMountInfo{AccessMode: "readWrite"}, true},
		{types.HostMountInfo{AccessMode: "readOnly", Mounted: yes, Accessible: yes}, false},
		{types.HostMountInfo{AccessMode: "readWrite", Mounted: no, Accessible: yes}, false},
		{types.HostMountInfo{AccessMode: "readWrite", Mounted: yes, Accessible: no}, false},
	} {
		if writable(c.mount) != c.want {
			t.Errorf("mount %d: %v", i, !c.want)
		}
	}
	d := inventory{}.datastore(object{props: map[string]any{"summary": types.DatastoreSummary{Capacity: 100, FreeSpace: 30, Uncommitted: 50, MaintenanceMode: "enteringMaintenance"}}})
	if d.Provisioned != 120 || !d.Maintenance {
		t.Errorf("datastore %+v", d)
	}
}

func TestRefreshingIsNotWorthFailingFor(t *testing.T) {
	v, g := warm(t, small())
	at := stores(v, 0)[0]
	check(t, g.RefreshDatastore(t.Context(), at))
	wantCalls(t, v, 1)
	v.FailCall("RefreshDatastore", nil, &types.NoPermission{PrivilegeId: "Datastore.FileManagement"}, 1)
	check(t, g.RefreshDatastore(t.Context(), at))
	v.FailCall("RefreshDatastore", nil, &types.ManagedObjectNotFound{Obj: toMoRef(at)}, 1)
	wantKind(t, g.RefreshDatastore(t.Context(), at), NotFound)
}

func TestADatastoreIsFoundByNamePathOrMoRef(t *testing.T) {
	v, g := warm(t, simulation.Options{Clusters: 1, HostsPerCluster: 1, VMsPerCluster: 1, Tagged: 1})
	want := stores(v, 0)[1]
	for _, what := range []string{"datastore-a-2", " datastore-a-2 ", "/datacenter/datastore/datastore-a-2", want.String(), want.Value} {
		v.ResetCalls()
		got, err := g.Datastore(t.Context(), what)
		check(t, err)
		wantCalls(t, v, 1)
		if got != want {
			t.Errorf("%q is %v, want %v", what, got, want)
		}
	}
	for _, what := range []string{"", "nope", "Datastore:datastore-99999", "datastore-99999", "VirtualMachine:vm-1"} {
		_, err := g.Datastore(t.Context(), what)
		wantKind(t, err, NotFound)
	}
	if _, err := g.Datastore(t.Context(), "datastor-a-2"); !strings.Contains(err.Error(), "did you mean datastore-a-2") {
		t.Errorf("%q does not say which name is near", err)
	}
	pod(t, g, v, want)
	got, err := g.Datastore(t.Context(), "datastore-a-2")
	check(t, err)
	if got != want {
		t.Errorf("in a pod it is %v", got)
	}
}

func TestDatastoresOfOneNameAreAmbiguous(t *testing.T) {
	var g Gateway
	var objects []object
	for _, value := range []string{"datastore-2", "datastore-1", "datastore-2"} {
		objects = append(objects, object{ref: vsphere.Ref{Type: vsphere.TypeDatastore, Value: value}, props: map[string]any{"name": "a%2fb"}})
	}
	_, _, err := g.theOne(call{}, namedDatastores, "a/b", objects)
	wantKind(t, err, Ambiguous)
	if !strings.Contains(err.Error(), "Datastore:datastore-1 or Datastore:datastore-2") {
		t.Error(err)
	}
}
