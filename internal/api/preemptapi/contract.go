// Package preemptapi holds what passes between the preemption workflows and those who speak to them: names,
// results, decisions. It is apart from internal/preempt so that a caller, such as preemptctl, links neither
// the workflows nor the vCenter gateway.
package preemptapi

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Workflow types and queries beside the public ones.
const (
	RoundType       = "PreemptionRound"
	RoundStateQuery = "round_state" // answers a RoundResult as it stands
	// PlanType is the workflow that answers who would go, and acts on nothing.
	PlanType = "PreemptionPlan"
	// HandoverType is the workflow that starts the successor of an intake which had to complete.
	HandoverType = "PreemptionHandover"
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

// The types of the errors of a round that was asked for what vCenter does not know, or knows several times: kinds of
// vcenter.
const (
	VMNotFound    = "NotFound"
	VMAmbiguous   = "Ambiguous"
	TagNotFound   = "TagNotFound"
	TagAmbiguous  = "TagAmbiguous"
	ScopeNotFound = "ScopeNotFound"
	NoRoomNeeded  = "NoRoomNeeded" // the VM that room was asked for is on, or never runs
)

// ProbeType is the workflow that proves each minute that workers of a task queue get work done.
const ProbeType = "PreemptionProbe"

// NamesType is the workflow by which a command asks whether vCenter knows what a person named, before anything starts.
const NamesType = "PreemptionNames"

// NamesInput is what a person named; empty: nothing of the kind.
type NamesInput struct {
	Tag   string      `json:"tag,omitempty"`
	Scope vsphere.Ref `json:"scope,omitzero"`
	VMs   []string    `json:"vms,omitempty"` // name, inventory path or MoRef
	// Cluster is a cluster's name, inventory path or MoRef.
	Cluster string `json:"cluster,omitempty"`
	// Place is a cluster's or a host's name, inventory path or MoRef.
	Place string `json:"place,omitempty"`
	// Datastore is a datastore's name, inventory path or MoRef.
	Datastore string `json:"datastore,omitempty"`
	// Policy is the name of a policy in the worker's file.
	Policy string `json:"policy,omitempty"`
	// List asks which names of a kind begin with Prefix, in any case, for the completion of a command line.
	List   NameKind `json:"list,omitempty"`
	Prefix string   `json:"prefix,omitempty"`
	// Event is a structured CloudEvent of an alarm: is it one of this worker's vCenter?
	Event json.RawMessage `json:"event,omitempty"`
}

// NamesResult says in a sentence each what vCenter does not know, and what it knows several times.
type NamesResult struct {
	Unknown   []string `json:"unknown,omitempty"`
	Ambiguous []string `json:"ambiguous,omitempty"`
	Ours      bool     `json:"ours,omitempty"` // the event is one of this worker's vCenter
	// VMs are the MoRefs of the VMs that were named, in the same order; zero: unknown or ambiguous.
	VMs []vsphere.Ref `json:"vms,omitempty"`
	// Cluster is the MoRef of the cluster that was named.
	Cluster vsphere.Ref `json:"cluster,omitzero"`
	// Place and Datastore are the MoRefs of those that were named.
	Place     vsphere.Ref `json:"place,omitzero"`
	Datastore vsphere.Ref `json:"datastore,omitzero"`
	// Listed are names of the kind that was asked for, at most MaxListed.
	Listed []string `json:"listed,omitempty"`
}

// NameKind is a kind of names that a command line completes.
type NameKind string

// The kinds of names that can be listed.
const (
	NamesOfVMs        NameKind = "vms"
	NamesOfClusters   NameKind = "clusters"
	NamesOfDatastores NameKind = "datastores"
	NamesOfPolicies   NameKind = "policies"
)

// NameKinds lists the kinds of names.
func NameKinds() []NameKind {
	return []NameKind{NamesOfVMs, NamesOfClusters, NamesOfDatastores, NamesOfPolicies}
}

// MaxListed bounds how many names are listed.
const MaxListed = 200

// Demand is a validated request: what the intake acts on.
type Demand struct {
	RequestID   string                 `json:"requestID"`
	Tag         string                 `json:"tag"`
	Criticality preemption.Criticality `json:"criticality"`
	ReplyTo     string                 `json:"replyTo,omitempty"`
	Event       json.RawMessage        `json:"event,omitempty"`
	EventID     string                 `json:"eventID,omitempty"`
	Person      bool                   `json:"person,omitempty"`
	Scope       vsphere.Ref            `json:"scope,omitzero"`
	ScopeName   string                 `json:"scopeName,omitempty"`
	Change      *Change                `json:"change,omitempty"` // the alarm change behind it
	Policy      policy.Policy          `json:"policy"`
	PolicyName  string                 `json:"policyName"`
	PolicyHash  string                 `json:"policyHash"`
	DryRun      bool                   `json:"dryRun,omitempty"`
	VM          string                 `json:"vm,omitempty"`    // evict this one VM: its name, inventory path or MoRef
	Rooms       []RoomAsk              `json:"rooms,omitempty"` // who goes is chosen so that each of these fits on one host
	// NoticeOnly gives the notice, takes it back at its end, and acts on nothing.
	NoticeOnly bool           `json:"noticeOnly,omitempty"`
	Notice     clock.Duration `json:"notice,omitempty"` // of NoticeOnly, where the policy has none
	// Silenced is what to do while the alarm is acknowledged or alarm actions are disabled, preemption.WhenSilencedAct to
	// act all the same; empty: hold.
	Silenced string `json:"whenSilenced,omitempty"`
	// Headroom: the policy's target is its headroom. When that is there, what went for it comes back as far as there is room.
	Headroom bool `json:"headroom,omitempty"`
	// Unverified: vCenter could not be asked yet whether the event is its own; the round asks before it plans.
	Unverified bool `json:"unverified,omitempty"`
}

// Key is what the demand contends for, as the ledger and the intake tell demands apart: the scope, or the one
// VM that it names; "" for everything tagged.
func (d Demand) Key() string {
	if d.VM != "" {
		return vsphere.TypeVM + ":" + d.VM
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

// Decision is what became of a request.
type Decision struct {
	Verdict  Verdict   `json:"verdict"`
	RoundID  string    `json:"roundID,omitempty"`
	Until    time.Time `json:"until,omitzero"`
	Reason   string    `json:"reason,omitempty"`
	IntakeID string    `json:"intakeID,omitempty"`
	Again    bool      `json:"again,omitempty"` // nothing was decided: the same request, sent again, is taken
}

// Response is the intake's answer: the documented fields and more.
type Response struct {
	WorkflowID      string                 `json:"workflowID"`
	RunID           string                 `json:"workflowRunID"`
	WorkflowName    string                 `json:"workflowName"`
	LastPreemption  time.Time              `json:"lastPreemptionTime"`
	VirtualMachines []vsphere.Ref          `json:"virtualMachines"`
	Tag             string                 `json:"tag"`
	Criticality     preemption.Criticality `json:"criticality"`
	Event           json.RawMessage        `json:"event"`
	ReplyTo         string                 `json:"replyTo"`

	State        IntakeState  `json:"state"`
	Failure      string       `json:"failure,omitempty"`
	RoundID      string       `json:"roundID,omitempty"` // the running round, or the last
	Round        *RoundResult `json:"round,omitempty"`   // the last round's result
	Levels       []Level      `json:"levels,omitempty"`
	Deferred     []Deferral   `json:"deferred,omitempty"`
	LastDecision *Decision    `json:"lastDecision,omitempty"`
	Rejections   []Rejection  `json:"rejections,omitempty"`
	// Left is what an intake leaves to its successor that completes for its client's execution timeout, in words.
	Left     []string `json:"left,omitempty"`
	Requests int      `json:"requests"` // taken since the workflow began, over all its runs
}

// VMOutcome is what became of one target.
type VMOutcome struct {
	Ref             vsphere.Ref        `json:"ref"`
	Name            string             `json:"name"`
	Outcome         action.Outcome     `json:"outcome"`
	Reason          policy.Explanation `json:"reason,omitzero"`
	Forced          bool               `json:"forced,omitempty"` // its power was cut
	OffAt           time.Time          `json:"offAt,omitzero"`   // when vCenter was seen to say so
	Annotated       bool               `json:"annotated,omitempty"`
	AnnotationError string             `json:"annotationError,omitempty"`
	CPUMHz          int64              `json:"cpuMHz,omitempty"`
	MemoryMB        int64              `json:"memoryMB,omitempty"`
	Host            vsphere.Ref        `json:"host,omitzero"`
	InstanceUUID    string             `json:"instanceUUID,omitempty"`
	Throttle        *policy.Throttled  `json:"throttle,omitempty"` // our record of its CPU limit, where it was turned off with one
	Why             string             `json:"why,omitempty"`      // why it was chosen, in words
	Notice          string             `json:"notice,omitempty"`   // what became of its notice: given, acknowledged, extended, withdrawn, or why none
	Groups          []string           `json:"groups,omitempty"`   // application groups that it is in, by its tags when it was chosen
}

// PendingVM is a target that is not yet decided.
type PendingVM struct {
	Ref      vsphere.Ref `json:"ref"`
	Name     string      `json:"name"`
	Why      string      `json:"why,omitempty"` // why it was chosen, in words
	CPUMHz   int64       `json:"cpuMHz,omitempty"`
	MemoryMB int64       `json:"memoryMB,omitempty"`
	Host     vsphere.Ref `json:"host,omitzero"`
	Groups   []string    `json:"groups,omitempty"`
}

// noNotice begins the Notice of a VM that was given none; why follows.
const noNotice = "none: "

// NoNotice is the Notice of a VM that was given none.
func NoNotice(why string) string { return noNotice + why }

// NotNotified reports whether the VM was to be given a notice and was given none, and why.
func (o VMOutcome) NotNotified() (why string, none bool) {
	return strings.CutPrefix(o.Notice, noNotice)
}

// RoundResult is what a round did, and why.
type RoundResult struct {
	RoundID     string                 `json:"roundID"`
	RunID       string                 `json:"runID"`
	IntakeID    string                 `json:"intakeID,omitempty"`
	State       RoundState             `json:"state"`
	Reason      string                 `json:"reason,omitempty"`
	Tag         string                 `json:"tag"`
	Criticality preemption.Criticality `json:"criticality"`
	Alarm       string                 `json:"alarm,omitempty"`
	Scope       vsphere.Ref            `json:"scope,omitzero"`
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
	Waiting     []vsphere.Ref          `json:"waiting,omitempty"` // targets not yet decided
	Pending     []PendingVM            `json:"pending,omitempty"` // the same, with names and reasons; of very many without
	Next        []policy.Next          `json:"next,omitempty"`    // who would go as well if more had to, by the last plan
	// Usage is how the contended scope stood, and what the first plan was to make of it.
	Usage     []policy.Usage   `json:"usage,omitempty"`
	Shortfall policy.Resources `json:"shortfall,omitzero"` // what was to be freed
	Covered   policy.Resources `json:"covered,omitzero"`   // of it, what the plan covers
	Partial   bool             `json:"partial,omitempty"`  // the plan could not cover all
	Deadline  time.Time        `json:"deadline,omitzero"`  // of the notices under way: the last one
	// NoticeTime is how long the guests' notice lasts: the policy's, or that of a rehearsal where the policy gives none.
	NoticeTime clock.Duration `json:"noticeTime,omitzero"`

	AlarmOver bool   `json:"alarmOver,omitempty"` // vCenter says that the alarm has fallen, of which nobody told
	Silenced  string `json:"silenced,omitempty"`  // why nothing is done about an alarm that stands
	Paused    bool   `json:"paused,omitempty"`    // it was withdrawn because a person has paused preemption
	// Unmeasured: neither the policy nor the alarm says which usage is too high, so that a repetition waits longer.
	Unmeasured bool `json:"unmeasured,omitempty"`
	// Rooms are what a plan for rooms found, in the order in which they were asked for.
	Rooms []policy.RoomPlan `json:"rooms,omitempty"`

	// Brief marks what an intake keeps of a very large round: Targets is empty, Outcomes counts them and VMs are those that
	// are off. The round itself has the whole result.
	Brief    bool                   `json:"brief,omitempty"`
	Outcomes map[action.Outcome]int `json:"outcomes,omitempty"`
	VMs      []vsphere.Ref          `json:"vms,omitempty"`
}

// Preempted returns the VMs that this round turned off, in plan order.
func (r RoundResult) Preempted() []vsphere.Ref {
	if r.Brief {
		return r.VMs
	}
	refs := []vsphere.Ref{}
	for _, t := range r.Targets {
		if t.Outcome.Ours() {
			refs = append(refs, t.Ref)
		}
	}
	return refs
}

// Count returns how many targets have the outcome.
func (r RoundResult) Count(outcome action.Outcome) (n int) {
	if r.Brief {
		return r.Outcomes[outcome]
	}
	for _, t := range r.Targets {
		if t.Outcome == outcome {
			n++
		}
	}
	return n
}

// Basis is what a plan was made from.
type Basis struct {
	Snapshot vsphere.Snapshot `json:"snapshot"`
	Demand   policy.Demand    `json:"demand"`
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
