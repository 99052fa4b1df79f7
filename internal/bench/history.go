package bench

import (
	"context"
	"errors"
	"fmt"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"google.golang.org/protobuf/proto"
)

// recorded is what histories hold.
type recorded struct {
	runs, events, bytes int
	longest             int    // events of the longest run
	largest             int    // bytes of the largest event
	what                string // its type
	tasks, signals      int
	updates             int // accepted
	together            int // the most updates that one workflow task accepted
}

// recordOf reads the histories of a workflow, back to the run that did not continue another.
func (r *run) recordOf(ctx context.Context, id string) (all recorded, err error) {
	for runID := ""; ; {
		before, err := r.readRun(ctx, id, runID, &all)
		var gone *serviceerror.NotFound
		switch {
		case errors.As(err, &gone) && runID != "":
			return all, nil // it was kept no longer
		case err != nil:
			return all, fmt.Errorf("read the history of %s: %w", id, err)
		case before == "":
			return all, nil
		}
		runID = before
	}
}

// readRun adds one run, and returns the one that it continues.
func (r *run) readRun(ctx context.Context, id, runID string, all *recorded) (before string, err error) {
	events, together := 0, 0
	for it := r.client.GetWorkflowHistory(ctx, id, runID, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
		e, err := it.Next()
		if err != nil {
			return "", err
		}
		events++
		if started := e.GetWorkflowExecutionStartedEventAttributes(); started != nil {
			before = started.GetContinuedExecutionRunId()
		}
		all.add(e, &together)
	}
	all.runs++
	all.events += events
	all.longest = max(all.longest, events)
	return before, nil
}

func (all *recorded) add(e *history.HistoryEvent, together *int) {
	size := proto.Size(e)
	all.bytes += size
	if size > all.largest {
		all.largest, all.what = size, e.GetEventType().String()
	}
	switch e.GetEventType() {
	case enums.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
		all.tasks++
		*together = 0
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
		all.signals++
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
		all.updates++
		*together++
		all.together = max(all.together, *together)
	}
}

// plus adds another workflow's.
func (all *recorded) plus(o recorded) {
	all.runs, all.events, all.bytes = all.runs+o.runs, all.events+o.events, all.bytes+o.bytes
	all.tasks, all.signals, all.updates = all.tasks+o.tasks, all.signals+o.signals, all.updates+o.updates
	all.longest, all.together = max(all.longest, o.longest), max(all.together, o.together)
	if o.largest > all.largest {
		all.largest, all.what = o.largest, o.what
	}
}
