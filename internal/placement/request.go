// Package placement decides what helps a VM or a datastore in alarm: the next size of a VM, the settings that its
// tags ask for at power-off, and which VMs leave a full datastore for which other. It is pure: it reads no
// clock, and mutates none of its arguments.
package placement

import (
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// The kinds of remediation. The values are stable: they stand in results, attributes and the ledger.
const (
	KindResize      = "resize"
	KindReconfigure = "reconfigure"
	KindMove        = "move"
)

// The resources that a VM is resized in.
const (
	CPU    = "cpu"
	Memory = "memory"
)

// The tag categories whose tags are the wanted settings of a VM, applied while it is off. They are those of the
// original functions; the tag's name is the value.
const (
	CategoryCPUs           = "config.hardware.numCPU"
	CategoryMemory         = "config.hardware.memoryMB"
	CategoryCoresPerSocket = "config.hardware.numCoresPerSocket"
	CategoryMemoryHotAdd   = "config.memoryHotAddEnabled"
	CategoryCPUHotAdd      = "config.cpuHotAddEnabled"
	CategoryCPUHotRemove   = "config.cpuHotRemoveEnabled"
)

// CategoryMode is the tag category by which the owner of a VM opts in or out: a tag named after one of the
// modes, or off.
const CategoryMode = "remediation-mode"

// The categories of the tags by which the owner of a VM bounds its size: a tag's name is a number of virtual CPUs
// or of MB.
const (
	CategoryMaxCPUs   = "remediation-max-cpus"
	CategoryMaxMemory = "remediation-max-memory"
)

// Settings lists the categories of wanted settings in the order in which they are told and checked.
func Settings() []string {
	return []string{CategoryCPUs, CategoryMemory, CategoryCoresPerSocket, CategoryMemoryHotAdd, CategoryCPUHotAdd, CategoryCPUHotRemove}
}

// Categories lists all categories that this package reads.
func Categories() []string {
	return append(Settings(), CategoryMode, CategoryMaxCPUs, CategoryMaxMemory)
}

// VM is a virtual machine as remediation sees it.
type VM struct {
	Ref           vsphere.Ref `json:"ref"`
	Name          string      `json:"name"`
	InstanceUUID  string      `json:"instanceUUID,omitempty"`
	BIOSUUID      string      `json:"biosUUID,omitempty"`
	PowerState    string      `json:"powerState"` // as package policy names them
	Template      bool        `json:"template,omitempty"`
	Connected     bool        `json:"connected"`
	ManagedBy     string      `json:"managedBy,omitempty"` // extension key of config.managedBy
	GuestAddrs    []string    `json:"guestAddrs,omitempty"`
	ChangeVersion string      `json:"changeVersion,omitempty"`
	Busy          bool        `json:"busy,omitempty"`         // another operation is under way on it
	ToolsRunning  bool        `json:"toolsRunning,omitempty"` // or starting
	ToolsStarting bool        `json:"toolsStarting,omitempty"`
	// FaultTolerant VMs are neither resized nor moved.
	FaultTolerant bool        `json:"faultTolerant,omitempty"`
	Host          vsphere.Ref `json:"host"`
	Cluster       vsphere.Ref `json:"cluster,omitzero"` // the compute resource of its host

	Hardware
	// Linux tells that the guest is one, for memory that was below 3 GB at power-on cannot grow beyond 3 GB hot.
	Linux bool `json:"linux,omitempty"`
	// HotMemoryLimitMB is up to where memory can be added hot, in steps of HotMemoryStepMB; 0 where vCenter says
	// nothing.
	HotMemoryLimitMB int `json:"hotMemoryLimitMB,omitempty"`
	HotMemoryStepMB  int `json:"hotMemoryStepMB,omitempty"`
	// HostCPUs and HostMemoryMB are what its host has (threads, MB); ClusterCPUs and ClusterMemoryMB what the
	// largest usable host of its cluster has. 0: unknown.
	HostCPUs        int `json:"hostCPUs,omitempty"`
	HostMemoryMB    int `json:"hostMemoryMB,omitempty"`
	ClusterCPUs     int `json:"clusterCPUs,omitempty"`
	ClusterMemoryMB int `json:"clusterMemoryMB,omitempty"`
	// Tags are the names of the tags it carries, by category, of Categories.
	Tags map[string][]string `json:"tags,omitempty"`
}

// Hardware are the settings of a VM that remediation changes.
type Hardware struct {
	CPUs           int  `json:"cpus"` // virtual CPUs, cores over all sockets
	CoresPerSocket int  `json:"coresPerSocket"`
	MemoryMB       int  `json:"memoryMB"`
	CPUHotAdd      bool `json:"cpuHotAdd"`
	CPUHotRemove   bool `json:"cpuHotRemove"`
	MemoryHotAdd   bool `json:"memoryHotAdd"`
}

// Change is what to reconfigure; nil stays as it is.
type Change struct {
	CPUs           *int  `json:"cpus,omitempty"`
	CoresPerSocket *int  `json:"coresPerSocket,omitempty"`
	MemoryMB       *int  `json:"memoryMB,omitempty"`
	CPUHotAdd      *bool `json:"cpuHotAdd,omitempty"`
	CPUHotRemove   *bool `json:"cpuHotRemove,omitempty"`
	MemoryHotAdd   *bool `json:"memoryHotAdd,omitempty"`
}

// Empty tells whether there is nothing to change.
func (c Change) Empty() bool { return c == Change{} }

// Apply returns the hardware after the change.
func (c Change) Apply(h Hardware) Hardware {
	set(&h.CPUs, c.CPUs)
	set(&h.CoresPerSocket, c.CoresPerSocket)
	set(&h.MemoryMB, c.MemoryMB)
	set(&h.CPUHotAdd, c.CPUHotAdd)
	set(&h.CPUHotRemove, c.CPUHotRemove)
	set(&h.MemoryHotAdd, c.MemoryHotAdd)
	return h
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// Disk is one virtual disk of a VM.
type Disk struct {
	Label       string      `json:"label"`
	Datastore   vsphere.Ref `json:"datastore"`
	Used        int64       `json:"used"`        // bytes on the datastore
	Provisioned int64       `json:"provisioned"` // bytes at most
	Independent bool        `json:"independent,omitempty"`
	Raw         bool        `json:"raw,omitempty"`    // a raw device mapping
	Shared      bool        `json:"shared,omitempty"` // with another VM
}

// StoredVM is a VM with what it keeps on datastores.
type StoredVM struct {
	VM
	Home         vsphere.Ref `json:"home"` // datastore of its configuration files
	Disks        []Disk      `json:"disks,omitempty"`
	Other        int64       `json:"other,omitempty"` // bytes of its files on Home that are no disks: swap, logs, configuration
	Snapshots    bool        `json:"snapshots,omitempty"`
	LinkedClone  bool        `json:"linkedClone,omitempty"`
	Media        []string    `json:"media,omitempty"`        // ISO or floppy images on datastores that its devices are connected to
	MediaSources []string    `json:"mediaSources,omitempty"` // of each, the MoRef value of its datastore
	// Policies are the ids of the storage policies of it and its disks; PolicyUnknown says why they cannot be seen.
	Policies      []string `json:"policies,omitempty"`
	PolicyUnknown string   `json:"policyUnknown,omitempty"`
}

// Datastore is where VMs are kept.
type Datastore struct {
	Ref         vsphere.Ref   `json:"ref"`
	Name        string        `json:"name"`
	Kind        string        `json:"kind"` // VMFS, NFS, NFS41, vsan, VVOL, ...
	Accessible  bool          `json:"accessible"`
	Maintenance bool          `json:"maintenance,omitempty"` // in maintenance, or entering it
	Capacity    int64         `json:"capacity"`              // bytes
	Free        int64         `json:"free"`                  // bytes
	Provisioned int64         `json:"provisioned"`           // bytes used, and that thin disks may yet use
	Hosts       []vsphere.Ref `json:"hosts,omitempty"`       // that have it mounted, read-write and accessible
	Pod         vsphere.Ref   `json:"pod,omitzero"`          // the datastore cluster it is in
	// PodMode is how Storage DRS works in the pod: PodAutomated, PodManual; empty where it is off.
	PodMode string `json:"podMode,omitempty"`
}

// How Storage DRS works in a datastore cluster.
const (
	PodAutomated = "automated"
	PodManual    = "manual"
)

// Storage is a snapshot of what a choice of moves looks at.
type Storage struct {
	Time       time.Time                `json:"time"`
	Datastores []Datastore              `json:"datastores"`
	VMs        []StoredVM               `json:"vms"`                // with files on the source, or the one in alarm
	Hosts      map[string]vsphere.Ref   `json:"hosts,omitempty"`    // host → its cluster (compute resource), by Ref.String
	Clusters   map[string][]vsphere.Ref `json:"clusters,omitempty"` // cluster → its usable hosts, by Ref.String
	// Compatible are the datastores that meet each storage policy of the VMs, as vCenter says.
	Compatible map[string][]vsphere.Ref `json:"compatible,omitempty"`
}

// Flight is a move under way: it takes space on its destination, and frees its source only when it is done.
type Flight struct {
	VM          vsphere.Ref `json:"vm"`
	Source      vsphere.Ref `json:"source"`
	Destination vsphere.Ref `json:"destination"`
	Host        vsphere.Ref `json:"host,omitzero"`
	Used        int64       `json:"used"`        // bytes
	Provisioned int64       `json:"provisioned"` // bytes
}
