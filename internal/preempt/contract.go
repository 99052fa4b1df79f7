// Package preempt holds the preemption workflows and their activities: the intake, which takes requests
// and alarm changes and decides when a round runs, and the round, which plans, reserves, evicts,
// verifies, annotates and reports. It imports of ours the root contract, alarm, policy, vcenter, notify
// and ledger, and never remediate.
package preempt

import (
	"encoding/json"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// The names that are not part of the public contract.
const (
	RoundType       = "PreemptionRound"
	RoundSignal     = "RoundChange" // carries RoundChange, from the intake to its round
	RoundDoneSignal = "RoundDone"   // carries RoundResult, from a round to its intake
	RoundStateQuery = "round_state" // answers a RoundResult as it stands
	searchAlarm     = "PreemptionAlarm"
	searchScope     = "PreemptionScope"
	searchState     = "PreemptionState"
	maxSparedInFull = 500 // spared candidates kept one by one in a payload, more become counts
	maxRejections   = 20
)

// SearchAttributes are the Keyword search attributes that the workflows set where they are registered.
func SearchAttributes() []string { return []string{searchAlarm, searchScope, searchState} }

// Timing holds how long the machinery waits; the policy holds how long guests and alarms may take. It is
// recorded with each decision, so that a change applies to later work alone.
type Timing struct {
	IntakeIdle time.Duration `json:"intakeIdle"` // an intake with nothing to do completes after it
	CancelWait time.Duration `json:"cancelWait"` // a cancelled intake waits so long for its round's result
	Outage     time.Duration `json:"outage"`     // how long vCenter or Temporal may be away before work is given up
	StalePlan  time.Duration `json:"stalePlan"`  // a plan older than this is not acted on but made anew
	Retry      time.Duration `json:"retry"`      // first back-off between attempts on one object
	Heartbeat  time.Duration `json:"heartbeat"`  // heartbeat timeout of an activity
	ReplyFor   time.Duration `json:"replyFor"`   // how long a failing reply address is tried
	Sweep      time.Duration `json:"sweep"`      // how often rounds are looked for that ended without a word
}

// DefaultTiming returns the timing of production.
func DefaultTiming() Timing {
	return Timing{
		IntakeIdle: 2 * time.Minute, CancelWait: 30 * time.Second, Outage: 24 * time.Hour,
		StalePlan: time.Minute, Retry: 2 * time.Second, Heartbeat: 10 * time.Second, ReplyFor: time.Hour,
		Sweep: time.Minute,
	}
}

// Demand is a validated request: what the intake acts on.
type Demand struct {
	RequestID   string                 `json:"requestID"`
	Tag         string                 `json:"tag"`
	Criticality preemption.Criticality `json:"criticality"`
	ReplyTo     string                 `json:"replyTo,omitempty"`
	Event       json.RawMessage        `json:"event,omitempty"`
	EventID     string                 `json:"eventID,omitempty"`
	Person      bool                   `json:"person,omitempty"`
	Scope       policy.Ref             `json:"scope,omitzero"`
	ScopeName   string                 `json:"scopeName,omitempty"`
	Change      *Change                `json:"change,omitempty"` // the alarm change behind it
	Policy      policy.Policy          `json:"policy"`
	PolicyName  string                 `json:"policyName"`
	PolicyHash  string                 `json:"policyHash"`
	DryRun      bool                   `json:"dryRun,omitempty"`
}

// Alarm returns the alarm's name, or "" where a person or another event asked.
func (d Demand) Alarm() string {
	if d.Change == nil {
		return ""
	}
	return d.Change.Alarm
}

// Change is one alarm's colour on one entity.
type Change struct {
	Alarm    string    `json:"alarm"`
	Entity   string    `json:"entity"`
	Scope    string    `json:"scope,omitempty"`
	To       string    `json:"to"`
	Time     time.Time `json:"time"`
	EventKey int64     `json:"eventKey,omitempty"`
}

// Rejection is a request that was not taken, and why.
type Rejection struct {
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
}

// Verdicts of a Decision.
const (
	Started   = "started"
	Joined    = "joined"    // a running round was told of the higher criticality
	Deferred  = "deferred"  // planned anew at Until if the alarm still stands
	Refused   = "refused"   // a person's request in the cooldown or beside a running round
	Duplicate = "duplicate" // acted on before
	Rejected  = "rejected"  // not a valid request
	Failed    = "failed"    // the round could not be started
)

// Decision is what became of a request.
type Decision struct {
	Verdict  string    `json:"verdict"`
	RoundID  string    `json:"roundID,omitempty"`
	Until    time.Time `json:"until,omitzero"`
	Reason   string    `json:"reason,omitempty"`
	IntakeID string    `json:"intakeID,omitempty"`
}

// Response is the intake's answer: the documented fields and more.
type Response struct {
	WorkflowID      string                 `json:"workflowID"`
	RunID           string                 `json:"workflowRunID"`
	WorkflowName    string                 `json:"workflowName"`
	LastPreemption  time.Time              `json:"lastPreemptionTime"`
	VirtualMachines []policy.Ref           `json:"virtualMachines"`
	Tag             string                 `json:"tag"`
	Criticality     preemption.Criticality `json:"criticality"`
	Event           json.RawMessage        `json:"event"`
	ReplyTo         string                 `json:"replyTo"`

	State        string       `json:"state"` // idle, running, deferred, failed, completed
	Failure      string       `json:"failure,omitempty"`
	RoundID      string       `json:"roundID,omitempty"` // the running round, or the last
	Round        *RoundResult `json:"round,omitempty"`   // the last round's result
	Levels       []Level      `json:"levels,omitempty"`
	Deferred     []Deferral   `json:"deferred,omitempty"`
	LastDecision *Decision    `json:"lastDecision,omitempty"`
	Rejections   []Rejection  `json:"rejections,omitempty"`
	Requests     int          `json:"requests"` // taken since the workflow began, over all its runs
}

// The states of a round.
const (
	RoundPlanning   = "planning"
	RoundActing     = "acting"
	RoundWaiting    = "waiting"   // for guests to shut down
	RoundReporting  = "reporting" // everything acted on, replies under way
	RoundWatching   = "watching"  // looks on for guests that ignored their shutdown
	RoundCompleted  = "completed"
	RoundPartial    = "partial" // some VMs failed
	RoundFailed     = "failed"  // nothing could be planned, or every VM failed
	RoundEmpty      = "empty"   // nothing was eligible
	RoundWithdrawn  = "withdrawn"
	RoundObserved   = "observed" // the policy only observes
	RoundPlanned    = "planned"  // a dry run
	RoundUnfinished = "unfinished"
)

// Outcomes of a target.
const (
	OutcomePoweredOff   = "powered_off"
	OutcomeShutDown     = "shut_down"
	OutcomeForced       = "forced"
	OutcomeAlreadyOff   = "already_off"
	OutcomeSpared       = "spared"
	OutcomeFailed       = "failed"
	OutcomeUnattributed = "off_unattributed"
)

// Reasons of an outcome, besides those of the policy.
const (
	ReasonWithdrawn      = "withdrawn"
	ReasonIgnored        = "guest_ignored_shutdown"
	ReasonNoTools        = "no_running_tools"
	ReasonForcedNoTools  = "no_running_tools_forced"
	ReasonShutWithdrawn  = "still_on_when_withdrawn"
	ReasonForceWithdrawn = "force_withdrawn"
)

// VMOutcome is what became of one target.
type VMOutcome struct {
	Ref             policy.Ref `json:"ref"`
	Name            string     `json:"name"`
	Outcome         string     `json:"outcome"`
	Reason          string     `json:"reason,omitempty"`
	Forced          bool       `json:"forced,omitempty"` // its power was cut
	OffAt           time.Time  `json:"offAt,omitzero"`   // when vCenter was seen to say so
	Annotated       bool       `json:"annotated,omitempty"`
	AnnotationError string     `json:"annotationError,omitempty"`
	CPUMHz          int64      `json:"cpuMHz,omitempty"`
	MemoryMB        int64      `json:"memoryMB,omitempty"`
}

// Ours tells whether this round turned the VM off.
func (o VMOutcome) Ours() bool {
	return o.Outcome == OutcomePoweredOff || o.Outcome == OutcomeShutDown || o.Outcome == OutcomeForced
}

// RoundInput starts a round.
type RoundInput struct {
	Demand    Demand    `json:"demand"`
	IntakeID  string    `json:"intakeID"` // "": nobody to tell
	IntakeRun time.Time `json:"intakeStarted"`
	Timing    Timing    `json:"timing"`
	Sequence  int       `json:"sequence,omitempty"` // 2 and up: a repetition for an alarm that still stands
	Attrs     bool      `json:"attrs,omitempty"`    // the search attributes are registered
}

// RoundChange tells a running round of a change of urgency.
type RoundChange struct {
	Withdraw    bool                   `json:"withdraw,omitempty"`
	Criticality preemption.Criticality `json:"criticality,omitempty"` // a raise
	Reason      string                 `json:"reason"`
}

// RoundResult is what a round did, and why.
type RoundResult struct {
	RoundID     string                 `json:"roundID"`
	RunID       string                 `json:"runID"`
	IntakeID    string                 `json:"intakeID,omitempty"`
	State       string                 `json:"state"`
	Reason      string                 `json:"reason,omitempty"`
	Tag         string                 `json:"tag"`
	Criticality preemption.Criticality `json:"criticality"`
	Alarm       string                 `json:"alarm,omitempty"`
	Scope       policy.Ref             `json:"scope,omitzero"`
	ScopeName   string                 `json:"scopeName,omitempty"`
	PolicyName  string                 `json:"policy"`
	PolicyHash  string                 `json:"policyHash"`
	StartedAt   time.Time              `json:"startedAt"`
	EndedAt     time.Time              `json:"endedAt,omitzero"`
	Targets     []VMOutcome            `json:"targets"`
	Spared      []policy.Spared        `json:"spared"`
	SparedCount map[policy.Reason]int  `json:"sparedCount,omitempty"`
	FreedCPUMHz int64                  `json:"freedCPUMHz"`
	FreedMemMB  int64                  `json:"freedMemoryMB"`
	ReplySent   bool                   `json:"replySent,omitempty"`
	ReplyError  string                 `json:"replyError,omitempty"`
	Changes     []string               `json:"changes,omitempty"` // raises and withdrawals, in words
	Waiting     []policy.Ref           `json:"waiting,omitempty"` // targets not yet decided
}

// Preempted returns the VMs that this round turned off, in plan order.
func (r RoundResult) Preempted() []policy.Ref {
	refs := []policy.Ref{}
	for _, t := range r.Targets {
		if t.Ours() {
			refs = append(refs, t.Ref)
		}
	}
	return refs
}

// Count returns how many targets have the outcome.
func (r RoundResult) Count(outcome string) (n int) {
	for _, t := range r.Targets {
		if t.Outcome == outcome {
			n++
		}
	}
	return n
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

	RoundID     string    `json:"roundID,omitempty"`
	Outcome     string    `json:"outcome,omitempty"`
	PreemptedAt time.Time `json:"preemptedAt,omitzero"`
	PolicyHash  string    `json:"policyHash,omitempty"`
}
