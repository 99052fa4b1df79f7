package takeover

import (
	"context"
	"errors"
	"fmt"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/converter"

	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/intake"
)

// inPlaceOf is the memo of a run that was started by a takeover: the run that it replaced.
const inPlaceOf = "inPlaceOf"

// finish passes on to a run what another keeper, which may have died since it started the run, had still to pass on.
// Temporal takes a signal with the same request id once in a run, so that nothing comes twice.
func (k *Keeper) finish(ctx context.Context, run *commonpb.WorkflowExecution, begun *historypb.WorkflowExecutionStartedEventAttributes) error {
	who := begun.GetIdentity()
	if !strings.HasPrefix(who, identityPrefix) || who == k.identity || begun.GetContinuedExecutionRunId() != "" {
		return nil
	}
	data := converter.GetDefaultDataConverter()
	var from string
	if err := data.FromPayload(begun.GetMemo().GetFields()[inPlaceOf], &from); err != nil {
		return fmt.Errorf("read which run %s was started in place of: %w", run.GetWorkflowId(), err)
	}
	var in intake.Input
	if err := data.FromPayloads(begun.GetInput(), &in); err != nil {
		return fmt.Errorf("read what %s was started with: %w", run.GetWorkflowId(), err)
	}
	ended := &commonpb.WorkflowExecution{WorkflowId: run.GetWorkflowId(), RunId: from}
	left, err := k.read(ctx, ended)
	var gone *serviceerror.NotFound
	if errors.As(err, &gone) {
		return nil // Temporal keeps it no longer, and so no takeover of it is recent
	}
	if err != nil {
		return err
	}
	rest := beyond(left.pending, in.Pending)
	if len(rest) == 0 {
		return nil
	}
	d := debt{run: ended, signals: rest, known: left.known, to: run.GetRunId()}
	if err := k.pay(ctx, &d); err != nil {
		return fmt.Errorf("%d requests are not passed on to %s; ask again for what it misses: %w", len(d.signals), run.GetWorkflowId(), err)
	}
	return nil
}

// beyond returns the signals that did not travel with the start.
func beyond(pending []signal, started []intake.Message) (rest []signal) {
	travelled := map[string]int{}
	for _, m := range started {
		travelled[string(m.JSON)]++
	}
	for _, s := range pending {
		m, ok := message(s)
		if key := string(m.JSON); ok && travelled[key] > 0 {
			travelled[key]--
			continue
		}
		rest = append(rest, s)
	}
	return rest
}
