// Package preempt holds the preemption workflows and their activities: the intake, which takes requests and
// alarm changes and decides when a round runs; the round, which plans, reserves, gives notice, evicts,
// verifies, annotates and reports; and the restore, which powers on again. It imports of ours the root
// contract, alarm, policy, vcenter, notify and ledger, and never remediate.
package preempt

import (
	"encoding/json"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

// The names that are not part of the public contract.
const (
	RoundSignal     = "RoundChange" // carries RoundChange, from the intake to its round
	RoundDoneSignal = "RoundDone"   // carries RoundResult, from a round to its intake
	searchAlarm     = preemptapi.SearchAlarm
	searchScope     = preemptapi.SearchScope
	searchState     = preemptapi.SearchState
	maxSparedInFull = 500 // spared candidates kept one by one in a payload, more become counts
	maxRejections   = 20
)

// SearchAttributes are the Keyword search attributes that the workflows set where they are registered.
func SearchAttributes() []string { return preemptapi.SearchAttributes() }

// Timing holds how long the machinery waits; the policy holds how long guests and alarms may take. It is
// recorded with each decision, so that a change applies to later work alone.
type Timing struct {
	IntakeIdle time.Duration `json:"intakeIdle"` // an intake with nothing to do completes after it
	CancelWait time.Duration `json:"cancelWait"` // a cancelled intake waits so long for its round's result
	Outage     time.Duration `json:"outage"`     // how long vCenter or Temporal may be away before work is given up
	StalePlan  time.Duration `json:"stalePlan"`  // a plan older than this is not acted on but made anew
	AlarmAge   time.Duration `json:"alarmAge"`   // the alarm of an older request is looked at in vCenter before anything is planned
	Retry      time.Duration `json:"retry"`      // first back-off between attempts on one object
	Heartbeat  time.Duration `json:"heartbeat"`  // heartbeat timeout of an activity
	ReplyFor   time.Duration `json:"replyFor"`   // how long a failing reply address is tried
	Sweep      time.Duration `json:"sweep"`      // how often rounds are looked for that ended without a word
	RepeatWait time.Duration `json:"repeatWait"` // least time to a repetition that cannot measure whether it is needed
	Remeasure  time.Duration `json:"remeasure"`  // from one wave of a restore to the next: vCenter's statistics lag
}

// replyPoll is how often guests are looked at for an answer to their notice.
func (t Timing) replyPoll() time.Duration { return max(t.Retry, 100*time.Millisecond) }

// DefaultTiming returns the timing of production.
func DefaultTiming() Timing {
	return Timing{
		IntakeIdle: 2 * time.Minute, CancelWait: 30 * time.Second, Outage: 24 * time.Hour,
		StalePlan: time.Minute, AlarmAge: time.Minute, Retry: 2 * time.Second, Heartbeat: 10 * time.Second, ReplyFor: time.Hour,
		Sweep: time.Minute, RepeatWait: 5 * time.Minute, Remeasure: 30 * time.Second,
	}
}

// RoundInput starts a round.
type RoundInput struct {
	Demand    preemptapi.Demand `json:"demand"`
	IntakeID  string            `json:"intakeID"` // "": nobody to tell
	IntakeRun time.Time         `json:"intakeStarted"`
	Timing    Timing            `json:"timing"`
	Sequence  int               `json:"sequence,omitempty"` // 2 and up: a repetition for an alarm that still stands
	Attrs     bool              `json:"attrs,omitempty"`    // the search attributes are registered
}

// RoundChange tells a running round of a change of urgency.
type RoundChange struct {
	Withdraw    bool                   `json:"withdraw,omitempty"`
	Soften      bool                   `json:"soften,omitempty"`      // to the lower criticality, for what is not yet acted upon
	Criticality preemption.Criticality `json:"criticality,omitempty"` // a raise, or what to soften to
	Reason      string                 `json:"reason"`
}

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
	Scope       string         `json:"scope,omitempty"` // Type:Value that was contended for; empty: everything

	InstanceUUID string `json:"instanceUUID,omitempty"` // of the VM, so that a copy of the record is known as one
	CPUMHz       int64  `json:"cpuMHz,omitempty"`       // what it used when it was chosen
	MemoryMB     int64  `json:"memoryMB,omitempty"`

	// Of a VM that was powered on again Preempted is false, and these say by what and when.
	Restored   bool      `json:"restored,omitempty"`
	RestoredAt time.Time `json:"restoredAt,omitzero"`
	RestoredBy string    `json:"restoredBy,omitempty"`
	RestoreID  string    `json:"restoreID,omitempty"`
}
