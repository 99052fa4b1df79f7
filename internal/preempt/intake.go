package preempt

import (
	"encoding/json"
	"fmt"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tally"
)

// Bounds of one look at what reached the intake.
const (
	maxBatch      = 100
	maxBatchBytes = 512 << 10
)

// Intake takes requests and alarm changes, decides when a round runs, and answers how things stand. It
// never holds work itself: rounds are workflows of their own. A cancellation withdraws what is under way
// and completes the intake with its response, unless requests came after it.
func Intake(ctx workflow.Context, in IntakeInput) (preemptapi.Response, error) {
	it := newIntake(ctx, in)
	if err := it.handlers(ctx); err != nil {
		return preemptapi.Response{}, err
	}
	if it.refused = it.reserved(); it.refused != "" {
		return it.refuse()
	}
	for {
		it.drain()
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
		it.due()
		it.tellStanding()
		if it.once && it.state.Requests > 0 && it.state.idle() && it.nothingNew() {
			return it.complete()
		}
		woken := it.wait()
		if !woken && !it.untold && it.state.idle() && it.nothingNew() {
			return it.complete()
		}
	}
}

// item is one message in the inbox, with who waits for its decision.
type item struct {
	Message
	decided *preemptapi.Decision // written when decided; nil: nobody waits
	done    *bool
}

// same tells whether the item is a signal with the same text as the message.
func (i item) same(m Message) bool {
	return i.done == nil && i.Alarm == m.Alarm && string(i.JSON) == string(m.JSON)
}

type intake struct {
	ctx       workflow.Context // never cancelled: a cancellation is handled, not suffered
	cancelled func() bool
	info      *workflow.Info
	state     IntakeState
	once      bool
	inbox     []item
	shown     string
	refused   string   // why an intake under its id takes nothing; "": it does
	left      []string // what it leaves to its successor
	untold    bool     // the ledger could not be told where the alarm is active

	spent     int  // bytes decoded in this workflow task
	paced     bool // the run ends a task in which enough was decoded
	occasions int  // on which that was asked

	requests, alarms, rounds workflow.ReceiveChannel
}

func newIntake(ctx workflow.Context, in IntakeInput) *intake {
	own, _ := workflow.NewDisconnectedContext(ctx)
	it := &intake{
		ctx: tally.With(own), cancelled: func() bool { return ctx.Err() != nil }, info: workflow.GetInfo(ctx), state: in.State, once: in.Once,
		requests: workflow.GetSignalChannel(ctx, preemption.SignalChannel),
		alarms:   workflow.GetSignalChannel(ctx, preemption.AlarmSignal),
		rounds:   workflow.GetSignalChannel(ctx, RoundDoneSignal),
	}
	it.state.init()
	if it.state.Started.IsZero() {
		it.state.Started = it.info.WorkflowStartTime.UTC()
	}
	if it.state.Timing == (Timing{}) {
		it.state.Timing = DefaultTiming() // until the first decision brings the worker's own
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

// request is the update for callers who want to be told what was decided.
func (it *intake) request(ctx workflow.Context, raw json.RawMessage) (preemptapi.Decision, error) {
	var decided preemptapi.Decision
	var done bool
	it.inbox = append(it.inbox, item{Message: Message{JSON: raw}, decided: &decided, done: &done})
	err := workflow.Await(ctx, func() bool { return done })
	return decided, err
}

// drain moves what the channels hold into the inbox, and takes the results of rounds.
func (it *intake) drain() {
	for {
		var raw converter.RawValue
		if !it.requests.ReceiveAsync(&raw) {
			break
		}
		it.accept(raw, false)
	}
	for {
		var raw converter.RawValue
		if !it.alarms.ReceiveAsync(&raw) {
			break
		}
		it.accept(raw, true)
	}
	for {
		var r preemptapi.RoundResult
		if !it.rounds.ReceiveAsync(&r) {
			break
		}
		it.roundDone(r)
	}
}

// accept puts one signal into the inbox. What is no JSON, or too large, is rejected here, whoever sent it
// and however it is encoded.
func (it *intake) accept(raw converter.RawValue, isAlarm bool) {
	m := Message{Alarm: isAlarm}
	switch n := len(raw.Payload().GetData()); {
	case n > preemption.MaxRequestBytes:
		it.reject(unreadable, fmt.Sprintf("a signal of %d bytes: at most %d are taken", n, preemption.MaxRequestBytes))
		return
	case n == 0:
		it.reject(unreadable, "a signal without payload")
		return
	}
	if encoding := string(raw.Payload().GetMetadata()[converter.MetadataEncoding]); encoding != converter.MetadataEncodingJSON {
		it.reject(unreadable, fmt.Sprintf("a signal in encoding %q: send %s", clip(encoding), converter.MetadataEncodingJSON))
		return
	}
	if err := converter.GetDefaultDataConverter().FromPayload(raw.Payload(), &m.JSON); err != nil {
		it.reject(unreadable, "a signal that is no JSON: "+err.Error())
		return
	}
	if isAlarm {
		many := bundled(raw.Payload())
		if len(many) > 0 && it.knows(versionBundle) {
			for _, one := range many {
				it.take(Message{Alarm: true, JSON: one})
			}
			return
		}
	}
	it.take(m)
}

// bundled returns the elements of a payload that is an array; what is none has none.
func bundled(p *commonpb.Payload) (many []json.RawMessage) {
	if err := converter.GetDefaultDataConverter().FromPayload(p, &many); err != nil {
		return nil
	}
	return many
}

// take puts one message into the inbox, where a repetition only counts.
func (it *intake) take(m Message) {
	if n := len(it.inbox); n > 0 && it.inbox[n-1].same(m) {
		it.inbox[n-1].Again++
		return
	}
	it.inbox = append(it.inbox, item{Message: m})
}

// The kinds of rejections, as the metric tells them.
const (
	unreadable     = "unreadable"      // no JSON, too large
	refused        = "refused"         // not what this worker takes
	anotherVCenter = "another_vcenter" // its event is of another vCenter
)

func (it *intake) reject(kind, reason string) {
	it.rejectOf("alarm", kind, reason)
}

// rejectOf keeps and counts a rejection; by says who asked.
func (it *intake) rejectOf(by, kind, reason string) {
	it.state.Requests++
	increment(it.ctx, "preemption_rejections", map[string]string{"by": by, "reason": kind})
	it.state.reject(it.now(), reason)
	workflow.GetLogger(it.ctx).Warn("request rejected", "reason", reason)
}

// process has one batch decoded and decides about each message of it.
func (it *intake) process() {
	n, size := 0, 0
	var batch []Message
	for n < len(it.inbox) && n < maxBatch && size < maxBatchBytes {
		batch = append(batch, it.inbox[n].Message)
		size += len(it.inbox[n].JSON)
		n++
	}
	items := it.inbox[:n:n]
	it.inbox = it.inbox[n:]
	var a *Activities
	var out Decode
	ctx := it.local(time.Minute)
	if err := workflow.ExecuteLocalActivity(ctx, a.DecodeMessages, batch).Get(ctx, &out); err != nil || len(out.Decoded) != n {
		workflow.GetLogger(it.ctx).Error("requests could not be decoded; they are tried again", "error", err)
		it.inbox = append(items, it.inbox...)
		_ = workflow.Sleep(it.ctx, time.Second)
		return
	}
	it.state.Timing, it.state.Attrs = out.Timing, out.Attrs
	for i, decoded := range out.Decoded {
		it.state.Requests += items[i].Again
		decision, elsewhere := it.handOn(decoded, items[i])
		if !elsewhere {
			decision = it.decide(decoded)
		}
		decision.IntakeID = it.info.WorkflowExecution.ID
		it.state.LastDecision = &decision
		if items[i].done != nil {
			*items[i].decided, *items[i].done = decision, true
		}
	}
	it.show()
	it.pace(out)
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
	at, ok := it.state.wakeAt(now)
	if limit := it.info.WorkflowExecutionTimeout; ok && limit > 0 && it.state.idle() {
		// A client's execution timeout must find the intake completed, not running.
		if end := it.state.Started.Add(limit / 2); end.Before(at) {
			at = end
		}
	}
	if end := it.deadline(); !end.IsZero() && !it.state.idle() && it.knows(versionExpire) && (!ok || end.Before(at)) {
		at, ok = end, true
	}
	if again := now.Add(tellAgain); it.untold && (!ok || again.Before(at)) {
		at, ok = again, true
	}
	if it.nothingNew() {
		it.spent = 0 // the task ends here
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

func (it *intake) nothingNew() bool {
	return len(it.inbox)+it.requests.Len()+it.alarms.Len()+it.rounds.Len() == 0 && !it.cancelled()
}

// rollDue tells whether the history has grown so long that a new run should begin.
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
	in := IntakeInput{Once: it.once}
	for _, i := range it.inbox {
		if i.done != nil {
			*i.decided, *i.done = preemptapi.Decision{Verdict: preemptapi.Failed, Reason: "the intake is starting a new run: ask again", Again: true}, true
			continue
		}
		in.Pending = append(in.Pending, i.Message)
	}
	in.State = it.state
	in.State.lighten()
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
	it.tellStanding()
	if err := workflow.Await(it.ctx, func() bool { return workflow.AllHandlersFinished(it.ctx) }); err != nil {
		return preemptapi.Response{}, err
	}
	res := it.response()
	if res.State == "idle" {
		res.State = preemptapi.RoundCompleted
	}
	upsert(it.ctx, it.state.Attrs, "", "", res.State)
	return res, nil
}

// show records the state for the list of workflows and the details page, when it changed.
func (it *intake) show() {
	res := it.response()
	alarmName, scope := "", ""
	if d := it.state.LastDemand; d != nil {
		alarmName, scope = d.Alarm(), d.Scope.String()
	}
	text := fmt.Sprintf("**%s** · tag `%s` · %s · alarm `%s` · scope `%s`", res.State, res.Tag, res.Criticality, alarmName, scope)
	if res.RoundID != "" {
		text += "\n\nround `" + res.RoundID + "`"
	}
	if res.Failure != "" {
		text += "\n\n" + res.Failure
	}
	if text == it.shown {
		return
	}
	it.shown = text
	workflow.SetCurrentDetails(it.ctx, shown.Clip(text, 4000))
	upsert(it.ctx, it.state.Attrs, alarmName, scope, res.State)
}
