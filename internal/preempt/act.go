package preempt

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// ActTarget is one VM to act on.
type ActTarget struct {
	policy.Target
	SentAt time.Time `json:"sentAt,omitzero"` // when this round sent it a guest shutdown; zero: never
}

// ActInput asks for the targets to be turned off.
type ActInput struct {
	RoundID    string        `json:"roundID"`
	Tag        string        `json:"tag"`
	Scope      policy.Ref    `json:"scope,omitzero"`
	Action     string        `json:"action"`               // policy.ActionPowerOff or ActionShutdownGuest
	ForceTools bool          `json:"forceTools,omitempty"` // power off where a guest shutdown is futile for want of tools
	Targets    []ActTarget   `json:"targets"`
	Attribute  Attribute     `json:"attribute"`
	Policy     policy.Policy `json:"policy"`
	PlannedAt  time.Time     `json:"plannedAt,omitzero"` // zero: the plan may be of any age
	// Settle sends nothing: it only tells what became of the targets, when an earlier call was cancelled
	// before it could say so. StillOn is the reason given for those that are on.
	Settle  bool   `json:"settle,omitempty"`
	StillOn string `json:"stillOn,omitempty"`
}

// ActResult is what became of the targets. Every target of the input is in exactly one of the three.
type ActResult struct {
	Outcomes []VMOutcome `json:"outcomes"`          // decided
	Pending  []ActTarget `json:"pending,omitempty"` // asked to shut down; the guest has the word
	Replan   []ActTarget `json:"replan,omitempty"`  // untouched: vCenter was away so long that the plan is stale
}

// EvictVMs checks the targets again, acts, waits until vCenter says that they are off, and annotates each
// as soon as that is so. Guest shutdowns are only sent: AwaitVMs waits for them.
//
// From the first destructive call on it works on a context of its own: a cancellation spares what was not
// yet sent, and a stopping worker or lost heartbeats interrupt nothing. It may be repeated after a crash
// at any instant: a VM found off then is claimed only with evidence in vCenter's events.
func (a *Activities) EvictVMs(ctx context.Context, in ActInput) (ActResult, error) {
	stop := a.beat(ctx)
	defer stop()
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.Settings.Timing.Outage)
	defer cancel()
	e := &eviction{Activities: a, in: in, ctx: own, asked: ctx, repeated: in.Settle || activity.GetInfo(ctx).Attempt > 1}
	e.failures = map[policy.Ref]int{}
	return e.run()
}

// eviction is one run of EvictVMs.
type eviction struct {
	*Activities
	in       ActInput
	ctx      context.Context // our own: not cut by cancel, worker stop or lost heartbeats
	asked    context.Context // the activity's: tells whether we are cancelled
	repeated bool
	touched  bool // a destructive call was sent in this run

	mu        sync.Mutex
	result    ActResult
	failures  map[policy.Ref]int
	annotates sync.WaitGroup
}

func (e *eviction) run() (ActResult, error) {
	todo := e.in.Targets
	pause := e.Settings.Timing.Retry
	for len(todo) > 0 {
		left, err := e.pass(todo)
		if err != nil && !vcenter.KindOf(err).Outage() {
			e.giveUp(left, err)
			break
		}
		if err != nil && !e.touched {
			// Nothing was sent yet: let Temporal wait the outage out, on whichever worker.
			e.annotates.Wait()
			return ActResult{}, typed(err)
		}
		if todo = left; len(todo) == 0 {
			break
		}
		if !sleep(e.ctx, pause) {
			e.giveUp(todo, err)
			break
		}
		pause = min(2*pause, time.Minute)
	}
	e.annotates.Wait()
	return e.result, nil
}

// pass checks all that is left, acts on it and waits; it returns what is still undecided.
func (e *eviction) pass(todo []ActTarget) ([]ActTarget, error) {
	if !e.touched && e.asked.Err() != nil && !cancelled(e.asked) {
		return todo, &vcenter.Error{Op: "hand over", Object: e.in.RoundID, Kind: vcenter.Unavailable, Err: context.Cause(e.asked)}
	}
	ready, err := e.check(todo)
	if err != nil {
		return todo, err
	}
	switch {
	case e.in.Settle:
		e.settle(ready, OutcomeSpared, e.in.StillOn)
		return nil, nil
	case cancelled(e.asked):
		e.settle(ready, OutcomeSpared, ReasonWithdrawn)
		return nil, nil
	case e.stale():
		e.result.Replan = append(e.result.Replan, ready...)
		return nil, nil
	}
	if e.in.Action == policy.ActionShutdownGuest {
		return e.shutDown(ready)
	}
	return e.powerOff(ready, "")
}

// stale tells whether the plan is too old to be acted on.
func (e *eviction) stale() bool {
	return !e.in.PlannedAt.IsZero() && time.Since(e.in.PlannedAt) > e.Settings.Timing.StalePlan
}

// check reads tags and state of all targets afresh, settles those that need no action (any more), and
// returns the others.
func (e *eviction) check(todo []ActTarget) (ready []ActTarget, err error) {
	var now map[policy.Ref]policy.VM
	err = e.attempt(e.ctx, func() (err error) {
		now, err = e.VCenter.Recheck(e.ctx, e.in.Tag, refs(todo))
		return err
	})
	if err != nil {
		return nil, err
	}
	var off []ActTarget
	for _, t := range todo {
		vm, ok := now[t.Ref]
		switch reason := policy.Recheck(vm, e.in.Scope); {
		case !ok:
			e.settle([]ActTarget{t}, OutcomeSpared, string(policy.Gone))
		case vm.PowerState != policy.PoweredOn:
			off = append(off, t)
		case reason == policy.PendingOperation && (e.repeated || e.touched):
			ready = append(ready, t) // most likely our own power-off, under way since before the crash
		case reason != "":
			e.settle([]ActTarget{t}, OutcomeSpared, string(reason))
		default:
			t.ToolsRunning = vm.ToolsRunning
			ready = append(ready, t)
		}
	}
	return ready, e.attributeOff(off)
}

// attributeOff settles targets that were found off. On a first attempt they were turned off by somebody
// else; after a crash, or where we sent a shutdown, vCenter's events tell.
func (e *eviction) attributeOff(off []ActTarget) error {
	var unsure []ActTarget
	for _, t := range off {
		if !e.repeated && !e.touched && t.SentAt.IsZero() {
			e.settle([]ActTarget{t}, OutcomeAlreadyOff, "")
			continue
		}
		unsure = append(unsure, t)
	}
	if len(unsure) == 0 {
		return nil
	}
	found, err := e.VCenter.PowerOffEvidence(e.ctx, refs(unsure), e.since())
	if err != nil {
		return err
	}
	for _, t := range unsure {
		ev, ok := found[t.Ref]
		switch {
		case ok && ev.Ours:
			e.claim(t, ev.User != "", ev.Time)
		case ok:
			e.settle([]ActTarget{t}, OutcomeAlreadyOff, "turned off by "+clip(ev.User))
		default:
			e.settle([]ActTarget{t}, OutcomeUnattributed, "")
		}
	}
	return nil
}

// since is when evidence begins: at the round's start, with room for clocks that differ. The latest
// power-off event of a VM counts, and the VM was on when it was planned.
func (e *eviction) since() time.Time {
	return activity.GetInfo(e.asked).ScheduledTime.Add(-2 * time.Hour)
}

// claim records a VM that is ours and off, and annotates it.
func (e *eviction) claim(t ActTarget, cut bool, at time.Time) {
	o := outcome(t, OutcomeShutDown)
	o.OffAt, o.Forced = at.UTC(), cut
	if cut {
		o.Outcome = OutcomePoweredOff
		if !t.SentAt.IsZero() {
			o.Outcome = OutcomeForced
		}
	}
	e.annotates.Go(func() { e.decide(e.annotate(e.ctx, o, e.in.Attribute)) })
}

// powerOff cuts the power of all, five calls at a time, waits for them together, and annotates each when
// it is off.
func (e *eviction) powerOff(ready []ActTarget, reason string) (left []ActTarget, err error) {
	waits, left, err := e.send(ready, func(t ActTarget) (policy.Ref, error) { return e.VCenter.PowerOff(e.ctx, t.Ref) })
	if len(waits) == 0 {
		return left, err
	}
	byRef := map[policy.Ref]ActTarget{}
	for _, t := range ready {
		byRef[t.Ref] = t
	}
	ctx, cancel := context.WithTimeout(e.ctx, e.in.Policy.PowerOffTimeout.D())
	defer cancel()
	open := map[policy.Ref]bool{}
	for _, w := range waits {
		open[w.VM] = true
	}
	waitErr := e.VCenter.AwaitOff(ctx, waits, func(ref policy.Ref, r vcenter.WaitResult) {
		delete(open, ref)
		if again := e.offOrAgain(byRef[ref], r, reason); again {
			left = append(left, byRef[ref])
		}
	})
	for _, t := range ready {
		if open[t.Ref] {
			o := outcome(t, OutcomeFailed)
			o.Reason = "vCenter did not say within " + e.in.Policy.PowerOffTimeout.String() + " that it is off: look at its power-off task"
			if waitErr != nil && !errors.Is(waitErr, context.DeadlineExceeded) {
				o.Reason += ": " + waitErr.Error()
			}
			e.decide(o)
		}
	}
	return left, err
}

// offOrAgain takes the end of one wait: off, gone, or failed for this time.
func (e *eviction) offOrAgain(t ActTarget, r vcenter.WaitResult, reason string) (again bool) {
	switch {
	case r.Gone:
		e.settle([]ActTarget{t}, OutcomeSpared, string(policy.Gone))
	case r.Off:
		o := outcome(t, OutcomePoweredOff)
		if !t.SentAt.IsZero() || reason != "" {
			o.Outcome = OutcomeForced
		}
		o.Reason, o.Forced, o.OffAt = reason, true, time.Now().UTC()
		e.annotates.Go(func() { e.decide(e.annotate(e.ctx, o, e.in.Attribute)) })
	default:
		return e.failed(t, r.Err)
	}
	return false
}

// failed counts a failure of one VM; it returns true while another attempt is due.
func (e *eviction) failed(t ActTarget, err error) (again bool) {
	kind := vcenter.KindOf(err)
	if kind.Outage() {
		return true
	}
	e.mu.Lock()
	e.failures[t.Ref]++
	n := e.failures[t.Ref]
	e.mu.Unlock()
	if kind.Retryable() && n < tries || kind == vcenter.InvalidState && n == 1 {
		return true
	}
	o := outcome(t, OutcomeFailed)
	o.Reason = err.Error()
	if kind == vcenter.NotFound {
		o.Outcome, o.Reason = OutcomeSpared, string(policy.Gone)
	}
	e.decide(o)
	return false
}

// send calls f for every target at once, within the gateway's limit, until the round is withdrawn. It
// returns what to wait for and what to try again.
func (e *eviction) send(ready []ActTarget, f func(ActTarget) (policy.Ref, error)) (waits []vcenter.Wait, left []ActTarget, outage error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	gate := make(chan struct{}, sendAtOnce)
	for _, t := range ready {
		gate <- struct{}{}
		if cancelled(e.asked) {
			<-gate
			e.settle([]ActTarget{t}, OutcomeSpared, ReasonWithdrawn)
			continue
		}
		e.touched = true
		wg.Go(func() {
			defer func() { <-gate }()
			task, err := f(t)
			kind := vcenter.KindOf(err)
			// A VM that is busy after a crash is most likely in our own power-off of before.
			wait := err == nil || kind == vcenter.Busy && e.repeated
			again := !wait && e.failed(t, err)
			mu.Lock()
			defer mu.Unlock()
			if wait {
				waits = append(waits, vcenter.Wait{VM: t.Ref, Task: task})
			}
			if again {
				left = append(left, t)
			}
			if kind.Outage() {
				outage = err
			}
		})
	}
	wg.Wait()
	return waits, left, outage
}

// sendAtOnce bounds the calls that one round has under way, so that a withdrawal finds targets that were
// not yet sent. The worker's own limit on vCenter calls holds besides.
const sendAtOnce = 5

// shutDown asks the guests to shut down. Where no tools run that is futile: such a VM is powered off if
// the policy forces, and spared if not.
func (e *eviction) shutDown(ready []ActTarget) (left []ActTarget, err error) {
	var able, unable []ActTarget
	for _, t := range ready {
		if t.ToolsRunning {
			able = append(able, t)
		} else {
			unable = append(unable, t)
		}
	}
	sent, left, err := e.send(able, func(t ActTarget) (policy.Ref, error) {
		return policy.Ref{}, e.VCenter.ShutdownGuest(e.ctx, t.Ref)
	})
	now := time.Now().UTC()
	for _, w := range sent {
		for _, t := range able {
			if t.Ref == w.VM {
				t.SentAt = now
				e.result.Pending = append(e.result.Pending, t)
			}
		}
	}
	if !e.in.ForceTools {
		e.settle(unable, OutcomeSpared, ReasonNoTools)
		return left, err
	}
	again, powerErr := e.powerOff(unable, ReasonForcedNoTools)
	return append(left, again...), errors.Join(err, powerErr)
}

func (e *eviction) giveUp(todo []ActTarget, err error) {
	for _, t := range todo {
		o := outcome(t, OutcomeFailed)
		o.Reason = "vCenter stayed away"
		if err != nil {
			o.Reason = err.Error()
		}
		e.decide(o)
	}
}

func (e *eviction) settle(targets []ActTarget, what, reason string) {
	for _, t := range targets {
		o := outcome(t, what)
		o.Reason = reason
		e.decide(o)
	}
}

func (e *eviction) decide(o VMOutcome) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.result.Outcomes = append(e.result.Outcomes, o)
	e.logger(e.asked).Info("decided", "vm", o.Name, "moref", o.Ref.Value, "outcome", o.Outcome, "reason", o.Reason,
		"annotated", o.Annotated)
}

// annotate writes the attribute of a VM that is off. Its failure is part of the outcome.
func (a *Activities) annotate(ctx context.Context, o VMOutcome, attr Attribute) VMOutcome {
	attr.Preempted, attr.ForcedShutdown, attr.Outcome, attr.PreemptedAt = true, o.Forced, o.Outcome, o.OffAt
	value, err := json.Marshal(attr)
	if err == nil {
		err = a.attemptThrough(ctx, func() error { return a.VCenter.Annotate(ctx, o.Ref, preemption.AttributeKey, string(value)) })
	}
	if err != nil {
		o.AnnotationError = err.Error()
		return o
	}
	o.Annotated = true
	return o
}

// attemptThrough is attempt for work that is already ours to finish: an outage is waited out here.
func (a *Activities) attemptThrough(ctx context.Context, f func() error) error {
	pause := a.Settings.Timing.Retry
	for {
		err := a.attempt(ctx, f)
		if err == nil || !vcenter.KindOf(err).Outage() || !sleep(ctx, pause) {
			return err
		}
		pause = min(2*pause, 10*time.Second)
	}
}

func outcome(t ActTarget, what string) VMOutcome {
	return VMOutcome{Ref: t.Ref, Name: t.Name, Outcome: what, CPUMHz: t.CPUMHz, MemoryMB: t.MemoryMB}
}

func refs(targets []ActTarget) []policy.Ref {
	out := make([]policy.Ref, 0, len(targets))
	for _, t := range targets {
		out = append(out, t.Ref)
	}
	return out
}

// handOver is the error of a step that has nothing at stake when its worker stops: another takes over.
func handOver(ctx context.Context) error {
	return temporal.NewApplicationErrorWithOptions("the worker stops: "+context.Cause(ctx).Error(), "HandOver",
		temporal.ApplicationErrorOptions{NextRetryDelay: 100 * time.Millisecond})
}
