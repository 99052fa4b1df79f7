package judge

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Asker asks the workers of a task queue, by workflows that read vCenter and touch nothing.
type Asker struct {
	Client    client.Client
	TaskQueue string
	Limit     time.Duration // of each workflow
}

// NotKnownError says that vCenter knows no VM of a name, or several.
type NotKnownError struct{ Words string }

// Error implements error.
func (e *NotKnownError) Error() string { return e.Words }

// Plan has a worker plan a request: a Planner.
func (a Asker) Plan(ctx context.Context, req preemption.WorkflowRequest) (r preemptapi.RoundResult, err error) {
	req.ID = uuid.NewString()
	err = a.ask(ctx, "preemption-plan-"+req.ID, "Dry run: would a VM go? Asked by the console", preemptapi.PlanType, req, &r)
	if r, err = preemptapi.ResultOf(err, r); err != nil {
		return r, fmt.Errorf("no plan: %w", said(err))
	}
	if r.State == preemptapi.RoundFailed {
		return r, fmt.Errorf("no plan: %s", r.Reason)
	}
	return r, nil
}

// VM returns the MoRef of a VM by its name, inventory path or MoRef, or a NotKnownError.
func (a Asker) VM(ctx context.Context, named string) (vsphere.Ref, error) {
	var out preemptapi.NamesResult
	in := preemptapi.NamesInput{VMs: []string{named}}
	if err := a.ask(ctx, "preemption-plan-names-"+uuid.NewString(), "looks whether vCenter knows what was named", preemptapi.NamesType, in, &out); err != nil {
		return vsphere.Ref{}, fmt.Errorf("look for VM %q in vCenter: %w", named, said(err))
	}
	if wrong := append(out.Unknown, out.Ambiguous...); len(wrong) > 0 {
		return vsphere.Ref{}, &NotKnownError{strings.Join(wrong, "; ")}
	}
	if len(out.VMs) != 1 || out.VMs[0].Zero() {
		return vsphere.Ref{}, fmt.Errorf("look for VM %q in vCenter: the worker did not say which it is", named)
	}
	return out.VMs[0], nil
}

// Tags returns the tags of a VM by category, and its power state.
func (a Asker) Tags(ctx context.Context, vm vsphere.Ref) (out remediateapi.TagsResult, err error) {
	err = a.ask(ctx, "tags-"+uuid.NewString(), "shows the tags of a VM", remediateapi.TagsType, remediateapi.TagsInput{VM: vm.String()}, &out)
	if err != nil {
		return out, fmt.Errorf("read the tags of %s: %w", vm, said(err))
	}
	return out, nil
}

func (a Asker) ask(ctx context.Context, id, summary, kind string, in, out any) error {
	run, err := a.Client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: id, TaskQueue: a.TaskQueue, WorkflowExecutionTimeout: a.Limit, StaticSummary: summary,
	}, kind, in)
	if err != nil {
		return err
	}
	return run.Get(ctx, out)
}

// said is what a workflow's own error says, without what Temporal puts around it.
func said(err error) error {
	var app *temporal.ApplicationError
	var late *temporal.TimeoutError
	switch {
	case errors.As(err, &app):
		return errors.New(app.Message())
	case errors.As(err, &late), errors.Is(err, context.DeadlineExceeded):
		return errors.New("no worker has answered in time: is one running, and can it reach vCenter?")
	}
	return err
}
