package preempt

import (
	"encoding/json"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Attribute is the value of the custom attribute on a preempted VM.
type Attribute struct {
	Preempted       bool                   `json:"preempted"`
	Tag             string                 `json:"tag"`
	ForcedShutdown  bool                   `json:"forcedShutdown"`
	Criticality     preemption.Criticality `json:"criticality"`
	WorkflowID      string                 `json:"workflowID"`
	WorkflowStarted time.Time              `json:"workflowStarted"`
	Event           json.RawMessage        `json:"event"`

	RoundID     string         `json:"roundID,omitempty"`
	Outcome     action.Outcome `json:"outcome,omitempty"`
	PreemptedAt time.Time      `json:"preemptedAt,omitzero"`
	PolicyHash  string         `json:"policyHash,omitempty"`
	Policy      string         `json:"policy,omitempty"`
	For         string         `json:"for,omitempty"`   // for whom room was made, in words; empty: an alarm, or a person, asked
	Scope       string         `json:"scope,omitempty"` // Type:Value that was contended for; empty: everything

	InstanceUUID string `json:"instanceUUID,omitempty"` // of the VM, so that a copy of the record is known as one
	CPUMHz       int64  `json:"cpuMHz,omitempty"`       // what it used when it was chosen
	MemoryMB     int64  `json:"memoryMB,omitempty"`

	// Throttle says which CPU limit the VM had, and which one it got.
	Throttle *policy.Throttled `json:"throttle,omitempty"`

	// Of a VM that was powered on again Preempted is false, and these say by what and when.
	Restored   bool      `json:"restored,omitempty"`
	RestoredAt time.Time `json:"restoredAt,omitzero"`
	RestoredBy string    `json:"restoredBy,omitempty"`
	RestoreID  string    `json:"restoreID,omitempty"`
}

// RecordOf reads the value of our attribute: preempted is false for a VM that was restored since. A value
// that is not ours has no record.
func RecordOf(value string) (record *policy.Record, preempted bool) {
	var attr Attribute
	if json.Unmarshal([]byte(value), &attr) != nil || attr.RoundID == "" || attr.PreemptedAt.IsZero() {
		return nil, true
	}
	scope, _ := vsphere.ParseRef(attr.Scope)
	return &policy.Record{
		InstanceUUID: attr.InstanceUUID, Tag: attr.Tag, Scope: scope, At: attr.PreemptedAt, CPUMHz: attr.CPUMHz, MemoryMB: attr.MemoryMB,
		Throttle: attr.Throttle, StaysOn: attr.Outcome.StaysOn(),
	}, attr.Preempted
}
