package standalone

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

const (
	momentsEvery = time.Second
	momentsLate  = 5 * time.Second // by which Temporal may list what has ended
	momentsPage  = 100
)

// moments says a line for each round and restore that has ended.
type moments struct {
	*stack
	since time.Time
	told  map[string]time.Time // run ids, and when each ended
	empty map[string]bool      // scopes of which the last round chose nobody: its repetitions are no news
}

func newMoments(s *stack, since time.Time) *moments {
	return &moments{stack: s, since: since, told: map[string]time.Time{}, empty: map[string]bool{}}
}

// tell says them until ctx ends.
func (m *moments) tell(ctx context.Context) {
	for clock.Sleep(ctx, momentsEvery) {
		if err := m.look(ctx); err != nil && ctx.Err() == nil {
			m.log.Warn("what has ended cannot be listed; it is asked again", "reason", err)
		}
	}
}

// look says what has ended since it last did.
func (m *moments) look(ctx context.Context) error {
	from := time.Now().Add(-momentsLate)
	list, err := m.client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: m.temporal.Namespace(), PageSize: momentsPage,
		Query: fmt.Sprintf("(WorkflowType = '%s' OR WorkflowType = '%s') AND CloseTime >= '%s'",
			preemptapi.RoundType, preemptapi.RestoreType, m.since.UTC().Format(time.RFC3339Nano)),
	})
	if err != nil {
		return err
	}
	for _, w := range list.GetExecutions() {
		id := w.GetExecution().GetRunId()
		if _, known := m.told[id]; known || w.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW {
			continue
		}
		m.told[id] = w.GetCloseTime().AsTime()
		m.say(ctx, w)
	}
	if from.After(m.since) {
		m.since = from
	}
	for id, at := range m.told {
		if at.Before(m.since) {
			delete(m.told, id)
		}
	}
	return nil
}

// say says what became of one round or restore.
func (m *moments) say(ctx context.Context, w *workflow.WorkflowExecutionInfo) {
	id := w.GetExecution().GetWorkflowId()
	run := m.client.GetWorkflow(ctx, id, w.GetExecution().GetRunId())
	var err error
	if w.GetType().GetName() == preemptapi.RestoreType {
		var r preemptapi.RestoreResult
		err = run.Get(ctx, &r)
		if r, err = preemptapi.RestoreResultOf(err, r); err == nil {
			m.sayRestore(id, r)
		}
	} else {
		var r preemptapi.RoundResult
		err = run.Get(ctx, &r)
		if r, err = preemptapi.ResultOf(err, r); err == nil {
			m.sayRound(id, r)
		}
	}
	if err != nil && ctx.Err() == nil {
		m.out.say("failed", "%s: %s", id, oneLine(err))
	}
}

func (m *moments) sayRestore(id string, r preemptapi.RestoreResult) {
	if r.State == preemptapi.RestorePlanned {
		return // a dry run
	}
	m.out.say("restore", "%s: %s on again%s: %s", r.State, shown.Count(len(r.Restored()), "VM"), m.in(r.ScopeName), id)
}

func (m *moments) sayRound(id string, r preemptapi.RoundResult) {
	nobody := len(r.Targets) == 0
	if again := nobody && m.empty[r.ScopeName]; again {
		return
	}
	m.empty[r.ScopeName] = nobody
	m.out.say("round", "%s: %d of %s preempted, %s%s: %s", r.State, len(r.Preempted()), shown.Count(len(r.Targets), "chosen VM"), r.Criticality, m.in(r.ScopeName), id)
}

// in says where something happened, and how busy it is there now.
func (m *moments) in(cluster string) string {
	if m.vcenter.Cluster(cluster).Name == "" {
		return ""
	}
	cpu, _ := m.vcenter.Usage(cluster)
	return fmt.Sprintf(", in %s, which is at %.0f %% CPU", cluster, cpu)
}
