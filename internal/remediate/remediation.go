package remediate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/delivery"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tally"
)

// maxDecisions is how many decisions a workflow remembers.
const maxDecisions = 100

// remediation takes the requests of one workflow one after the other, and remembers what became of them. It ends when
// there are no more.
type remediation struct {
	ctx     workflow.Context // never cancelled: what was begun is finished
	asked   workflow.Context // cancelled with the workflow: what waits is given up
	info    *workflow.Info
	kind    string
	setup   Setup
	made    []*remediateapi.Decision // oldest first
	pending []placement.Request
	signals workflow.ReceiveChannel
	told    int             // decisions told, for the ids of their events
	telling int             // those that are being told
	out     delivery.Outbox // what people are told
	broken  error           // what the last failed decision failed for
}

func newRemediation(ctx workflow.Context, kind string, earlier []remediateapi.Decision) *remediation {
	own, _ := workflow.NewDisconnectedContext(ctx)
	info := workflow.GetInfo(ctx)
	d := &remediation{ctx: tally.With(own), asked: ctx, info: info, kind: kind, signals: workflow.GetSignalChannel(ctx, placement.Signal)}
	for _, dec := range earlier {
		d.made = append(d.made, &dec)
	}
	return d
}

func (d *remediation) id() string { return d.info.WorkflowExecution.ID }

// report is what was decided so far.
func (d *remediation) report() remediateapi.Report {
	r := remediateapi.Report{WorkflowID: d.id(), RunID: d.info.WorkflowExecution.RunID, Kind: d.kind, Decisions: []remediateapi.Decision{}}
	for _, dec := range d.made {
		r.Decisions = append(r.Decisions, *dec)
	}
	return r
}

// serve carries out the requests of the input, and those that are signalled, with work.
func serve(ctx workflow.Context, in remediateapi.Input, kind string, work func(*remediation, placement.Request)) (remediateapi.Report, error) {
	d := newRemediation(ctx, kind, in.Earlier)
	d.pending = in.Requests
	if err := workflow.SetQueryHandler(ctx, remediateapi.StateQuery, func() (remediateapi.Report, error) { return d.report(), nil }); err != nil {
		return d.report(), err
	}
	for {
		a, ok, err := d.next()
		if err != nil {
			return d.report(), temporal.NewNonRetryableApplicationError("take a request: "+err.Error(), remediateapi.ErrRemediation, err, d.report())
		}
		if !ok {
			return d.result()
		}
		if d.setup = a.Setup; a.Problem == "" {
			work(d, a.Request)
		} else {
			d.refuse(a)
		}
		if ctx.Err() != nil {
			return d.result()
		}
		if d.info.GetContinueAsNewSuggested() {
			d.finishTelling()
			return d.report(), workflow.NewContinueAsNewError(ctx, placement.WorkflowType(kind), remediateapi.Input{Requests: d.drain(), Earlier: d.report().Decisions})
		}
	}
}

// next takes the next request there is. Whatever was sent is looked at in an activity: no payload can harm the
// workflow.
func (d *remediation) next() (a Accepted, ok bool, err error) {
	in := AcceptInput{Kind: d.kind}
	if len(d.pending) > 0 {
		in.Request = &d.pending[0]
		d.pending = d.pending[1:]
	} else {
		var raw converter.RawValue
		if !d.signals.ReceiveAsync(&raw) {
			return a, false, nil
		}
		in.Raw = raw.Payload().GetData()
	}
	err = workflow.ExecuteLocalActivity(d.local(), steps.AcceptRemediation, in).Get(d.ctx, &a)
	return a, err == nil, err
}

// drain accepts what has arrived, for the next run. What is no request was told and is left out.
func (d *remediation) drain() (rest []placement.Request) {
	for {
		a, ok, err := d.next()
		if err != nil || !ok {
			return rest
		}
		if a.Problem != "" {
			d.refuse(a)
			continue
		}
		rest = append(rest, a.Request)
	}
}

func (d *remediation) refuse(a Accepted) {
	dec := d.open(a.Request)
	d.end(dec, remediateapi.Infeasible, "the request is refused: "+a.Problem)
}

// result is the workflow's: an error with the report where anything failed.
func (d *remediation) result() (remediateapi.Report, error) {
	d.finishTelling()
	for _, dec := range slices.Backward(d.made) {
		if dec.State == remediateapi.Failed {
			return d.report(), temporal.NewNonRetryableApplicationError(
				fmt.Sprintf("%s of %s failed: %s", dec.Kind, named(dec), dec.Reason), remediateapi.ErrRemediation, d.broken, d.report())
		}
	}
	return d.report(), nil
}

// finishTelling waits until all decisions are told, or given up, and the messages to people are on their way.
func (d *remediation) finishTelling() {
	// Its error is that of a context which is never cancelled.
	_ = workflow.Await(d.ctx, func() bool { return d.telling == 0 })
	d.out.Close(d.ctx)
}

func named(dec *remediateapi.Decision) string {
	switch {
	case dec.Name != "":
		return dec.VM.Value + " (" + dec.Name + ")"
	case !dec.VM.Zero():
		return dec.VM.Value
	case dec.Source != nil:
		return dec.Source.Name
	}
	return dec.Cause.Entity.Value
}

// local are the options of a look-up that takes milliseconds.
func (d *remediation) local() workflow.Context {
	return workflow.WithLocalActivityOptions(d.ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout: 10 * time.Second, ScheduleToCloseTimeout: 10 * time.Minute,
	})
}

// options are those of an activity that takes at most each.
func (d *remediation) options(each time.Duration, summary string) workflow.Context {
	t := d.setup.Timing
	return workflow.WithActivityOptions(d.ctx, workflow.ActivityOptions{
		StartToCloseTimeout: each, ScheduleToCloseTimeout: t.Outage + each, HeartbeatTimeout: t.Heartbeat, Summary: summary,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: t.Retry, BackoffCoefficient: 1.5, MaximumInterval: 10 * t.Retry},
	})
}

// open begins a decision about a request.
func (d *remediation) open(req placement.Request) *remediateapi.Decision {
	dec := &remediateapi.Decision{
		Kind: d.kind, State: remediateapi.Working, RequestID: req.ID, VM: req.VM, Cause: req.Cause, StartedAt: workflow.Now(d.ctx).UTC(),
	}
	d.made = append(d.made, dec)
	d.made = d.made[max(0, len(d.made)-maxDecisions):]
	d.show(dec)
	return dec
}

// end makes the decision, for the report and the log alone.
func (d *remediation) end(dec *remediateapi.Decision, state remediateapi.State, reason string) {
	dec.State, dec.Reason, dec.EndedAt = state, reason, workflow.Now(d.ctx).UTC()
	if !dec.Until.After(dec.EndedAt) {
		dec.Until = time.Time{}
	}
	d.show(dec)
	workflow.GetLogger(d.ctx).Info("decided", "kind", dec.Kind, "state", dec.State, "vm", dec.Name, "moref", dec.VM.Value,
		"alarm", dec.Cause.Alarm, "reason", dec.Reason)
}

// conclude makes the decision and tells it where people and programs look for it: in the VM's attribute, and as
// a CloudEvent. Nothing waits for that but the workflow's end. A dry run is told to who asked alone.
func (d *remediation) conclude(dec *remediateapi.Decision, req placement.Request, state remediateapi.State, reason string) {
	if d.end(dec, state, reason); req.DryRun {
		return
	}
	tally.Add(d.ctx, "preemption_remediations", map[string]string{"kind": dec.Kind, "state": string(state)})
	d.tellPeople(dec)
	d.told++
	in := TellInput{
		Decision: *dec, WorkflowID: d.id(), EventID: fmt.Sprintf("%s-%d", d.info.WorkflowExecution.RunID, d.told), Event: req.Event,
		Annotate: !d.setup.Observe && dec.Name != "", ReplyTo: replyOf(req),
	}
	ctx := workflow.WithScheduleToCloseTimeout(d.options(time.Minute, "tell: "+string(dec.State)), d.setup.Timing.ReplyFor)
	d.telling++
	workflow.Go(ctx, func(ctx workflow.Context) {
		defer func() { d.telling-- }()
		var told Told
		if err := workflow.ExecuteActivity(ctx, steps.TellRemediation, in).Get(ctx, &told); err != nil {
			told = Told{AnnotationError: cause(err), Reply: cause(err)}
		}
		dec.Annotated, dec.AnnotationError, dec.Reply = told.Annotated, told.AnnotationError, told.Reply
	})
}

// bare is a request without its event, which no plan reads and each would record.
func bare(req placement.Request) placement.Request {
	req.Event = nil
	return req
}

func replyOf(req placement.Request) string {
	switch {
	case req.Resize != nil:
		return req.Resize.ReplyTo
	case req.Reconfigure != nil:
		return req.Reconfigure.ReplyTo
	case req.Move != nil:
		return req.Move.ReplyTo
	}
	return ""
}

// show keeps the report, the memo and the page of the workflow up to date with its last decision.
func (d *remediation) show(dec *remediateapi.Decision) {
	memo := map[string]any{"kind": dec.Kind, "vm": dec.VM.Value, "name": dec.Name, "state": dec.State, "reason": shown.Clip(dec.Reason, 200)}
	if err := workflow.UpsertMemo(d.ctx, memo); err != nil {
		workflow.GetLogger(d.ctx).Warn("the memo was not written", "error", err)
	}
	var b strings.Builder
	b.WriteString("| | VM | reason |\n|---|---|---|\n")
	for _, x := range slices.Backward(d.made) {
		b.WriteString(fmt.Sprintf("| %s | %s (`%s`) | %s |\n", x.State, shown.Markdown(x.Name), x.VM.Value, shown.Markdown(shown.Clip(x.Reason, 300))))
		if b.Len() > 15000 {
			break
		}
	}
	workflow.SetCurrentDetails(d.ctx, shown.Clip(b.String(), 18000))
}

// failed ends a decision with what went wrong.
func (d *remediation) failed(dec *remediateapi.Decision, what string, err error, req placement.Request) {
	d.broken = err
	d.conclude(dec, req, remediateapi.Failed, what+": "+cause(err))
}

// The states in which the taking of a VM ends.
type taken int

const (
	takenOK     taken = iota
	takenNot          // the decision is made
	takenStale        // what was planned from has changed
	takenInUse        // another has it, of a VM that needs not be this one
	takenCooled       // the VM was remedied too short a time ago
)

// take reserves the VM for this workflow, so that nobody else changes it. While it waits it holds nothing: a
// preemption that wants the VM gets it. choosy callers have other VMs to go on with, and do not wait for one.
// waited tells that time has passed since the caller looked.
func (d *remediation) take(dec *remediateapi.Decision, r ledger.RemedyRequest, req placement.Request, choosy bool) (t taken, waited bool) {
	r.Owner, r.VM, r.Scope, r.Alarm, r.PerHour = d.id(), dec.VM.String(), dec.Cluster.String(), dec.Cause.Alarm, d.setup.PerHour
	if r.What == "" {
		r.What = d.kind
	}
	until := workflow.Now(d.ctx).Add(d.setup.Timing.Patience)
	turn := 0
	defer func() {
		if t != takenOK && t != takenStale { // who plans again keeps its place in line
			d.release(dec, r.What, false)
		}
	}()
	for {
		var g ledger.RemedyGrant
		if err := workflow.ExecuteLocalActivity(d.local(), steps.TakeVM, r).Get(d.ctx, &g); err != nil {
			d.failed(dec, "reserve the VM in the ledger", err, req)
			return takenNot, waited
		}
		answer, why := d.answered(dec, g, req, choosy)
		if why == "" {
			return answer, waited
		}
		if !workflow.Now(d.ctx).Before(until) {
			d.conclude(dec, req, remediateapi.Deferred, "given up after "+d.setup.Timing.Patience.String()+": "+why)
			return takenNot, waited
		}
		dec.Reason, dec.Until = why, until.UTC()
		d.show(dec)
		turn++
		if waited = true; workflow.Sleep(d.asked, d.setup.Timing.Wait*time.Duration(1+min(max(g.Ahead, turn/8), 7))) != nil {
			d.conclude(dec, req, remediateapi.Skipped, "cancelled while it waited")
			return takenNot, waited
		}
		dec.Reason, dec.Until = "", time.Time{}
	}
}

// answered acts on the ledger's answer, unless it is one to wait for: then why says what for.
func (d *remediation) answered(dec *remediateapi.Decision, g ledger.RemedyGrant, req placement.Request, choosy bool) (t taken, why string) {
	switch {
	case g.Granted:
		return takenOK, ""
	case g.Stale:
		return takenStale, ""
	case !g.Tripped.IsZero():
		d.conclude(dec, req, remediateapi.Planned, tripped(d.setup.PerHour, g.Tripped))
		return takenNot, ""
	case !g.Until.IsZero() && choosy:
		dec.Until = g.Until
		return takenCooled, ""
	case !g.Until.IsZero():
		dec.Until = g.Until
		d.conclude(dec, req, remediateapi.Skipped, cooling(g.Until))
		return takenNot, ""
	case g.Holder != "" && choosy:
		return takenInUse, ""
	case g.Holder != "":
		return takenNot, "waits for " + g.Holder + ", which has the VM"
	}
	return takenNot, "waits: " + g.Full
}

// release gives the VM back. acted tells that it was changed.
func (d *remediation) release(dec *remediateapi.Decision, what string, acted bool) {
	r := ledger.RemediedRequest{Owner: d.id(), VM: dec.VM.String(), What: what, Acted: acted}
	if err := workflow.ExecuteLocalActivity(d.local(), steps.ReleaseVM, r).Get(d.ctx, nil); err != nil {
		workflow.GetLogger(d.ctx).Warn("the ledger was not told; it notices when this workflow has ended", "error", err)
	}
}

func tripped(perHour int, until time.Time) string {
	return fmt.Sprintf("only recommended: there were %d actions within an hour (limits.remediationsPerHour); until %s", perHour, until.UTC().Format(time.RFC3339))
}

func cooling(until time.Time) string {
	return "it was remedied a short time ago: not again before " + until.UTC().Format(time.RFC3339)
}

// cause is the innermost message of a failed activity, and its kind.
func cause(err error) string {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return app.Message()
	}
	return err.Error()
}
