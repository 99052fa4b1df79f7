package round

import (
	"context"
	"sync"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// ActTarget is one VM to act on.
type ActTarget struct {
	policy.Target
	SentAt time.Time `json:"sentAt,omitzero"` // when this round sent it a guest shutdown; zero: never
	// Unasked says that vCenter refused it then as its tools were starting: it is to be sent again. Its time runs all the
	// same.
	Unasked bool `json:"unasked,omitempty"`

	// Throttle is what our record on it says of its CPU limit, which its new record keeps.
	Throttle *policy.Throttled `json:"throttle,omitempty"`

	starting bool // its tools are
}

// ActInput asks for the targets to be turned off.
type ActInput struct {
	RoundID    string            `json:"roundID"`
	Alarm      string            `json:"alarm,omitempty"` // name, for the log
	Tag        string            `json:"tag"`
	Scope      vsphere.Ref       `json:"scope,omitzero"`
	Action     action.Action     `json:"action"`
	ForceTools bool              `json:"forceTools,omitempty"` // power off where a guest shutdown is futile for want of tools
	Targets    []ActTarget       `json:"targets"`
	Attribute  preempt.Attribute `json:"attribute"`
	Policy     policy.Policy     `json:"policy"`
	PlannedAt  time.Time         `json:"plannedAt,omitzero"` // zero: the plan may be of any age
	// Detail checks tags of owners, protection, windows and budgets again too: where time has passed since the
	// plan, or others may have used up a budget.
	Detail bool  `json:"detail,omitempty"`
	Pools  []int `json:"pools,omitempty"` // of the plan
	// Climb says that the targets were acted on by an earlier step of this round, which budgets have counted.
	Climb bool `json:"climb,omitempty"`
	// UnderWay are VMs that this round has asked to shut down before, or has in hand in parts that began before, as
	// Type:Value: budgets count them as evicted.
	UnderWay []string `json:"underWay,omitempty"`
	// OnlyLook sends nothing: it only tells what became of the targets, when an earlier call was cancelled
	// before it could say so. StillOn is the reason given for those that are on.
	OnlyLook bool               `json:"settle,omitempty"`
	StillOn  policy.Explanation `json:"stillOn,omitzero"`
	// Late says that the targets are no longer reserved, and that this round only ever asked their guests: what
	// others have done since is theirs.
	Late bool `json:"late,omitempty"`
	// Asked is when the round began, for the figures.
	Asked time.Time `json:"asked,omitzero"`
}

// ActResult is what became of the targets. Every target of the input is in exactly one of the three.
type ActResult struct {
	Outcomes []preemptapi.VMOutcome `json:"outcomes"`          // decided
	Pending  []ActTarget            `json:"pending,omitempty"` // asked to shut down; the guest has the word
	Replan   []ActTarget            `json:"replan,omitempty"`  // untouched: vCenter was away so long that the plan is stale
}

// EvictVMs checks the targets again, acts, waits until vCenter says that they are off, and annotates each
// as soon as that is so. Guest shutdowns are only sent: AwaitVMs waits for them.
//
// From the first destructive call on it works on a context of its own: a cancellation spares what was not
// yet sent, and a stopping worker or lost heartbeats interrupt nothing. It may be repeated after a crash
// at any instant: a VM found off then is claimed only with evidence in vCenter's events.
func (a *Activities) EvictVMs(ctx context.Context, in ActInput) (ActResult, error) {
	run, end := a.Change(ctx, in.RoundID, in.OnlyLook)
	defer end()
	if in.Action == "" && in.OnlyLook { // earlier workflows settle without an action, and what they sent last was a power-off
		in.Action = action.PowerOff
	}
	e := &eviction{
		Changing: run, Activities: a, in: in, busy: map[vsphere.Ref]bool{}, toolless: map[vsphere.Ref]bool{},
		overdue: map[vsphere.Ref]string{}, onAgain: map[vsphere.Ref]bool{},
	}
	turn, leave := a.turns.join(in.RoundID)
	defer leave()
	e.turn = turn
	err := preempt.UntilDecided(run, in.Targets, e.pass, e.giveUp)
	e.annotates.Wait()
	if err != nil {
		return ActResult{}, err
	}
	return e.result, nil
}

// eviction is one run of EvictVMs.
type eviction struct {
	*preempt.Changing
	*Activities
	in      ActInput
	turn    *turn
	endTurn func() // when it has sent, or waits for events
	waited  bool   // for operations that were found under way when there was nothing more to send

	busy    map[vsphere.Ref]bool   // an operation is under way, most likely our own of before a crash
	onAgain map[vsphere.Ref]bool   // its power-off succeeded, and it was not seen off
	overdue map[vsphere.Ref]string // its power-off was sent, and vCenter did not say in time what became of it

	mu        sync.Mutex
	result    ActResult
	toolless  map[vsphere.Ref]bool // vCenter refused a guest shutdown for want of tools
	annotates sync.WaitGroup
}

// pass checks all that is left, acts on it and waits; it returns what is still undecided.
func (e *eviction) pass(todo []ActTarget) ([]ActTarget, error) {
	endTurn, err := e.turn.begin(e.Ctx)
	if err != nil {
		return todo, err
	}
	defer endTurn()
	e.endTurn = endTurn
	if e.in.Action.StaysOn() {
		return e.passThrottle(todo)
	}
	ready, err := e.check(todo)
	if err != nil {
		return todo, err
	}
	switch {
	case e.in.OnlyLook:
		return e.spare(ready, e.in.StillOn), nil
	case e.Cancelled():
		return e.spare(ready, policy.Because(policy.Withdrawn)), nil
	}
	ready = e.withoutStale(ready)
	if _, err := action.Of(e.in.Action); err != nil {
		return ready, err
	}
	if e.in.Action == action.ShutdownGuest {
		return e.shutDownGuests(ready)
	}
	return e.cut(ready, e.in.Action, policy.Explanation{})
}

// spare spares the VMs that are on. A VM with an operation under way is checked again when that has ended: most likely
// it is our own power-off, sent before a crash.
func (e *eviction) spare(ready []ActTarget, reason policy.Explanation) (left []ActTarget) {
	var waits []vcenter.Wait
	for _, t := range ready {
		if e.Lost[t.Ref] && e.in.Action == action.ShutdownGuest { // its guest may be shutting down
			t.SentAt = time.Now().UTC()
			e.result.Pending = append(e.result.Pending, t)
			continue
		}
		if e.busy[t.Ref] && !e.waited {
			left = append(left, t)
			waits = append(waits, vcenter.Wait{VM: t.Ref})
			continue
		}
		e.decideAll([]ActTarget{t}, action.Spared, reason)
	}
	if len(waits) > 0 {
		e.waited = true
		e.endTurn()
		ctx, cancel := context.WithTimeout(e.Ctx, e.in.Policy.PowerOffTimeout.D())
		defer cancel()
		// Its error says no more than what is seen next: who is off then, and who is not.
		_ = e.VCenter.AwaitOff(ctx, waits, func(vsphere.Ref, vcenter.WaitResult) {})
	}
	return left
}

// withoutStale returns the targets of a plan that is young enough. Of an older one it returns those that were
// acted on already, and leaves the others to a new plan.
func (e *eviction) withoutStale(ready []ActTarget) (fresh []ActTarget) {
	if e.in.PlannedAt.IsZero() || time.Since(e.in.PlannedAt) <= e.Settings.Timing.StalePlan {
		return ready
	}
	for _, t := range ready {
		if e.Failures[t.Ref] > 0 || e.busy[t.Ref] {
			fresh = append(fresh, t)
		} else {
			e.result.Replan = append(e.result.Replan, t)
		}
	}
	return fresh
}
