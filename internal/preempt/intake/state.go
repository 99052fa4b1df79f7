package intake

import (
	"encoding/json"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

const maxRejections = 20

// Input carries an intake's state into its next run. Clients start the intake without it.
type Input struct {
	State   State     `json:"state"`
	Pending []Message `json:"pending,omitempty"` // reached the last run, or came with the start; not yet looked at
	Once    bool      `json:"once,omitempty"`    // complete as soon as nothing is left to do, as a schedule's run does
}

// State is all that an intake remembers across continue-as-new.
type State struct {
	Started      time.Time                          `json:"started,omitzero"` // of the first run
	Levels       Levels                             `json:"levels"`
	StillActive  map[string]preemptapi.Demand       `json:"standing,omitempty"` // scope → what to repeat while the alarm is active
	Active       map[string]ActiveRound             `json:"active,omitempty"`   // scope → the round under way
	Deferred     []preemptapi.Deferral              `json:"deferred,omitempty"`
	Last         *preemptapi.RoundResult            `json:"last,omitempty"`
	LastAt       time.Time                          `json:"lastAt,omitzero"` // end of the last round that preempted something
	LastVMs      []vsphere.Ref                      `json:"lastVMs,omitempty"`
	LastDemand   *preemptapi.Demand                 `json:"lastDemand,omitempty"` // of the last round that ran, or else the last request
	LastDecision *preemptapi.Decision               `json:"lastDecision,omitempty"`
	Rejections   []preemptapi.Rejection             `json:"rejections,omitempty"`
	Requests     int                                `json:"requests"`
	Fruitless    map[string]int                     `json:"fruitless,omitempty"` // scope → repetitions in a row that preempted nothing
	Cooling      map[string]Cooling                 `json:"cooling,omitempty"`   // scope → what the ledger last said of its cooldown
	Restores     map[string]preemptapi.RestoreInput `json:"restores,omitempty"`  // scope → what to restore when the pressure has ended
	Told         []string                           `json:"told,omitempty"`      // the scopes in which the ledger knows the alarm to be active
	Timing       preempt.Timing                     `json:"timing"`
	Attrs        bool                               `json:"attrs,omitempty"`
}

// ActiveRound is a round under way.
type ActiveRound struct {
	RoundID   string    `json:"roundID"`
	Rank      int       `json:"rank"`
	Since     time.Time `json:"since"`
	Sequence  int       `json:"sequence"`
	Withdrawn bool      `json:"withdrawn,omitempty"` // it was told to end, and has not ended yet
}

// Cooling is a cooldown the ledger told of: what it holds back needs no further question.
type Cooling struct {
	Until  time.Time `json:"until"`
	Rank   int       `json:"rank"` // criticalities up to this rank are held back
	Reason string    `json:"reason"`
}

func (s *State) init() {
	if s.StillActive == nil {
		s.StillActive = map[string]preemptapi.Demand{}
	}
	if s.Active == nil {
		s.Active = map[string]ActiveRound{}
	}
	if s.Cooling == nil {
		s.Cooling = map[string]Cooling{}
	}
	if s.Fruitless == nil {
		s.Fruitless = map[string]int{}
	}
}

// deferral returns the scope's deferral, or nil.
func (s *State) deferral(scope string) *preemptapi.Deferral {
	for i := range s.Deferred {
		if s.Deferred[i].Scope == scope {
			return &s.Deferred[i]
		}
	}
	return nil
}

func (s *State) dropDeferral(scope string) {
	s.Deferred = slices.DeleteFunc(s.Deferred, func(d preemptapi.Deferral) bool { return d.Scope == scope })
}

// postpone sets the scope's one deferral.
func (s *State) postpone(d preemptapi.Deferral) {
	s.dropDeferral(d.Scope)
	s.Deferred = append(s.Deferred, d)
}

func (s *State) reject(now time.Time, reason string) {
	s.Rejections = append(s.Rejections, preemptapi.Rejection{Time: now.UTC(), Reason: shown.Clip(reason, 500)})
	s.Rejections = s.Rejections[max(0, len(s.Rejections)-maxRejections):]
}

// scopeOf returns the scope whose active round has the id.
func (s *State) scopeOf(round string) (scope string, ok bool) {
	for _, scope := range scopes(s.Active) {
		if s.Active[scope].RoundID == round {
			return scope, true
		}
	}
	return "", false
}

// finished takes over a round's result.
func (s *State) finished(r preemptapi.RoundResult) {
	last := r
	s.Last = &last
	if vms := r.Preempted(); len(vms) > 0 {
		s.LastAt, s.LastVMs = r.EndedAt, vms
	}
}

// idle reports whether nothing is under way, waits or is active.
func (s *State) idle() bool {
	return len(s.Active) == 0 && len(s.Deferred) == 0 && len(s.Levels.Active()) == 0
}

// wakeAt returns when the intake next has something to do by itself; ok is false for never.
func (s *State) wakeAt(now time.Time) (at time.Time, ok bool) {
	consider := func(t time.Time) {
		if !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	for _, d := range s.Deferred {
		consider(d.Until)
	}
	if end, gray := s.Levels.GrayEnd(s.grayTimeout()); gray {
		consider(end)
	}
	if len(s.Active) > 0 {
		consider(now.Add(s.Timing.Sweep))
	}
	if s.idle() {
		consider(now.Add(s.Timing.IntakeIdle))
	}
	return at, ok
}

// grayTimeout is the shortest of the policies of active alarms, or the default.
func (s *State) grayTimeout() time.Duration {
	shortest := time.Duration(-1)
	for _, scope := range scopes(s.StillActive) {
		if d := s.StillActive[scope].Policy.GrayTimeout.D(); shortest < 0 || d < shortest {
			shortest = d
		}
	}
	if shortest < 0 {
		return policy.Default().GrayTimeout.D()
	}
	return shortest
}

// emptyEvent stands for "no event yet" as the original put it: clients decode it as a CloudEvent.
var emptyEvent = json.RawMessage(`{"specversion":"1.0","id":"","source":"","type":""}`)

// response is the documented answer, and more.
func (s *State) response(workflowID, runID string) preemptapi.Response {
	res := preemptapi.Response{
		WorkflowID: workflowID, RunID: runID, WorkflowName: preemption.WorkflowName,
		LastPreemption: s.LastAt, VirtualMachines: s.LastVMs, Event: emptyEvent, State: "idle",
		Round: s.Last, Levels: s.Levels.Active(), Deferred: s.Deferred, LastDecision: s.LastDecision,
		Rejections: s.Rejections, Requests: s.Requests,
	}
	if res.VirtualMachines == nil {
		res.VirtualMachines = []vsphere.Ref{}
	}
	if d := s.LastDemand; d != nil {
		res.Tag, res.Criticality, res.ReplyTo = d.Tag, d.Criticality, shown.Redact(d.ReplyTo)
		if len(d.Event) > 0 {
			res.Event = d.Event
		}
	}
	if s.Last != nil {
		res.RoundID = s.Last.RoundID
		if s.Last.State == preemptapi.RoundFailed {
			res.State, res.Failure = preemptapi.RoundFailed, s.Last.Reason
		}
	}
	if len(s.Deferred) > 0 {
		res.State = "deferred"
	}
	for _, scope := range scopes(s.Active) {
		res.State, res.RoundID, res.Failure = "running", s.Active[scope].RoundID, ""
	}
	return res
}

// scopes returns a map's keys in order.
func scopes[V any](m map[string]V) []string { return workflow.DeterministicKeys(m) }
