package simulation

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	bytesPerGB         = 1 << 30
	defaultCapacityGB  = 2048
	defaultKind        = "VMFS"
	defaultRelocation  = 4 * time.Millisecond
	maintenanceOfStore = string(types.DatastoreSummaryMaintenanceModeStateInMaintenance)
	normalOfStore      = string(types.DatastoreSummaryMaintenanceModeStateNormal)
)

// storage is what lies on which datastore. It is the truth: the objects of the model repeat it.
type storage struct {
	mu          sync.Mutex // a leaf
	stores      map[types.ManagedObjectReference]*store
	order       []types.ManagedObjectReference // of the stores
	pods        map[string]types.ManagedObjectReference
	files       map[types.ManagedObjectReference]*files // of the VMs that were looked at
	relocation  time.Duration
	recommended types.ManagedObjectReference
	moves       moves
}

// store is a datastore.
type store struct {
	name, kind, url string
	capacity        int64
	others          int64 // used by what is no VM
	used            int64 // by VMs
	uncommitted     int64 // what thin disks may still grow
	arriving        int64 // copied to it and not yet a VM's
	hosts           map[types.ManagedObjectReference]bool
	inaccessible    bool
	maintenance     bool
	pod             string
	vms             map[types.ManagedObjectReference]bool
}

func (s *store) free() int64 { return max(0, s.capacity-s.others-s.used-s.arriving) }

func (s *store) usable() bool { return !s.inaccessible && !s.maintenance }

func (s *storage) init() {
	s.stores, s.files = map[types.ManagedObjectReference]*store{}, map[types.ManagedObjectReference]*files{}
	s.pods = map[string]types.ManagedObjectReference{}
	s.relocation = defaultRelocation
	s.moves = newMoves()
}

// DatastoreOptions describe a datastore.
type DatastoreOptions struct {
	Name         string
	CapacityGB   int      // default 2048
	UsedGB       int      // by what is no VM
	Kind         string   // default VMFS
	Hosts        []string // that mount it; default all of the cluster
	Inaccessible bool
	Maintenance  bool
	Pod          string // a datastore cluster that AddPod made
}

// Datastore is a datastore as it stands now.
type Datastore struct {
	Ref           types.ManagedObjectReference
	Name, Kind    string
	CapacityBytes int64
	FreeBytes     int64
	Pod           string
}

// AddDatastore makes a datastore that the hosts of the cluster mount, or those named, which may be of any cluster.
func (v *VCenter) AddDatastore(cluster string, o DatastoreOptions) (types.ManagedObjectReference, error) {
	setInt(&o.CapacityGB, defaultCapacityGB)
	setString(&o.Kind, defaultKind)
	hosts, err := v.mounting(cluster, o)
	if err != nil {
		return types.ManagedObjectReference{}, fmt.Errorf("add datastore %q: %w", o.Name, err)
	}
	ref, err := v.buildDatastore(Cluster{Hosts: hosts}, o.Name)
	if err != nil {
		return ref, err
	}
	v.keepStore(ref, hosts, o)
	v.moveIntoPod(ref, o.Pod)
	v.publishStores([]types.ManagedObjectReference{ref})
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range v.clusters {
		if slices.ContainsFunc(hosts, func(h Host) bool { return v.clusters[i].has(h.Ref) }) {
			v.clusters[i].Datastores = append(slices.Clone(v.clusters[i].Datastores), ref)
		}
	}
	return ref, nil
}

// mounting are the hosts that mount a new datastore, of which it checks the rest too.
func (v *VCenter) mounting(cluster string, o DatastoreOptions) (hosts []Host, err error) {
	if o.Name == "" || strings.ContainsAny(o.Name, `/[]`) || o.CapacityGB < 0 || o.UsedGB < 0 || o.UsedGB > o.CapacityGB {
		return nil, fmt.Errorf("it needs a name without / [ ], and 0 <= UsedGB %d <= CapacityGB %d", o.UsedGB, o.CapacityGB)
	}
	hosts = v.hostsFor(cluster, o.Hosts)
	if len(hosts) == 0 || (len(o.Hosts) != 0 && len(hosts) != len(o.Hosts)) {
		return nil, fmt.Errorf("cluster %q has no hosts, or one of %q does not exist; Inventory lists them", cluster, o.Hosts)
	}
	v.storage.mu.Lock()
	defer v.storage.mu.Unlock()
	for _, s := range v.storage.stores {
		if s.name == o.Name {
			return nil, errors.New("there is one of that name")
		}
	}
	if _, ok := v.storage.pods[o.Pod]; o.Pod != "" && !ok {
		return nil, fmt.Errorf("there is no datastore cluster %q; AddPod makes it", o.Pod)
	}
	return hosts, nil
}

// hostsFor are the hosts of these names, or all of the cluster without names.
func (v *VCenter) hostsFor(cluster string, names []string) (hosts []Host) {
	for _, c := range v.Inventory().Clusters {
		for _, h := range c.Hosts {
			if slices.Contains(names, h.Name) || (len(names) == 0 && c.Name == cluster) {
				hosts = append(hosts, h)
			}
		}
	}
	return hosts
}

func (v *VCenter) keepStore(ref types.ManagedObjectReference, hosts []Host, o DatastoreOptions) {
	s := &store{
		name: o.Name, kind: o.Kind, url: filepath.Join(v.dir, o.Name), pod: o.Pod,
		capacity: int64(o.CapacityGB) * bytesPerGB, others: int64(o.UsedGB) * bytesPerGB,
		inaccessible: o.Inaccessible, maintenance: o.Maintenance,
		hosts: map[types.ManagedObjectReference]bool{}, vms: map[types.ManagedObjectReference]bool{},
	}
	for _, h := range hosts {
		s.hosts[h.Ref] = true
	}
	v.storage.mu.Lock()
	defer v.storage.mu.Unlock()
	v.storage.stores[ref] = s
	v.storage.order = append(v.storage.order, ref)
}

// buildDatastore makes one datastore that all hosts of the cluster share.
func (v *VCenter) buildDatastore(c Cluster, name string) (ref types.ManagedObjectReference, err error) {
	dir := filepath.Join(v.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return ref, fmt.Errorf("make the folder of %s: %w", name, err)
	}
	for _, h := range c.Hosts {
		if err := v.mount(h, name, dir, ref); err != nil {
			return ref, err
		}
		for _, e := range v.service.Context.Map.All("Datastore") { // the second mount answers a reference of its own
			if e.Entity().Name == name {
				ref = e.Reference()
			}
		}
	}
	return ref, nil
}

// mount adds the datastore, whose reference is zero at the first mount, to a host.
func (v *VCenter) mount(h Host, name, dir string, ref types.ManagedObjectReference) error {
	ctx := v.context("")
	host := ctx.Map.Get(h.Ref).(*simulator.HostSystem)
	system := ctx.Map.Get(*host.ConfigManager.DatastoreSystem).(*simulator.HostDatastoreSystem)
	defer ctx.Map.AcquireLock(ctx, system)()
	defer ctx.Map.AcquireLock(ctx, host)()
	if ds, ok := ctx.Map.Get(ref).(*simulator.Datastore); ok {
		defer ctx.Map.AcquireLock(ctx, ds)()
	}
	body := system.CreateLocalDatastore(ctx, &types.CreateLocalDatastore{This: system.Self, Name: name, Path: dir})
	if body.Fault() != nil {
		return fmt.Errorf("mount %s on %s: %s", name, h.Name, body.Fault().String)
	}
	return nil
}

// AddPod makes a datastore cluster; enabled says whether Storage DRS is, automated whether it moves VMs by itself.
func (v *VCenter) AddPod(name string, automated, enabled bool) (ref types.ManagedObjectReference, err error) {
	ctx := v.context("")
	folder := ctx.Map.Get(ctx.Map.Get(v.datacenter).(*simulator.Datacenter).DatastoreFolder).(*simulator.Folder)
	ctx.WithLock(folder, func() {
		body := folder.CreateStoragePod(ctx, &types.CreateStoragePod{This: folder.Self, Name: name})
		if body.Fault() != nil {
			err = fmt.Errorf("add datastore cluster %q: %T", name, body.Fault().VimFault())
			return
		}
		ref = body.(*methods.CreateStoragePodBody).Res.Returnval
	})
	if err != nil {
		return ref, err
	}
	behaviour := types.StorageDrsPodConfigInfoBehaviorManual
	if automated {
		behaviour = types.StorageDrsPodConfigInfoBehaviorAutomated
	}
	pod := ctx.Map.Get(ref).(*simulator.StoragePod)
	ctx.WithLock(pod, func() {
		entry := types.PodStorageDrsEntry{}
		entry.StorageDrsConfig.PodConfig = types.StorageDrsPodConfigInfo{Enabled: enabled, DefaultVmBehavior: string(behaviour), LoadBalanceInterval: 480}
		ctx.Update(pod, []types.PropertyChange{
			{Name: "podStorageDrsEntry", Val: entry},
			{Name: "summary", Val: types.StoragePodSummary{Name: name}},
		})
	})
	v.storage.mu.Lock()
	defer v.storage.mu.Unlock()
	v.storage.pods[name] = ref
	return ref, nil
}

func (v *VCenter) moveIntoPod(ref types.ManagedObjectReference, name string) {
	v.storage.mu.Lock()
	to, ok := v.storage.pods[name]
	v.storage.mu.Unlock()
	if !ok {
		return
	}
	ctx := v.context("")
	ds, pod := ctx.Map.Get(ref).(*simulator.Datastore), ctx.Map.Get(to).(*simulator.StoragePod)
	if folder, ok := ctx.Map.Get(*ds.Parent).(*simulator.Folder); ok {
		ctx.WithLock(folder, func() {
			rest := slices.DeleteFunc(slices.Clone(folder.ChildEntity), func(child types.ManagedObjectReference) bool { return child == ref })
			ctx.Update(folder, []types.PropertyChange{{Name: "childEntity", Val: rest}})
		})
	}
	ctx.WithLock(pod, func() {
		ctx.Update(pod, []types.PropertyChange{{Name: "childEntity", Val: append(slices.Clone(pod.ChildEntity), ref)}})
	})
	ctx.WithLock(ds, func() { ctx.Update(ds, []types.PropertyChange{{Name: "parent", Val: to}}) })
}

// Datastores are all datastores, in the order they were made.
func (v *VCenter) Datastores() []Datastore {
	v.storage.mu.Lock()
	defer v.storage.mu.Unlock()
	var out []Datastore
	for _, ref := range v.storage.order {
		s := v.storage.stores[ref]
		out = append(out, Datastore{Ref: ref, Name: s.name, Kind: s.kind, CapacityBytes: s.capacity, FreeBytes: s.free(), Pod: s.pod})
	}
	return out
}

// Datastore is the datastore of that name; the zero value if there is none.
func (v *VCenter) Datastore(name string) Datastore {
	for _, d := range v.Datastores() {
		if d.Name == name {
			return d
		}
	}
	return Datastore{}
}

// TotalUsed is the bytes used on all datastores: by VMs, by others, and by copies under way.
func (v *VCenter) TotalUsed() (bytes int64) {
	v.storage.mu.Lock()
	defer v.storage.mu.Unlock()
	for _, s := range v.storage.stores {
		bytes += s.others + s.used + s.arriving
	}
	return bytes
}

// SetDatastoreUsed lets what is no VM use so much of the datastore.
func (v *VCenter) SetDatastoreUsed(ref types.ManagedObjectReference, usedGB int) error {
	return v.changeStore(ref, "set the use", func(s *store) { s.others = int64(usedGB) * bytesPerGB })
}

// SetDatastoreAccessible says whether the hosts reach the datastore.
func (v *VCenter) SetDatastoreAccessible(ref types.ManagedObjectReference, accessible bool) error {
	return v.changeStore(ref, "set the access", func(s *store) { s.inaccessible = !accessible })
}

// SetDatastoreMaintenance puts the datastore into maintenance or takes it out; what is on it stays.
func (v *VCenter) SetDatastoreMaintenance(ref types.ManagedObjectReference, in bool) error {
	return v.changeStore(ref, "set the maintenance", func(s *store) { s.maintenance = in })
}

func (v *VCenter) changeStore(ref types.ManagedObjectReference, what string, change func(*store)) error {
	v.storage.mu.Lock()
	s, ok := v.storage.stores[ref]
	if ok {
		change(s)
	}
	v.storage.mu.Unlock()
	if !ok {
		return fmt.Errorf("%s of %s: the simulated vCenter has no such datastore; Datastores lists them", what, ref.Value)
	}
	v.publishStores([]types.ManagedObjectReference{ref})
	return nil
}
