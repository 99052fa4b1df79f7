// Package policy decides whom to preempt: from a snapshot of the candidates, a demand, rules and the
// time it computes a plan with a reason for every candidate. It is pure: it reads no clock, touches
// nothing outside its arguments, mutates none of them, and imports neither Temporal, govmomi nor
// CloudEvents, nor any other package of this project.
package policy

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
	TypeVM      = "VirtualMachine"
	TypeHost    = "HostSystem"
	TypeCluster = "ClusterComputeResource"
	TypeCompute = "ComputeResource"
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

// VM is what the policy knows of one candidate.
type VM struct {
	Ref          Ref       `json:"ref"`
	Name         string    `json:"name"`
	PowerState   string    `json:"powerState"`
	Tagged       bool      `json:"tagged"` // carries the demand's tag
	Template     bool      `json:"template,omitempty"`
	Connected    bool      `json:"connected"` // runtime.connectionState is connected
	ToolsRunning bool      `json:"toolsRunning"`
	ManagedBy    string    `json:"managedBy,omitempty"` // extension key of config.managedBy
	ManagedType  string    `json:"managedType,omitempty"`
	BIOSUUID     string    `json:"biosUUID,omitempty"`
	InstanceUUID string    `json:"instanceUUID,omitempty"`
	GuestAddrs   []string  `json:"guestAddrs,omitempty"` // guest.hostName and guest.ipAddress, where known
	Host         Ref       `json:"host"`
	Cluster      Ref       `json:"cluster"` // the compute resource of its host
	Ancestors    []Ref     `json:"ancestors,omitempty"`
	BootTime     time.Time `json:"bootTime,omitzero"`
	// DisabledMethods are the operations vCenter refuses on the VM now (disabledMethod): while an
	// operation is under way, PowerOffVM_Task is among them.
	DisabledMethods []string `json:"disabledMethods,omitempty"`
	CPUMHz          int64    `json:"cpuMHz"`   // live CPU usage
	MemoryMB        int64    `json:"memoryMB"` // live host memory usage
	ChangeVersion   string   `json:"changeVersion,omitempty"`
}

// Snapshot is the inventory at one moment: every object that carries the tag, whatever its scope.
type Snapshot struct {
	Time      time.Time `json:"time"` // when it was taken
	Scope     Ref       `json:"scope,omitzero"`
	ScopeName string    `json:"scopeName,omitempty"`
	VMs       []VM      `json:"vms"`
	Others    []Ref     `json:"others,omitempty"` // tagged objects that are not VMs, or are gone
	// VCenterAddrs are the addresses or names by which vCenter itself is known.
	VCenterAddrs []string `json:"vcenterAddrs,omitempty"`
}
