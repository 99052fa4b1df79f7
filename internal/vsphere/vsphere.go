// Package vsphere holds the nouns of vSphere that the project speaks of: references, VMs, hosts, power states, and the
// snapshot of an inventory. It is pure data: vendor types stop at internal/vcenter.
package vsphere

import (
	"strings"
	"time"
)

// Ref is a vSphere managed object reference (MoRef), such as VirtualMachine:vm-42. It is written as
// {"Type","Value"} and read in either case.
type Ref struct {
	Type  string `json:"Type"`
	Value string `json:"Value"`
}

// The managed object types that the project speaks of.
const (
	TypeVM        = "VirtualMachine"
	TypeHost      = "HostSystem"
	TypeCluster   = "ClusterComputeResource"
	TypeCompute   = "ComputeResource"
	TypeDatastore = "Datastore"
)

// String returns the reference as Type:Value, or "" for none.
func (r Ref) String() string {
	if r.Zero() {
		return ""
	}
	return r.Type + ":" + r.Value
}

// Zero tells whether the reference names nothing.
func (r Ref) Zero() bool { return r == Ref{} }

// ParseRef reads Type:Value; ok is false for anything else.
func ParseRef(s string) (r Ref, ok bool) {
	t, v, found := strings.Cut(s, ":")
	if !found || t == "" || v == "" {
		return Ref{}, false
	}
	return Ref{Type: t, Value: v}, true
}

// The power states of a VM, as vSphere names them.
const (
	PoweredOn  = "poweredOn"
	PoweredOff = "poweredOff"
	Suspended  = "suspended"
)

// VM is what is known of one candidate.
type VM struct {
	Ref          Ref    `json:"ref"`
	Name         string `json:"name"`
	PowerState   string `json:"powerState"`
	Tagged       bool   `json:"tagged"` // carries the demand's tag
	Template     bool   `json:"template,omitempty"`
	Connected    bool   `json:"connected"`    // runtime.connectionState is connected
	ToolsRunning bool   `json:"toolsRunning"` // or starting
	// ToolsStarting says that its tools are starting: the guest can be asked a moment later.
	ToolsStarting bool `json:"toolsStarting,omitempty"`

	ManagedBy    string    `json:"managedBy,omitempty"` // extension key of config.managedBy
	ManagedType  string    `json:"managedType,omitempty"`
	BIOSUUID     string    `json:"biosUUID,omitempty"`
	InstanceUUID string    `json:"instanceUUID,omitempty"`
	GuestAddrs   []string  `json:"guestAddrs,omitempty"` // guest.hostName and guest.ipAddress, where known
	Host         Ref       `json:"host"`
	Cluster      Ref       `json:"cluster"` // the compute resource of its host
	Ancestors    []Ref     `json:"ancestors,omitempty"`
	BootTime     time.Time `json:"bootTime,omitzero"` // missing after a vMotion
	// UptimeSeconds is for how long the VM has been on at least: a vMotion lets it begin anew. 0: not known.
	UptimeSeconds int64 `json:"uptimeSeconds,omitempty"`
	// DisabledMethods are the operations vCenter refuses on the VM now (disabledMethod): while an
	// operation is under way, PowerOffVM_Task is among them.
	DisabledMethods []string `json:"disabledMethods,omitempty"`
	CPUMHz          int64    `json:"cpuMHz"`   // live CPU usage
	MemoryMB        int64    `json:"memoryMB"` // live host memory usage
	// CPUReservedMHz and MemoryReservedMB are what its power-off gives back to vCenter's admission control: its
	// reservations, that of memory with the VM's overhead.
	CPUReservedMHz   int64 `json:"cpuReservedMHz,omitempty"`
	MemoryReservedMB int64 `json:"memoryReservedMB,omitempty"`
	// CPULimitMHz is its CPU limit; 0: it has none, or it cannot be seen. Throttled says that the limit is ours, and
	// LimitUnseen that vCenter was asked for it and shows none. Both are read for a throttle only.
	CPULimitMHz   int64  `json:"cpuLimitMHz,omitempty"`
	Throttled     bool   `json:"throttled,omitempty"`
	LimitUnseen   bool   `json:"limitUnseen,omitempty"`
	ChangeVersion string `json:"changeVersion,omitempty"`
	// Tags are the names of the tags it carries, by category, of the categories below; others may be left out.
	Tags map[string][]string `json:"tags,omitempty"`
	// FolderPath and PoolPath are the inventory paths of its folder and of its resource pool or vApp, such as
	// /dc-1/vm/prod/web and /dc-1/host/cluster-a/Resources/batch; a slash in a name is written %2f, as vSphere does.
	FolderPath string `json:"folderPath,omitempty"`
	PoolPath   string `json:"poolPath,omitempty"`
	// FolderUnseen and PoolUnseen say that our user does not see all that is above: the path begins somewhere below the root.
	FolderUnseen bool `json:"folderUnseen,omitempty"`
	PoolUnseen   bool `json:"poolUnseen,omitempty"`
}

// Host is what is known of one host: what it can give, and what is in use.
type Host struct {
	Ref       Ref    `json:"ref"`
	Name      string `json:"name,omitempty"`
	Cluster   Ref    `json:"cluster,omitzero"` // its compute resource
	Connected bool   `json:"connected"`        // runtime.connectionState is connected, and it is not in standby
	// InMaintenance hosts count no longer; one that is entering maintenance counts until it is in it, so that
	// the measure stands still while its VMs move away.
	InMaintenance       bool  `json:"inMaintenance,omitempty"`
	Standby             bool  `json:"standby,omitempty"`  // DPM, or a person, has powered it down
	Wakeable            bool  `json:"wakeable,omitempty"` // of one in standby: DPM wakes it by itself when there is need
	EnteringMaintenance bool  `json:"enteringMaintenance,omitempty"`
	CPUMHz              int64 `json:"cpuMHz"`       // capacity: cores × MHz
	MemoryMB            int64 `json:"memoryMB"`     // capacity
	CPUUsedMHz          int64 `json:"cpuUsedMHz"`   // live usage
	MemoryUsedMB        int64 `json:"memoryUsedMB"` // live usage
	// CPUReservedMHz and MemoryReservedMB are reserved by all VMs that run on it, memory with their overhead.
	CPUReservedMHz   int64 `json:"cpuReservedMHz,omitempty"`
	MemoryReservedMB int64 `json:"memoryReservedMB,omitempty"`
	CoreMHz          int64 `json:"coreMHz,omitempty"` // of one core; 0: not known
	Threads          int   `json:"threads,omitempty"` // logical processors: no VM may have more CPUs
}

// Group is an application group: all VMs that carry one tag of the groups' category, candidates or not.
type Group struct {
	Total int   `json:"total"`        // its VMs, up or down; templates do not count
	Up    []Ref `json:"up,omitempty"` // those that are powered on
}

// Snapshot is the inventory at one moment: every object that carries the tag, whatever its scope; see Elsewhere.
type Snapshot struct {
	Time      time.Time `json:"time"` // when it was taken
	Scope     Ref       `json:"scope,omitzero"`
	ScopeName string    `json:"scopeName,omitempty"`
	VMs       []VM      `json:"vms"`
	Others    []Ref     `json:"others,omitempty"` // tagged objects that are not VMs, or are gone
	// Elsewhere are tagged VMs outside the scope, where there were so many that only those in it were read.
	Elsewhere []Ref `json:"elsewhere,omitempty"`
	// VCenterAddrs are the addresses or names by which vCenter itself is known.
	VCenterAddrs []string `json:"vcenterAddrs,omitempty"`
	// Hosts are at least all hosts of the contended cluster, or all hosts where nothing names a scope.
	Hosts []Host `json:"hosts,omitempty"`
	// Groups are the application groups of the candidates, by tag name. Of a group that is missing here the
	// candidates alone are known.
	Groups map[string]Group `json:"groups,omitempty"`
	// Failover is what HA's admission control keeps of clusters. A cluster that is missing keeps nothing, or counts
	// otherwise: vCenter alone knows.
	Failover []Failover `json:"failover,omitempty"`
}

// Failover is what a cluster keeps for hosts that fail, by one of three policies: percent of its capacity, slots, or
// whole hosts.
type Failover struct {
	Cluster       Ref    `json:"cluster"`
	CPUPercent    int64  `json:"cpuPercent"`
	MemoryPercent int64  `json:"memoryPercent"`
	Slots         *Slots `json:"slots,omitempty"`
	Hosts         []Ref  `json:"hosts,omitempty"` // that take no VM before another host fails
}

// Slots is HA's admission control by slots: each host has room for so many slots, the hosts with the most are taken to
// fail, and the slots of the others must suffice for all VMs that are on.
type Slots struct {
	Failures int      `json:"failures"`        // hosts that are taken to fail
	Fixed    Claim    `json:"fixed,omitzero"`  // size of a slot; zero: that of the largest claims of the VMs that are on
	AtMost   Claim    `json:"atMost,omitzero"` // size of a slot that is not fixed; 0: without bound. A larger VM takes several
	AtLeast  Claim    `json:"atLeast"`         // what a VM counts for that claims less
	VMs      []Claims `json:"vms,omitempty"`
}

// Claim is what a VM reserves, memory with its overhead.
type Claim struct {
	CPUMHz   int64 `json:"cpuMHz"`
	MemoryMB int64 `json:"memoryMB"`
}

// Claims are VMs that are on and claim the same.
type Claims struct {
	Claim
	Number int `json:"number"`
}

// AtLeast returns the larger of each amount.
func (c Claim) AtLeast(least Claim) Claim {
	return Claim{max(c.CPUMHz, least.CPUMHz), max(c.MemoryMB, least.MemoryMB)}
}

// Wakes reports whether DPM Wakes the host when VMs need it.
func (h *Host) Wakes() bool { return h.Standby && h.Wakeable && !h.InMaintenance }
