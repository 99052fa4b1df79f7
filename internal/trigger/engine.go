package trigger

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
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

	bundles bundles
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
// wraps ErrRefused is final; any other means that Temporal could not be told, and the event should be
// brought again. With an error there is no verdict.
func (e *Engine) Handle(ctx context.Context, in Incoming) (Result, error) {
	rule, ok := e.Match(in.Event)
	if !ok {
		return Result{Verdict: Ignored, Reason: "no rule is on " + subject(in.Event)}, nil
	}
	in.TaskQueue = e.TaskQueue
	res := Result{Rule: rule.Name()}
	order, reason, ok, err := rule.Action.Order(in, rule.Name())
	if err != nil {
		return res, fmt.Errorf("rule %q on %s: %w", rule.Name(), subject(in.Event), err)
	}
	if !ok {
		res.Verdict, res.Reason = Ignored, reason
		return res, nil
	}
	res.WorkflowID, res.What = order.WorkflowID, order.What
	if err := e.send(ctx, order); err != nil {
		return res, fmt.Errorf("signal and start %s %q: %w", order.WorkflowType, order.WorkflowID, err)
	}
	res.Verdict = Sent
	return res, nil
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

func subject(e alarm.Event) string {
	if e.Class == alarm.ClassAlarm {
		return fmt.Sprintf("alarm %q", e.Alarm.Name)
	}
	return e.Class
}
