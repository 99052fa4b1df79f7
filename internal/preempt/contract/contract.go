// Package contract holds what passes between the preemption workflows and those who speak to them: names,
// results, decisions. It is apart from internal/preempt so that a caller, such as preemptctl, links neither
// the workflows nor the vCenter gateway. It imports of ours only the root contract and the policy's nouns.
package contract

import (
	"encoding/json"
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// Workflow types and queries beside the public ones.
const (
	RoundType       = "PreemptionRound"
	RoundStateQuery = "round_state" // answers a RoundResult as it stands
	// PlanType is the workflow that answers who would go, and acts on nothing.
	PlanType = "PreemptionPlan"
	// PlanActivity is the step of a round whose result carries the plan and its Basis.
	PlanActivity = "PlanRound"
)

// The search attributes that the workflows set where they are registered; all are of type Keyword.
const (
	SearchAlarm = "PreemptionAlarm"
	SearchScope = "PreemptionScope"
	SearchState = "PreemptionState"
)

// SearchAttributes lists them.
func SearchAttributes() []string { return []string{SearchAlarm, SearchScope, SearchState} }

// ScheduledInput is the input of an intake that a schedule starts: it holds one request and completes as
// soon as that is dealt with. The request names no event and no id, for each run is a request of its own.
func ScheduledInput(r preemption.WorkflowRequest) (json.RawMessage, error) {
	type message struct {
		JSON preemption.WorkflowRequest `json:"json"`
	}
	return json.Marshal(struct {
		Pending []message `json:"pending"`
		Once    bool      `json:"once"`
	}{[]message{{r}}, true})
}

// NotTagged is the type of the error of a round that was to evict one VM which does not carry the tag.
const NotTagged = "NotTagged"

// The types of the errors of such a round where no VM, or more than one, is called so: kinds of vcenter.
const (
	VMNotFound  = "NotFound"
	VMAmbiguous = "Ambiguous"
)

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
	VM          string                 `json:"vm,omitempty"` // evict this one VM: its name, inventory path or MoRef
	// NoticeOnly gives the notice, takes it back at its end, and acts on nothing.
	NoticeOnly bool            `json:"noticeOnly,omitempty"`
	Notice     policy.Duration `json:"notice,omitempty"` // of NoticeOnly, where the policy has none
}

// Key is what the demand contends for, as the ledger and the intake tell demands apart: the scope, or the one
// VM that it names; "" for everything tagged.
func (d Demand) Key() string {
	if d.VM != "" {
		return policy.TypeVM + ":" + d.VM
	}
	return d.Scope.String()
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
	// Criticality is what the rule makes of To, NONE where nothing; empty: yellow is MEDIUM, red HIGH.
	Criticality preemption.Criticality `json:"criticality,omitempty"`
	Soften      bool                   `json:"soften,omitempty"` // a fall after which to go on, more mildly
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
	RoundPlanning  = "planning"
	RoundActing    = "acting"
	RoundNotified  = "notified"  // guests have their notice and its time runs
	RoundWaiting   = "waiting"   // for guests to shut down
	RoundReporting = "reporting" // everything acted on, replies under way
	RoundWatching  = "watching"  // looks on for guests that ignored their shutdown
	RoundCompleted = "completed"
	RoundPartial   = "partial" // some VMs failed
	RoundFailed    = "failed"  // nothing could be planned, or every VM failed
	RoundEmpty     = "empty"   // nothing was eligible
	RoundWithdrawn = "withdrawn"
	RoundObserved  = "observed"  // the policy only observes
	RoundPlanned   = "planned"   // a dry run
	RoundRehearsed = "rehearsed" // a notice was given and taken back, nothing else
)

// Outcomes of a target.
const (
	OutcomePoweredOff   = "powered_off"
	OutcomeShutDown     = "shut_down"
	OutcomeForced       = "forced"
	OutcomeSuspended    = "suspended"
	OutcomeAlreadyOff   = "already_off"
	OutcomeSpared       = "spared"
	OutcomeFailed       = "failed"
	OutcomeUnattributed = "off_unattributed"
)

// Reasons of an outcome, besides those of the policy.
const (
	ReasonWithdrawn     = "withdrawn"
	ReasonIgnored       = "guest_ignored_shutdown"
	ReasonNoTools       = "no_running_tools"
	ReasonForcedNoTools = "no_running_tools_forced"
	ReasonShutWithdrawn = "still_on_when_withdrawn"
	ReasonRehearsed     = "rehearsal"
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
	Host            policy.Ref `json:"host,omitzero"`
	InstanceUUID    string     `json:"instanceUUID,omitempty"`
	Why             string     `json:"why,omitempty"`    // why it was chosen, in words
	Notice          string     `json:"notice,omitempty"` // what became of its notice: given, acknowledged, extended, withdrawn, or why none
}

// Ours tells whether this round turned the VM off.
func (o VMOutcome) Ours() bool {
	switch o.Outcome {
	case OutcomePoweredOff, OutcomeShutDown, OutcomeForced, OutcomeSuspended:
		return true
	}
	return false
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
	// Usage is how the contended scope stood, and what the first plan was to make of it.
	Usage     []policy.Usage   `json:"usage,omitempty"`
	Shortfall policy.Resources `json:"shortfall,omitzero"`  // what was to be freed
	Covered   policy.Resources `json:"covered,omitzero"`    // of it, what the plan covers
	Partial   bool             `json:"partial,omitempty"`   // the plan could not cover all
	Deadline  time.Time        `json:"deadline,omitzero"`   // of the notices under way: the last one
	AlarmOver bool             `json:"alarmOver,omitempty"` // vCenter says that the alarm has fallen, of which nobody told
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

// Basis is what a plan was made from.
type Basis struct {
	Snapshot policy.Snapshot `json:"snapshot"`
	Demand   policy.Demand   `json:"demand"`
}

// Level is the colour of one alarm on one entity, and how hard it asks to act.
type Level struct {
	Alarm    string    `json:"alarm"`
	Entity   string    `json:"entity"`
	Scope    string    `json:"scope,omitempty"`
	Colour   string    `json:"colour"`
	Rank     int       `json:"rank"` // of the criticality asked for; 0: none
	Time     time.Time `json:"time"`
	EventKey int64     `json:"eventKey,omitempty"`
	Gray     time.Time `json:"gray,omitzero"` // unknown since; the rank holds until the policy's gray timeout
}

// Deferral is a request that waits for its time.
type Deferral struct {
	Scope    string    `json:"scope"`
	Until    time.Time `json:"until"`
	Reason   string    `json:"reason"`
	Demand   Demand    `json:"demand"`
	Sequence int       `json:"sequence"`
}

// ResultOf returns a round's result from what waiting for it gave: a failed round carries its result in
// its error's details. It returns err where there is none.
func ResultOf(err error, r RoundResult) (RoundResult, error) {
	var app *temporal.ApplicationError
	if errors.As(err, &app) && app.HasDetails() {
		var failed RoundResult
		if app.Details(&failed) == nil && failed.RoundID != "" {
			return failed, nil
		}
	}
	return r, err
}

// KindOf returns the type of the error with which a round or a plan failed, or "" where there is none.
func KindOf(err error) string {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return app.Type()
	}
	return ""
}
