package trigger

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// Verdict says what became of an event.
type Verdict string

// The verdicts.
const (
	Sent    Verdict = "sent"    // Temporal has it
	Ignored Verdict = "ignored" // no rule is on it, or the rule does nothing about it
)

// Result is what became of an event.
type Result struct {
	Verdict    Verdict `json:"verdict"`
	Rule       string  `json:"rule,omitempty"`
	WorkflowID string  `json:"workflowID,omitempty"`
	What       string  `json:"what,omitempty"`   // what was sent
	Reason     string  `json:"reason,omitempty"` // why it was ignored
}

// Temporal is what an Engine needs of a Temporal client.
type Temporal interface {
	SignalWithStartWorkflow(ctx context.Context, workflowID, signal string, arg any, o client.StartWorkflowOptions, workflow any, args ...any) (client.WorkflowRun, error)
}

// Engine applies rules to events. It is safe for concurrent use and remembers nothing of them: what was sent
// twice is told apart by the workflow that gets it.
type Engine struct {
	Temporal  Temporal
	TaskQueue string
	Rules     []Rule
	// Check says why the workflow would reject a payload for good; nil: it is not known before.
	Check func(payload any) error
	// Tracer has a span for each event that a rule is on; nil: there is none.
	Tracer *tracing.Tracer

	bundles  bundles
	backlogs backlogs
}

// Match returns the first rule on the event.
func (e *Engine) Match(ev alarm.Event) (Rule, bool) {
	for _, r := range e.Rules {
		if r.Matches(ev) {
			return r, true
		}
	}
	return Rule{}, false
}

// sendTimeout bounds one signal, with the client's own attempts.
const sendTimeout = 10 * time.Second

// Handle applies the first rule on the event and returns once Temporal has what it ordered. An error that
// wraps ErrRefused is final, as of an event of a class that nobody handles; any other means that Temporal could not be told, or that too much waits already (a
// BacklogError), and the event should be brought again. With an error there is no verdict.
func (e *Engine) Handle(ctx context.Context, in Incoming) (Result, error) {
	about, err := in.Event.About()
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	rule, ok := e.Match(in.Event)
	if !ok {
		return Result{Verdict: Ignored, Reason: "no rule is on " + about.Words}, nil
	}
	ctx, span := e.Tracer.Begin(ctx, "act on event", slog.String("rule", rule.Name()), slog.String("event", about.Words))
	in.CloudEvent = e.Tracer.Mark(ctx, in.CloudEvent)
	in.TaskQueue = e.TaskQueue
	res, err := e.apply(ctx, rule, in, about.Words)
	span.Note(slog.String("verdict", string(res.Verdict)), slog.String("what", res.What), slog.String("reason", res.Reason),
		slog.String("workflow_id", res.WorkflowID))
	span.End(err)
	return res, err
}

// apply does what the rule says about the event.
func (e *Engine) apply(ctx context.Context, rule Rule, in Incoming, about string) (Result, error) {
	res := Result{Rule: rule.Name()}
	order, reason, ok, err := rule.Action.Order(in, rule.Name())
	if err != nil {
		return res, fmt.Errorf("rule %q on %s: %w", rule.Name(), about, err)
	}
	if !ok {
		res.Verdict, res.Reason = Ignored, reason
		return res, nil
	}
	res.WorkflowID, res.What = order.WorkflowID, order.What
	if err := e.rejects(order); err != nil {
		return res, err
	}
	err = e.checked(ctx, order)
	if err == nil {
		err = e.send(ctx, order)
	}
	if final(err) {
		err = e.rejected(ctx, order, err)
	}
	if err != nil {
		return res, fmt.Errorf("signal and start %s %q: %w", order.WorkflowType, order.WorkflowID, err)
	}
	res.Verdict = Sent
	return res, nil
}

// rejects says why the workflow would not take the order.
func (e *Engine) rejects(o Order) error {
	if e.Check == nil {
		return nil
	}
	if err := e.Check(o.Payload); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}

// checked says why an order is not sent at all.
func (e *Engine) checked(ctx context.Context, o Order) error {
	if what, reserved := workflowid.Reserved(o.WorkflowID); reserved && o.WorkflowType == preemption.WorkflowName {
		return fmt.Errorf("%w: ids such as %q are reserved for %s", ErrRefused, o.WorkflowID, what)
	}
	b, err := json.Marshal(o.Payload)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return e.backlogs.check(ctx, e.Temporal, o.WorkflowID, e.TaskQueue, len(b))
}

// rejected says what it means that Temporal does not take the order as it is: a workflow that has all the signals it
// may have is behind; anything else is the order's own fault, for good.
func (e *Engine) rejected(ctx context.Context, o Order, err error) error {
	if d, ok := e.Temporal.(describer); ok {
		if behind := backlogOf(ctx, d, o.WorkflowID, e.TaskQueue); behind != nil {
			return behind
		}
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

// send returns once Temporal has the order.
func (e *Engine) send(ctx context.Context, o Order) error {
	signal := func(ctx context.Context, payload any) error {
		_, err := e.Temporal.SignalWithStartWorkflow(ctx, o.WorkflowID, o.Signal, payload,
			client.StartWorkflowOptions{ID: o.WorkflowID, TaskQueue: e.TaskQueue}, o.WorkflowType)
		return err
	}
	if o.Bundle {
		return e.bundles.send(ctx, o, signal)
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	return signal(ctx, o.Payload)
}
