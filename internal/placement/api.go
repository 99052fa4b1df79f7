package placement

import (
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// What a resize comes to.
const (
	Grow       = "grow"
	AtLimit    = "atLimit"
	Infeasible = "infeasible"
	Skip       = "skip"
)

// Sized is the next size of a VM, and why. Sizes are numbers of virtual CPUs, or MB.
type Sized struct {
	Verdict  string   `json:"verdict"`
	Reason   string   `json:"reason"` // in words, always
	Mode     string   `json:"mode"`   // the effective one
	Resource string   `json:"resource"`
	Current  int      `json:"current"`
	Pending  int      `json:"pending,omitempty"` // the wish that its tag holds
	Next     int      `json:"next,omitempty"`    // with Grow
	Bound    int      `json:"bound"`
	BoundBy  string   `json:"boundBy"`          // what sets the bound: tag, rule, default, host, cluster
	Hot      bool     `json:"hot,omitempty"`    // the VM takes Next while it is on
	WhyNot   string   `json:"whyNot,omitempty"` // it does not
	Bad      []BadTag `json:"bad,omitempty"`
}

// BadTag is a tag that cannot be applied.
type BadTag struct {
	Category string `json:"category"`
	Tag      string `json:"tag"`
	Reason   string `json:"reason"`
}

// Demand is what moves are chosen for: a datastore in alarm, or a VM.
type Demand struct {
	Source   vsphere.Ref       `json:"source,omitzero"`
	VM       vsphere.Ref       `json:"vm,omitzero"`
	Flights  []Flight          `json:"flights,omitempty"`
	Excluded map[string]string `json:"excluded,omitempty"` // VM by Ref.String → why it must stay: reserved, in its cooldown
}

// Moves is the choice.
type Moves struct {
	Source        Usage        `json:"source"`
	Moves         []Relocation `json:"moves"` // in order
	Stay          []Stay       `json:"stay"`  // every other VM on the source, and why it is not moved
	Enough        bool         `json:"enough"`
	RecommendOnly string       `json:"recommendOnly,omitempty"` // why the moves must only be told
	Reason        string       `json:"reason,omitempty"`        // in words, where there are no moves or not enough
}

// Usage is how full a datastore is, before and after.
type Usage struct {
	Ref      vsphere.Ref `json:"ref"`
	Name     string      `json:"name"`
	Capacity int64       `json:"capacity"`         // bytes
	Used     int64       `json:"used"`             // bytes, now, with what moves under way will take or free
	After    int64       `json:"after"`            // bytes, when the moves are done
	Target   int         `json:"target,omitempty"` // percent to come below
}

// Relocation is one VM to move, whole, or those of its disks that are on the source and its home if it is there.
type Relocation struct {
	VM              vsphere.Ref `json:"vm"`
	Name            string      `json:"name"`
	Source          vsphere.Ref `json:"source"`
	SourceName      string      `json:"sourceName"`
	Destination     vsphere.Ref `json:"destination"`
	DestinationName string      `json:"destinationName"`
	Host            vsphere.Ref `json:"host,omitzero"`
	Cluster         vsphere.Ref `json:"cluster,omitzero"` // the compute resource of the host
	Used            int64       `json:"used"`             // bytes that go
	Provisioned     int64       `json:"provisioned"`      // bytes
	UsageAfter      int         `json:"usageAfter"`       // percent of the destination
	Pod             vsphere.Ref `json:"pod,omitzero"`     // ask Storage DRS of this pod first
	Why             string      `json:"why"`
}

// Stay is a VM that is not moved, and why.
type Stay struct {
	VM     vsphere.Ref `json:"vm"`
	Name   string      `json:"name"`
	Reason string      `json:"reason"` // stable: snapshots, linked_clone, ...
	Detail string      `json:"detail,omitempty"`
}
