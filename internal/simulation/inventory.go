package simulation

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// Inventory is what the vCenter holds.
type Inventory struct {
	Datacenter types.ManagedObjectReference
	Clusters   []Cluster
}

// Cluster is one cluster and what runs in it.
type Cluster struct {
	Ref        types.ManagedObjectReference
	Name       string
	Hosts      []Host
	VMs        []VM // those that still exist, in the order they were made
	Datastores []types.ManagedObjectReference
}

// Host is one host.
type Host struct {
	Ref  types.ManagedObjectReference
	Name string
}

// VM is one virtual machine.
type VM struct {
	Ref     types.ManagedObjectReference
	Name    string
	Cluster string
	Host    types.ManagedObjectReference
	Tagged  bool // carried Options.Tag when the inventory was made
}

// Inventory is a copy of the current inventory: VMs that were removed are not in it.
func (v *VCenter) Inventory() Inventory {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := Inventory{Datacenter: v.datacenter, Clusters: slices.Clone(v.clusters)}
	for i, c := range out.Clusters {
		out.Clusters[i].Hosts = slices.Clone(c.Hosts)
		out.Clusters[i].Datastores = slices.Clone(c.Datastores)
		out.Clusters[i].VMs = slices.DeleteFunc(slices.Clone(c.VMs), func(vm VM) bool {
			_, exists := v.service.Context.Map.Get(vm.Ref).(*simulator.VirtualMachine)
			return !exists
		})
	}
	return out
}

// Cluster is the cluster of that name; the zero value if there is none.
func (v *VCenter) Cluster(name string) Cluster {
	for _, c := range v.Inventory().Clusters {
		if c.Name == name {
			return c
		}
	}
	return Cluster{}
}

// VM is the reference of the VM of that name; the zero value if there is none.
func (v *VCenter) VM(name string) types.ManagedObjectReference {
	for _, vm := range v.VMs() {
		if vm.Name == name {
			return vm.Ref
		}
	}
	return types.ManagedObjectReference{}
}

// VMs are all VMs, cluster by cluster.
func (v *VCenter) VMs() []VM {
	var out []VM
	for _, c := range v.Inventory().Clusters {
		out = append(out, c.VMs...)
	}
	return out
}

// TaggedVMs are the VMs of the cluster that carry Options.Tag now; of all clusters if the name is empty.
func (v *VCenter) TaggedVMs(cluster string) []VM {
	refs, err := v.tagged(v.options.Category, v.options.Tag)
	if err != nil {
		return nil // the tag was deleted: nothing carries it
	}
	carries := map[types.ManagedObjectReference]bool{}
	for _, ref := range refs {
		carries[ref] = true
	}
	return slices.DeleteFunc(v.VMs(), func(vm VM) bool {
		return !carries[vm.Ref] || (cluster != "" && vm.Cluster != cluster)
	})
}

// Carrying are the VMs that carry a tag of that name now, in whatever category.
func (v *VCenter) Carrying(tag string) []VM {
	return slices.DeleteFunc(v.VMs(), func(vm VM) bool {
		for _, names := range v.TagsOf(vm.Ref) {
			if slices.Contains(names, tag) {
				return false
			}
		}
		return true
	})
}
