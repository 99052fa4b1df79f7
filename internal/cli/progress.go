package cli

import (
	"context"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/doctorapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/health"
)

// Limits on the search for stalled workflows.
const (
	progressLimit = 3 * time.Second
	progressLooks = 200 // workflows of many
	stalledShown  = 10  // by doctor
)

// takeUp is how long a command that only hands a request over waits until the request is accepted.
const takeUp = 2 * time.Second

// progress finds the open workflows that make no progress, as the workers do for their /readyz.
func (s *session) progress(ctx context.Context) (health.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, progressLimit)
	defer cancel()
	limits := health.DefaultLimits()
	limits.Looks = progressLooks
	l := &health.Looker{Client: s.Client, Namespace: s.app.target.namespace, TaskQueue: s.app.target.queue, Limits: limits, Now: s.app.Now}
	r, err := l.Look(ctx)
	for i, one := range r.Stalled {
		if one.Kind.Repairable() {
			r.Stalled[i].Remedy = "free it: " + s.app.command("workflow", "repair", one.WorkflowID)
		}
	}
	return r, err
}

// progressBeside is progress for a command that shows something else, which does not fail if progress is unknown.
func (s *session) progressBeside(ctx context.Context) health.Report {
	r, err := s.progress(ctx)
	if err != nil {
		s.app.log.Debug("it is unknown whether workflows make progress", "error", err)
		return health.Report{}
	}
	return r
}

// tellStalled names the stalled workflows on stderr.
func (a *app) tellStalled(r health.Report) {
	for _, s := range r.Stalled {
		a.notice("STALLED: %s; %s", s, s.Remedy)
	}
}

// examineProgress adds the stalled workflows to a diagnosis.
func (s *session) examineProgress(ctx context.Context, d *diagnosis) {
	r, err := s.progress(ctx)
	if err != nil {
		d.add(doctorapi.Failed, "progress", "it cannot be looked whether workflows make progress: "+err.Error(), "")
		return
	}
	for i, one := range r.Stalled {
		if i == stalledShown {
			d.add(doctorapi.Failed, "progress", fmt.Sprintf("%d more workflows make no progress", len(r.Stalled)-i), s.app.command("workflow", "list"))
			break
		}
		d.add(doctorapi.Failed, "workflow "+one.WorkflowID, stalledWords(one), one.Remedy)
	}
	for i, one := range r.Waiting {
		if i == stalledShown {
			break
		}
		d.add(doctorapi.Warning, "workflow "+one.WorkflowID, "waits, and continues by itself: "+one.Cause, "")
	}
	if r.Healthy() {
		text := fmt.Sprintf("none of %d open workflows is stalled", r.Open)
		if r.Looked < r.Open {
			text = fmt.Sprintf("none of the %d open workflows that were looked at is stalled, of %d", r.Looked, r.Open)
		}
		d.add(doctorapi.OK, "progress", text, "")
	}
}

// stalledWords describes a stalled workflow and what is wrong with it.
func stalledWords(s health.Stall) string {
	text := s.Type + " " + s.Words()
	if !s.Since.IsZero() {
		text += ", since " + timestamp(s.Since)
	}
	return text
}

// taken waits until a workflow has handled its signals, that is until it has no workflow task. It returns why it
// has not, "" if it has or if that is unknown.
func (s *session) taken(ctx context.Context, id string) (why string) {
	ctx, cancel := context.WithTimeout(ctx, takeUp)
	defer cancel()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		d, err := s.DescribeWorkflowExecution(ctx, id, "")
		task := d.GetPendingWorkflowTask()
		switch {
		case err != nil && why == "":
			s.app.log.Debug("it is unknown whether the workflow takes what it was sent", "workflow", id, "error", err)
			return ""
		case err != nil:
			return why
		case task == nil || d.GetWorkflowExecutionInfo().GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING:
			return ""
		}
		why = "no worker has taken its task yet"
		if task.GetState() == enumspb.PENDING_WORKFLOW_TASK_STATE_STARTED {
			why = "a worker is still at it"
		}
		if n := task.GetAttempt(); n > 1 {
			why = fmt.Sprintf("its task fails (attempt %d)", n)
		}
		if !clock.Sleep(ctx, pause) {
			return why
		}
	}
}

// notTaken returns the error for a request that was handed over but not accepted; nil if why is empty.
func (a *app) notTaken(id, why string) error {
	if why == "" {
		return nil
	}
	return failedf("%s has the request and has not handled it within %s: %s; it stays queued; look: %s", id, takeUp, why, a.command("doctor"))
}
