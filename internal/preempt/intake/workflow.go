package intake

import (
	"encoding/json"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/delivery"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tally"
)

// Intake takes requests and alarm changes, decides when a round runs, and answers how things stand. It
// never holds work itself: rounds are workflows of their own. A cancellation withdraws what is under way
// and completes the intake with its response, unless requests came after it.
func Intake(ctx workflow.Context, in Input) (preemptapi.Response, error) {
	it := newIntake(ctx, in)
	if err := it.handlers(ctx); err != nil {
		return preemptapi.Response{}, err
	}
	if it.refused = it.reservedID(); it.refused != "" {
		return it.refuseAll()
	}
	for {
		it.drain()
		if it.tellRejected() {
			continue
		}
		switch {
		case it.cancelled():
			return it.cancel(ctx)
		case it.expired():
			return it.expire(ctx)
		case it.rollDue():
			return preemptapi.Response{}, it.roll(ctx)
		case len(it.inbox) > 0:
			it.process()
			continue
		}
		it.startDue()
		it.tellActiveScopes()
		if it.once && it.state.Requests > 0 && it.nothingToDo() {
			return it.complete()
		}
		woken := it.wait()
		if !woken && !it.tellFailed && it.nothingToDo() {
			return it.complete()
		}
	}
}

// nothingToDo reports whether nothing is going on, and nothing has arrived.
func (it *intake) nothingToDo() bool { return it.state.idle() && it.nothingNew() }

type intake struct {
	ctx        workflow.Context // never cancelled: a cancellation is handled, not suffered
	cancelled  func() bool
	info       *workflow.Info
	state      State
	once       bool
	inbox      []item
	lastShown  string
	refused    string   // why an intake under its id takes nothing; "": it does
	left       []string // what it leaves to its successor
	tellFailed bool     // the ledger could not be told where the alarm is active

	out    delivery.Outbox // what people are told
	untold string          // the last rejection of which people are not told yet; "": none
	toldAt time.Time       // when they were told of one

	decodedBytes int  // bytes decoded in this workflow task
	endsLarge    bool // the run ends a task in which enough was decoded
	occasions    int  // on which that was asked

	requests, alarms, rounds workflow.ReceiveChannel
}

func newIntake(ctx workflow.Context, in Input) *intake {
	own, _ := workflow.NewDisconnectedContext(ctx)
	it := &intake{
		ctx: tally.With(own), cancelled: func() bool { return ctx.Err() != nil }, info: workflow.GetInfo(ctx), state: in.State, once: in.Once,
		requests: workflow.GetSignalChannel(ctx, preemption.SignalChannel),
		alarms:   workflow.GetSignalChannel(ctx, preemption.AlarmSignal),
		rounds:   workflow.GetSignalChannel(ctx, round.DoneSignal),
	}
	it.state.init()
	if it.state.Started.IsZero() {
		it.state.Started = it.info.WorkflowStartTime.UTC()
	}
	if it.state.Timing == (preempt.Timing{}) {
		it.state.Timing = preempt.DefaultTiming() // until the first decision brings the worker's own
	}
	for _, m := range in.Pending {
		it.inbox = append(it.inbox, item{Message: m})
	}
	return it
}

func (it *intake) now() time.Time { return workflow.Now(it.ctx) }

func (it *intake) response() preemptapi.Response {
	res := it.state.response(it.info.WorkflowExecution.ID, it.info.WorkflowExecution.RunID)
	res.Left = it.left
	return res
}

func (it *intake) handlers(ctx workflow.Context) error {
	err := workflow.SetQueryHandler(ctx, preemption.WorkFlowQueryType, func() (string, error) {
		// A query's answer is no part of the history: it may be encoded in any way.
		b, err := json.Marshal(it.response()) //workflowcheck:ignore
		return string(b), err
	})
	if err != nil {
		return err
	}
	return workflow.SetUpdateHandlerWithOptions(ctx, preemption.RequestUpdate, it.request, workflow.UpdateHandlerOptions{
		Validator: func(raw json.RawMessage) error {
			if len(raw) > preemption.MaxRequestBytes {
				return fmt.Errorf("the request is %d bytes long: at most %d are taken", len(raw), preemption.MaxRequestBytes)
			}
			return nil
		},
	})
}

// request is the update for callers who wait for the decision.
func (it *intake) request(ctx workflow.Context, raw json.RawMessage) (preemptapi.Decision, error) {
	var decided preemptapi.Decision
	var done bool
	it.inbox = append(it.inbox, item{Message: Message{JSON: raw}, decided: &decided, done: &done})
	err := workflow.Await(ctx, func() bool { return done })
	return decided, err
}

// local are the options of local activities: short look-ups, tried until each is over.
func (it *intake) local(all time.Duration) workflow.Context {
	return workflow.WithLocalActivityOptions(it.ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout: 10 * time.Second, ScheduleToCloseTimeout: all,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 5 * time.Second},
	})
}

// wait sleeps until something arrives (true) or the time has come for something (false).
func (it *intake) wait() (woken bool) {
	arrived := func() bool { return !it.nothingNew() || it.rollDue() }
	now := it.now()
	at, ok := it.wakeAt(now)
	if it.nothingNew() {
		it.decodedBytes = 0 // the task ends here
	}
	if !ok {
		return workflow.Await(it.ctx, arrived) == nil
	}
	woken, err := workflow.AwaitWithTimeout(it.ctx, max(at.Sub(now), time.Millisecond), arrived)
	if err == nil && !woken {
		it.checkRounds()
	}
	return woken
}

// wakeAt returns when the intake next has something to do by itself; ok is false for never.
func (it *intake) wakeAt(now time.Time) (at time.Time, ok bool) {
	at, ok = it.state.wakeAt(now)
	if limit := it.info.WorkflowExecutionTimeout; ok && limit > 0 && it.state.idle() {
		// A client's execution timeout must find the intake completed, not running.
		if end := it.state.Started.Add(limit / 2); end.Before(at) {
			at = end
		}
	}
	if end := it.deadline(); !end.IsZero() && !it.state.idle() && it.hasVersion(versionExpire) && (!ok || end.Before(at)) {
		at, ok = end, true
	}
	if again := now.Add(tellAgain); it.tellFailed && (!ok || again.Before(at)) {
		at, ok = again, true
	}
	return at, ok
}

func (it *intake) nothingNew() bool {
	return len(it.inbox)+it.requests.Len()+it.alarms.Len()+it.rounds.Len() == 0 && !it.cancelled()
}

// rollDue reports whether the history has grown so long that a new run should begin.
func (it *intake) rollDue() bool { return it.info.GetContinueAsNewSuggested() }

// roll continues as new with everything that is remembered and whatever has arrived meanwhile.
func (it *intake) roll(ctx workflow.Context) error {
	if err := workflow.Await(it.ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
		return err
	}
	it.drain()
	for it.inboxBytes() > maxBatchBytes {
		it.process() // too much to carry: look at some of it first
		it.drain()
	}
	in := Input{Once: it.once}
	for _, i := range it.inbox {
		if i.done != nil {
			*i.decided, *i.done = preemptapi.Decision{Verdict: preemptapi.Failed, Reason: "the intake is starting a new run: ask again", Again: true}, true
			continue
		}
		in.Pending = append(in.Pending, i.Message)
	}
	in.State = it.state
	in.State.trimEvents()
	if err := workflow.Await(it.ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
		return err
	}
	return workflow.NewContinueAsNewError(ctx, preemption.WorkflowName, in)
}

func (it *intake) inboxBytes() (n int) {
	for _, i := range it.inbox {
		n += len(i.JSON)
	}
	return n
}

// complete ends an intake that has nothing to do.
func (it *intake) complete() (preemptapi.Response, error) {
	it.tellActiveScopes()
	if err := workflow.Await(it.ctx, func() bool { return workflow.AllHandlersFinished(it.ctx) }); err != nil {
		return preemptapi.Response{}, err
	}
	res := it.response()
	if res.State == preemptapi.IntakeIdle {
		res.State = preemptapi.IntakeCompleted
	}
	alarmName, scope := it.lastNamed()
	if alarmName+scope != "" && !it.hasVersion(versionNamed) {
		alarmName, scope = "", ""
	}
	preempt.Upsert(it.ctx, it.state.Attrs, alarmName, scope, string(res.State))
	return res, nil
}

// show records the state for the list of workflows and the details page, when it changed.
func (it *intake) show() {
	res := it.response()
	alarmName, scope := it.lastNamed()
	text := fmt.Sprintf("**%s** · tag `%s` · %s · alarm `%s` · scope `%s`", res.State, res.Tag, res.Criticality, alarmName, scope)
	if res.RoundID != "" {
		text += "\n\nround `" + res.RoundID + "`"
	}
	if res.Failure != "" {
		text += "\n\n" + res.Failure
	}
	if text == it.lastShown {
		return
	}
	it.lastShown = text
	workflow.SetCurrentDetails(it.ctx, shown.Clip(text, 4000))
	preempt.Upsert(it.ctx, it.state.Attrs, alarmName, scope, string(res.State))
}

// lastNamed are the alarm and the scope of the last request; empty: it has none.
func (it *intake) lastNamed() (alarmName, scope string) {
	if d := it.state.LastDemand; d != nil {
		return d.Alarm(), d.Scope.String()
	}
	return "", ""
}
