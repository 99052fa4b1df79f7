package vcenter

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

const (
	typePod = "StoragePod"
	podPath = "podStorageDrsEntry.storageDrsConfig.podConfig"
)

// Storage reads the input of a choice of moves: all datastores and hosts that we may see, and the VMs on the
// source, or, with a zero source, that one VM. VMs that have only an image on the source are among them. Kind
// ScopeNotFound: this vCenter has no such datastore; kind NotFound: no such VM. One SOAP call, however many
// there are, those of storagePolicies, and one REST call per 1000 VMs; one more for each tag and category on them that
// was not seen before.
func (g *Gateway) Storage(ctx context.Context, source vsphere.Ref, vm vsphere.Ref) (placement.Storage, error) {
	start := types.ObjectSpec{SelectSet: []types.BaseSelectionSpec{recentTasks(vsphere.TypeVM)}}
	asked, c := vm, call{op: "read the storage of"}
	switch {
	case vm.Type == vsphere.TypeVM:
	case vm.Zero() && source.Type == vsphere.TypeDatastore:
		asked, c.op = source, "read what is on"
		start.SelectSet = []types.BaseSelectionSpec{&types.TraversalSpec{Type: vsphere.TypeDatastore, Path: "vm", SelectSet: start.SelectSet}}
	default:
		return placement.Storage{}, &Error{Op: c.op, Object: strings.TrimSpace(source.String() + " " + vm.String()), Kind: Invalid, Err: errNotStored}
	}
	start.Obj, c.object = toMoRef(asked), g.names.describe(asked)
	objects, err := g.retrieveWith(ctx, c, func(s *soapSession) ([]types.PropertyFilterSpec, error) {
		return storageSpecs(start, s.client.ServiceContent.RootFolder), nil
	})
	if err != nil {
		return placement.Storage{}, err
	}
	inv := g.inventoryOf(objects)
	if _, ok := inv[asked]; !ok {
		return placement.Storage{}, noStorage(c, asked)
	}
	storage := inv.storage()
	refs := make([]vsphere.Ref, 0, len(storage.VMs))
	for _, vm := range storage.VMs {
		refs = append(refs, vm.Ref)
	}
	if err := g.storagePolicies(ctx, inv, &storage); err != nil {
		return placement.Storage{}, err
	}
	carried, err := g.tagsOn(ctx, c.op, refs, placement.Categories())
	if err != nil {
		return placement.Storage{}, err
	}
	for i := range storage.VMs {
		storage.VMs[i].Tags = carried[storage.VMs[i].Ref]
	}
	return storage, nil
}

var errNotStored = errors.New("neither a datastore nor a virtual machine")

func noStorage(c call, asked vsphere.Ref) error {
	e := &Error{Op: c.op, Object: c.object, Kind: NotFound, Err: errGone}
	if asked.Type == vsphere.TypeDatastore {
		e.Kind = ScopeNotFound
		e.Remedy = "the event or request comes from another vCenter, or the datastore was removed; nothing is moved elsewhere instead"
	}
	return e
}

// storageSpecs asks for the VMs from the start, and for all datastores, their clusters and all hosts.
func storageSpecs(start types.ObjectSpec, root types.ManagedObjectReference) []types.PropertyFilterSpec {
	ofVMs := slices.Concat(hardwareProperties, diskProperties, []string{"layoutEx", "snapshot"})
	return []types.PropertyFilterSpec{{
		PropSet: append(machineProperties(ofVMs),
			types.PropertySpec{Type: vsphere.TypeDatastore, PathSet: []string{"name", "summary", "host", "parent"}},
			types.PropertySpec{Type: typePod, PathSet: []string{"name", podPath}}),
		ObjectSet: []types.ObjectSpec{start, {Obj: root, SelectSet: datastoresAndHosts()}},
	}}
}

// datastoresAndHosts traverses from the root folder to all datastores, storage pods and hosts, and to the
// recent tasks of these.
func datastoresAndHosts() []types.BaseSelectionSpec {
	folder := &types.SelectionSpec{Name: "folder"}
	return []types.BaseSelectionSpec{&types.TraversalSpec{
		SelectionSpec: types.SelectionSpec{Name: "folder"}, Type: "Folder", Path: "childEntity",
		SelectSet: []types.BaseSelectionSpec{
			folder,
			&types.TraversalSpec{Type: "Datacenter", Path: "datastoreFolder", SelectSet: []types.BaseSelectionSpec{folder}},
			&types.TraversalSpec{Type: "Datacenter", Path: "hostFolder", SelectSet: []types.BaseSelectionSpec{folder}},
			&types.TraversalSpec{
				Type: vsphere.TypeCompute, Path: "host",
				SelectSet: []types.BaseSelectionSpec{recentTasks(vsphere.TypeHost)},
			},
		},
	}}
}

// storage makes a placement.Storage of the retrieved properties, without tags.
func (inv inventory) storage() placement.Storage {
	s := placement.Storage{
		Time:  time.Now().UTC(),
		Hosts: make(map[string]vsphere.Ref), Clusters: make(map[string][]vsphere.Ref),
	}
	sizes := inv.clusterSizes()
	for ref, o := range inv {
		switch ref.Type {
		case vsphere.TypeDatastore:
			s.Datastores = append(s.Datastores, inv.datastore(o))
		case vsphere.TypeVM:
			vm := inv.storedVM(o)
			largest := sizes[vm.Cluster]
			vm.ClusterCPUs, vm.ClusterMemoryMB = largest.cpus, largest.memoryMB
			s.VMs = append(s.VMs, vm)
		case vsphere.TypeHost:
			cluster := o.refTo("parent")
			s.Hosts[ref.String()] = cluster
			if inv.usable(o) {
				s.Clusters[cluster.String()] = append(s.Clusters[cluster.String()], ref)
			}
		}
	}
	for _, hosts := range s.Clusters {
		slices.SortFunc(hosts, byText)
	}
	slices.SortFunc(s.Datastores, func(a, b placement.Datastore) int { return byText(a.Ref, b.Ref) })
	slices.SortFunc(s.VMs, func(a, b placement.StoredVM) int { return byText(a.Ref, b.Ref) })
	return s
}

func (inv inventory) datastore(o object) placement.Datastore {
	summary, _ := o.props["summary"].(types.DatastoreSummary)
	d := placement.Datastore{
		Ref:         o.ref,
		Name:        unescape(o.text("name")),
		Kind:        summary.Type,
		Accessible:  summary.Accessible,
		Maintenance: summary.MaintenanceMode != "" && summary.MaintenanceMode != string(types.DatastoreSummaryMaintenanceModeStateNormal),
		Capacity:    summary.Capacity,
		Free:        summary.FreeSpace,
		Provisioned: summary.Capacity - summary.FreeSpace + summary.Uncommitted,
	}
	mounts, _ := o.props["host"].(types.ArrayOfDatastoreHostMount)
	for _, mount := range mounts.DatastoreHostMount {
		if writable(mount.MountInfo) {
			d.Hosts = append(d.Hosts, fromMoRef(mount.Key))
		}
	}
	slices.SortFunc(d.Hosts, byText)
	if pod, ok := inv[o.refTo("parent")]; ok && pod.ref.Type == typePod {
		d.Pod, d.PodMode = pod.ref, pod.podMode()
	}
	return d
}

// writable reports whether a host can write to the datastore. If an old host does not say, it can.
func writable(mount types.HostMountInfo) bool {
	return mount.AccessMode == string(types.HostMountModeReadWrite) &&
		(mount.Mounted == nil || *mount.Mounted) && (mount.Accessible == nil || *mount.Accessible)
}

// podMode is how Storage DRS works in a storage pod, "" if it is off.
func (o object) podMode() string {
	config, _ := o.props[podPath].(types.StorageDrsPodConfigInfo)
	switch {
	case !config.Enabled:
		return ""
	case config.DefaultVmBehavior == string(types.StorageDrsPodConfigInfoBehaviorAutomated):
		return placement.PodAutomated
	}
	return placement.PodManual
}

func (inv inventory) storedVM(o object) placement.StoredVM {
	vm := placement.StoredVM{VM: inv.machine(o.ref), Home: inv.home(o)}
	var linked bool
	vm.Disks, linked = inv.disks(o)
	vm.Other = inv.otherBytes(o, vm.Home)
	vm.Snapshots = o.props["snapshot"] != nil || len(o.layout().Snapshot) > 0
	vm.LinkedClone = linked && !vm.Snapshots
	vm.Media, vm.MediaSources = inv.media(o)
	return vm
}

// RefreshDatastore makes vCenter measure the free space of the datastore now, which it otherwise does every few
// minutes. Without permission for that it returns nil, and the value is updated later. One call.
func (g *Gateway) RefreshDatastore(ctx context.Context, ref vsphere.Ref) error {
	c := call{op: "refresh", object: g.names.describe(ref)}
	err := g.soap(ctx, c, func(ctx context.Context, s *soapSession) error {
		_, err := methods.RefreshDatastore(ctx, s.client, &types.RefreshDatastore{This: toMoRef(ref)})
		return err
	})
	if KindOf(err) == NoPermission {
		g.log.Debug("not allowed to refresh a datastore", "datastore", ref.Value, "reason", err)
		return nil
	}
	return err
}
