package standalone

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
)

const (
	endedReason = "an earlier simulation: the vCenter it spoke of is gone"
	lookAgain   = 50 * time.Millisecond
)

// clearEarlier ends the workflows that earlier simulations left open in this folder, the ledger with its cooldowns and
// reservations among them: the simulated vCenter they speak of is gone, and VMs of the new one bear the same ids. Their
// histories stay. No other folder and no other namespace is touched, and never a server that was not started here.
func (s *stack) clearEarlier(ctx context.Context) error {
	if s.inMemory {
		return nil
	}
	ended := 0
	// By id first: what a process wrote just before it was killed may not be listed yet.
	for _, id := range []string{ledger.WorkflowID(s.queue()), watch.WorkflowID(s.queue()), preemption.DefaultWorkflowID} {
		n, err := s.end(ctx, id, "")
		if err != nil {
			return err
		}
		ended += n
	}
	for range 2 { // twice, for the same reason
		n, err := s.endListed(ctx)
		if err != nil {
			return err
		}
		ended += n
		time.Sleep(lookAgain)
	}
	if ended > 0 {
		s.out.say("temporal", "%d open workflows of an earlier simulation were ended; their histories are kept", ended)
	}
	return nil
}

func (s *stack) endListed(ctx context.Context) (ended int, err error) {
	req := &workflowservice.ListWorkflowExecutionsRequest{Namespace: s.temporal.Namespace(), Query: "ExecutionStatus = 'Running'"}
	for {
		page, err := s.client.ListWorkflow(ctx, req)
		if err != nil {
			return ended, fmt.Errorf("list the open workflows of earlier simulations in %s: %w", s.data, err)
		}
		for _, w := range page.GetExecutions() {
			n, err := s.end(ctx, w.GetExecution().GetWorkflowId(), w.GetExecution().GetRunId())
			if err != nil {
				return ended, err
			}
			ended += n
		}
		if req.NextPageToken = page.GetNextPageToken(); len(req.NextPageToken) == 0 {
			return ended, nil
		}
	}
}

// end terminates one workflow, and counts it; one that has ended is none.
func (s *stack) end(ctx context.Context, id, run string) (int, error) {
	err := s.client.TerminateWorkflow(ctx, id, run, endedReason)
	var gone *serviceerror.NotFound
	switch {
	case errors.As(err, &gone):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("end workflow %s of an earlier simulation: %w", id, err)
	}
	return 1, nil
}
