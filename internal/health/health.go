// Package health finds workflows of ours that make no progress, and proves that work gets done. It reads only what
// Temporal's server says and asks what any caller can ask, so that a worker, its /readyz and preemptctl say the
// same. Its findings rest on ages that the server keeps, not on what was seen before: one look by anybody
// finds what all others find. It changes nothing, but for one tiny workflow a minute.
package health

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/doctorapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
)

// Report is the result of one check.
type Report struct {
	At      time.Time `json:"at"`
	Stalled []Stall   `json:"stalled"`
	// Waiting are activities that wait for vCenter, or for a reply address. They are not stalled.
	Waiting []Stall `json:"waiting,omitempty"`
	Open    int     `json:"open"`   // workflows of ours that are open
	Looked  int     `json:"looked"` // number of them that were checked; if there are too many for one check, they take turns
	// Probe is how long the last probe took, from its start to its result; zero: this check made none.
	Probe time.Duration `json:"probe,omitempty"`
}

// Stall is one workflow that makes no progress.
type Stall struct {
	WorkflowID string    `json:"workflowID"`
	RunID      string    `json:"workflowRunID,omitempty"`
	Type       string    `json:"type"` // of the workflow that should work there
	Kind       Kind      `json:"kind"`
	Since      time.Time `json:"since,omitzero"`
	Attempts   int32     `json:"attempts,omitempty"`
	Cause      string    `json:"cause"`
	Remedy     string    `json:"remedy"`
}

// Kind is how a workflow is stalled.
type Kind string

// The kinds.
const (
	TaskFails    Kind = "task_fails"     // its workflow task fails again and again
	TaskHangs    Kind = "task_hangs"     // its workflow task has begun and does not end
	NotTaken     Kind = "not_taken"      // its workflow task waits, although workers poll
	StepFails    Kind = "activity_fails" // an activity of it fails again and again
	StepNotTaken Kind = "activity_not_taken"
	WrongType    Kind = "wrong_type"   // another workflow runs under its id
	Trouble      Kind = "trouble"      // the watch cannot read events, or cannot hand them over
	Missing      Kind = "missing"      // the watch does not run, although there are rules
	Silent       Kind = "silent"       // it does not answer
	ProbeFails   Kind = "probe_failed" // the probe has no result
	Ended        Kind = "ended"        // Temporal itself ended it a short time ago
)

// Repairable reports whether preemptctl workflow repair is the remedy.
func (k Kind) Repairable() bool {
	switch k {
	case TaskFails, TaskHangs, WrongType, StepFails:
		return true
	}
	return false
}

// Limits say when a workflow counts as stalled. A short load, or a worker that was killed, does not exceed them. A
// fault is found within two minutes.
type Limits struct {
	Attempts     int32         // of a workflow task, ...
	TaskAge      time.Duration // ... that was first due so long ago
	Hanging      time.Duration // a workflow task that lasts for so long, kept alive by local activities
	Taken        time.Duration // a task that no worker took for so long
	StepAttempts int32         // of an activity, ...
	StepAge      time.Duration // ... that was first due so long ago
	Troubled     time.Duration // of the watch
	Looks        int           // workflows that one check examines; the next check examines others
	Listed       int           // open workflows that are listed, at most
}

// DefaultLimits returns the limits for production.
func DefaultLimits() Limits {
	return Limits{
		Attempts: 3, TaskAge: 15 * time.Second, Hanging: 100 * time.Second, Taken: 45 * time.Second,
		StepAttempts: 5, StepAge: time.Minute, Troubled: 45 * time.Second, Looks: 500, Listed: 5000,
	}
}

// Types lists the workflow types that are checked.
func Types() []string {
	return []string{
		preemption.WorkflowName, preemptapi.RoundType, preemptapi.PlanType, preemptapi.NamesType, preemptapi.RestoreType, ledger.WorkflowType, watchapi.WorkflowType,
		placement.ResizeType, placement.ReconfigureType, placement.MoveType, remediateapi.ReconcileType, remediateapi.TagsType, doctorapi.Type,
		RepairType, ProbeType,
	}
}

// The types of health's own workflows.
const (
	ProbeType  = preemptapi.ProbeType // proves that a worker takes and ends tasks
	RepairType = "PreemptionRepair"   // frees a workflow that is stuck, see RepairInput
)

// Healthy reports whether nothing is stalled.
func (r Report) Healthy() bool { return len(r.Stalled) == 0 }

// Of returns what is stalled under an id.
func (r Report) Of(workflowID string) (s Stall, ok bool) {
	for _, s := range r.Stalled {
		if s.WorkflowID == workflowID {
			return s, true
		}
	}
	return s, false
}

// Words returns one line that says what is stalled, "" if nothing is. It names the first few.
func (r Report) Words() string {
	const named = 3
	if len(r.Stalled) == 0 {
		return ""
	}
	var parts []string
	for _, s := range r.Stalled[:min(len(r.Stalled), named)] {
		parts = append(parts, s.String()+"; "+s.Remedy)
	}
	text := fmt.Sprintf("%d workflow(s) make no progress: %s", len(r.Stalled), strings.Join(parts, " | "))
	if more := len(r.Stalled) - named; more > 0 {
		text += fmt.Sprintf(" | and %d more", more)
	}
	return text
}

// String names the workflow and its trouble.
func (s Stall) String() string {
	text := fmt.Sprintf("%s (%s) %s", s.WorkflowID, s.Type, s.Words())
	if !s.Since.IsZero() {
		text += " since " + s.Since.UTC().Format(time.RFC3339)
	}
	return text
}

// Words returns what is wrong with it.
func (s Stall) Words() string {
	what := map[Kind]string{
		TaskFails: "cannot go on", TaskHangs: "does not come to an end of its task", NotTaken: "is taken up by no worker",
		StepFails: "repeats an activity in vain", StepNotTaken: "waits for a worker to take an activity", WrongType: "is not what it should be",
		Trouble: "is in trouble", Missing: "does not run", Silent: "does not answer", ProbeFails: "has no result", Ended: "was ended",
	}[s.Kind]
	if s.Attempts > 1 {
		what += fmt.Sprintf(" (attempt %d)", s.Attempts)
	}
	return what + ": " + s.Cause
}

// sorted puts the most important first: the ledger, the watch, then those that are stalled longest.
func sorted(all []Stall) []Stall {
	rank := func(s Stall) int {
		return cmp.Or(slices.Index([]string{"", ledger.WorkflowType, watchapi.WorkflowType, ProbeType}, s.Type), 0)
	}
	slices.SortStableFunc(all, func(a, b Stall) int {
		ra, rb := rank(a), rank(b)
		if (ra < 0) != (rb < 0) {
			return cmp.Compare(rb, ra)
		}
		return cmp.Or(cmp.Compare(ra, rb), a.Since.Compare(b.Since), cmp.Compare(a.WorkflowID, b.WorkflowID))
	})
	return all
}

// remedyFor returns what to do about a workflow.
func remedyFor(k Kind, id string) string {
	switch k {
	case TaskFails, TaskHangs, WrongType, StepFails:
		return "free it: preemptctl workflow repair " + quoted(id)
	case NotTaken, StepNotTaken, ProbeFails, Silent:
		return "look at the load and the log of the workers, and restart them"
	case Missing:
		return "start it: preemptctl watch start"
	case Ended:
		return "what it had not dealt with is lost: read its history, look at its VMs, and ask again; told for 30 minutes, or until it is deleted: temporal workflow delete -w " + id
	}
	return "look: preemptctl watch status"
}

// quoted makes an id one word for a shell.
func quoted(id string) string {
	if id != "" && !strings.ContainsFunc(id, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@._-:/+,=%", r))
	}) {
		return id
	}
	return "'" + strings.ReplaceAll(id, "'", `'\''`) + "'"
}
