package simulation

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// What each simulated host and VM has.
const (
	hostMHz      = 2400
	hostCores    = 16
	hostMemory   = 64 << 30 // bytes
	vmCPUs       = 4
	vmMemoryMB   = 16 << 10
	datastoresOf = 2 // per cluster
)

// building is held while a model is made: the simulator keeps its licenses in a variable of the package.
var building sync.Mutex

// build makes the model: first all that is asked for, and only then the interception of calls.
func (v *VCenter) build() error {
	building.Lock()
	defer building.Unlock()
	dir, err := os.MkdirTemp("", "simulation-")
	if err != nil {
		return fmt.Errorf("make a folder for the simulated datastores: %w", err)
	}
	v.dir = dir
	if err := v.makeModel(); err != nil {
		return err
	}
	v.service = v.model.Service
	v.service.Listen = &url.URL{User: url.UserPassword(v.options.Username, v.options.Password)}
	v.service.RegisterSDK(v.service.Context.Map, "/sdk/vimService")
	if !v.options.NoVersions {
		v.service.ServeMux.HandleFunc("/sdk/vimServiceVersions.xml", v.service.ServiceVersions)
	}
	v.service.ServeMux.HandleFunc("/about", v.service.About)
	v.service.Context.Map.SessionManager().ValidLogin = v.validLogin
	v.startREST()
	v.startProfiles()
	if err := v.fill(); err != nil {
		return err
	}
	v.startHistory()
	v.service.Context.Map.Handler = v.intercept
	return nil
}

// makeModel makes an empty vCenter, or that of a saved inventory.
func (v *VCenter) makeModel() error {
	if v.options.Inventory != "" {
		return v.loadTwin()
	}
	v.model = simulator.VPX()
	v.model.Datacenter = 0
	about := &v.model.ServiceContent.About
	about.InstanceUuid = newUUID()
	if api := v.options.APIVersion; api != "" {
		about.ApiVersion, about.Version = api, strings.TrimSuffix(api, ".0")
	}
	if err := v.model.Create(); err != nil {
		return fmt.Errorf("create the simulator's model: %w", err)
	}
	return nil
}

// fill fills an empty vCenter, and puts tags on what is there.
func (v *VCenter) fill() error {
	if v.twin != nil {
		v.describeTwin()
		return v.tagTwin()
	}
	if err := v.buildInventory(); err != nil {
		return err
	}
	if err := v.buildTags(); err != nil {
		return err
	}
	return v.buildOwnerCategories()
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (v *VCenter) buildInventory() error {
	ctx := v.context("")
	content := ctx.Map.Get(serviceInstance).(*simulator.ServiceInstance).Content
	root, ok := ctx.Map.Get(content.RootFolder).(*simulator.Folder)
	if !ok {
		return fmt.Errorf("the simulator's root folder is not a folder; this govmomi is not the one simulation was written for")
	}
	made, ok := root.CreateDatacenter(ctx, &types.CreateDatacenter{This: root.Self, Name: "datacenter"}).(*methods.CreateDatacenterBody)
	if !ok || made.Res == nil {
		return fmt.Errorf("create the simulated datacenter: %v", made.Fault())
	}
	v.datacenter = made.Res.Returnval
	for i := range v.options.Clusters {
		cluster, err := v.buildCluster(letters(i))
		if err != nil {
			return err
		}
		v.clusters = append(v.clusters, cluster)
	}
	return nil
}

// letters counts a, b, ..., z, aa, ab, ...
func letters(i int) string {
	if i >= 26 {
		return letters(i/26-1) + letters(i%26)
	}
	return string(rune('a' + i))
}

func (v *VCenter) buildCluster(letter string) (Cluster, error) {
	ctx := v.context("")
	out := Cluster{Name: "cluster-" + letter}
	dc := ctx.Map.Get(v.datacenter).(*simulator.Datacenter)
	folder := ctx.Map.Get(dc.HostFolder).(*simulator.Folder)
	body := folder.CreateClusterEx(ctx, &types.CreateClusterEx{This: folder.Self, Name: out.Name})
	if body.Fault() != nil {
		return out, fmt.Errorf("create %s: %s", out.Name, body.Fault().String)
	}
	out.Ref = body.(*methods.CreateClusterExBody).Res.Returnval
	for i := range v.options.HostsPerCluster {
		host, err := v.buildHost(out.Ref, fmt.Sprintf("esx-%s-%d", letter, i+1))
		if err != nil {
			return out, err
		}
		out.Hosts = append(out.Hosts, host)
	}
	for i := range datastoresOf {
		name := fmt.Sprintf("datastore-%s-%d", letter, i+1)
		ds, err := v.buildDatastore(out, name)
		if err != nil {
			return out, err
		}
		v.keepStore(ds, out.Hosts, DatastoreOptions{Name: name, CapacityGB: defaultCapacityGB, Kind: defaultKind})
		v.publishStores([]types.ManagedObjectReference{ds})
		out.Datastores = append(out.Datastores, ds)
	}
	v.correctTotals(out)
	return out, v.buildVMs(&out)
}

func (v *VCenter) buildHost(cluster types.ManagedObjectReference, name string) (Host, error) {
	ctx := v.context("")
	c := ctx.Map.Get(cluster).(*simulator.ClusterComputeResource)
	body := c.AddHostTask(ctx, &types.AddHost_Task{This: cluster, Spec: types.HostConnectSpec{HostName: name}, AsConnected: true})
	result, err := v.await(body.(*methods.AddHost_TaskBody).Res.Returnval)
	if err != nil {
		return Host{}, fmt.Errorf("add host %s: %w", name, err)
	}
	ref, ok := result.(types.ManagedObjectReference)
	if !ok {
		return Host{}, fmt.Errorf("add host %s: the simulator answers a %T in place of a reference", name, result)
	}
	host := ctx.Map.Get(ref).(*simulator.HostSystem)
	ctx.WithLock(host, func() {
		s := host.Summary.Hardware
		s.CpuMhz, s.NumCpuCores, s.NumCpuThreads, s.NumCpuPkgs, s.MemorySize = hostMHz, hostCores, 2*hostCores, 2, hostMemory
		hardware := *host.Hardware
		hardware.MemorySize = hostMemory
		hardware.CpuInfo = types.HostCpuInfo{NumCpuPackages: 2, NumCpuCores: hostCores, NumCpuThreads: 2 * hostCores, Hz: hostMHz * 1_000_000}
		host.Hardware = &hardware
	})
	return Host{Ref: ref, Name: name}, nil
}

// correctTotals makes the cluster's summary the sum of its hosts, which the simulator gets wrong.
func (v *VCenter) correctTotals(c Cluster) {
	ctx := v.context("")
	cluster := ctx.Map.Get(c.Ref).(*simulator.ClusterComputeResource)
	n := len(c.Hosts)
	ctx.WithLock(cluster, func() {
		s := cluster.Summary.GetComputeResourceSummary()
		s.TotalCpu, s.EffectiveCpu = int32(n*hostMHz*hostCores), int32(n*hostMHz*hostCores)
		s.NumCpuCores, s.NumCpuThreads = int16(n*hostCores), int16(2*n*hostCores)
		s.TotalMemory, s.EffectiveMemory = int64(n*hostMemory), int64(n*hostMemory)>>20 // bytes, but megabytes
	})
}

// buildVMs asks for all VMs before it waits for any, which is the quick way.
func (v *VCenter) buildVMs(c *Cluster) error {
	if len(c.Hosts) == 0 {
		return nil
	}
	ctx := v.context("")
	cluster := ctx.Map.Get(c.Ref).(*simulator.ClusterComputeResource)
	dc := ctx.Map.Get(v.datacenter).(*simulator.Datacenter)
	folder := ctx.Map.Get(dc.VmFolder).(*simulator.Folder)
	var tasks []types.ManagedObjectReference
	for i := range v.options.VMsPerCluster {
		host := c.Hosts[i%len(c.Hosts)]
		name, tagged := v.vmName(c.Name, i)
		body := folder.CreateVMTask(v.context(""), &types.CreateVM_Task{
			This: folder.Self, Pool: *cluster.ResourcePool, Host: &host.Ref,
			Config: types.VirtualMachineConfigSpec{
				Name: name, GuestId: string(types.VirtualMachineGuestOsIdentifierOtherGuest64),
				NumCPUs: vmCPUs, MemoryMB: vmMemoryMB,
				Files: &types.VirtualMachineFileInfo{VmPathName: fmt.Sprintf("[datastore-%s-1]", c.Name[len("cluster-"):])},
			},
		})
		tasks = append(tasks, body.(*methods.CreateVM_TaskBody).Res.Returnval)
		c.VMs = append(c.VMs, VM{Name: name, Cluster: c.Name, Host: host.Ref, Tagged: tagged})
	}
	for i, task := range tasks {
		result, err := v.await(task)
		ref, ok := result.(types.ManagedObjectReference)
		if err != nil || !ok {
			return fmt.Errorf("create VM %s: %w", c.VMs[i].Name, err)
		}
		c.VMs[i].Ref = ref
		v.boot(ref, i)
	}
	return nil
}

// vmName names the i-th VM of a cluster, the tagged ones first.
func (v *VCenter) vmName(cluster string, i int) (name string, tagged bool) {
	width := max(2, len(strconv.Itoa(v.options.VMsPerCluster)))
	if i < v.options.Tagged {
		return fmt.Sprintf("%s-batch-%0*d", cluster, width, i+1), true
	}
	return fmt.Sprintf("%s-app-%0*d", cluster, width, i-v.options.Tagged+1), false
}

// boot turns a new VM on, in the past: each a minute after the one before, the first some hours ago.
func (v *VCenter) boot(ref types.ManagedObjectReference, i int) {
	ctx := v.context("")
	vm := ctx.Map.Get(ref).(*simulator.VirtualMachine)
	ctx.WithLock(vm, func() {
		v.setPower(ctx, vm, on)
		at := time.Now().Add(time.Duration(i-v.options.VMsPerCluster)*time.Minute - time.Hour).Truncate(time.Second)
		vm.Runtime.BootTime, vm.Summary.Runtime.BootTime = &at, &at
	})
}

// await waits for a task of the simulator and answers its result.
func (v *VCenter) await(ref types.ManagedObjectReference) (types.AnyType, error) {
	ctx := v.context("")
	task, ok := ctx.Map.Get(ref).(*simulator.Task)
	if !ok {
		return nil, fmt.Errorf("the simulator lost task %s", ref.Value)
	}
	for {
		var info types.TaskInfo
		ctx.WithLock(task, func() { info = task.Info })
		switch info.State {
		case types.TaskInfoStateSuccess:
			return info.Result, nil
		case types.TaskInfoStateError:
			return nil, fmt.Errorf("task %s ends in %T", ref.Value, info.Error.Fault)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

func (v *VCenter) buildTags() error {
	if err := v.CreateTag(v.options.Category, v.options.Tag); err != nil {
		return err
	}
	for i := range v.options.ExtraTags {
		if err := v.CreateTag("unrelated", fmt.Sprintf("unrelated-%03d", i+1)); err != nil {
			return err
		}
	}
	var tagged []types.ManagedObjectReference
	for _, vm := range v.VMs() {
		if vm.Tagged {
			tagged = append(tagged, vm.Ref)
		}
	}
	return v.AttachTag(v.options.Category, v.options.Tag, tagged...)
}
