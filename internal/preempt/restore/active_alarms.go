package restore

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"

	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
)

// intakeGone is how long an intake must be over before nothing of it is active any more: its successor takes a moment
// to start.
const intakeGone = time.Minute

// maxIntakesLookedUp bounds how many intakes one plan of a restore looks up.
const maxIntakesLookedUp = 50

// activeAlarms says which alarms are active in the restore's scope, by what the ledger knows. One whose intake has ended,
// as when it was terminated, is forgotten.
func (a *Activities) activeAlarms(ctx context.Context, known []ledger.ActiveAlarm) (active []string) {
	over := map[string]bool{}
	for i, d := range known {
		if d.Paused != "" {
			active = append(active, d.Paused)
			continue
		}
		gone, looked := over[d.Owner]
		if !looked && i < maxIntakesLookedUp {
			gone = a.intakeOver(ctx, d.Owner)
			over[d.Owner] = gone
			if gone {
				a.forgetIntake(ctx, d.Owner)
			}
		}
		switch {
		case gone:
		case d.For != "":
			active = append(active, fmt.Sprintf("room is held for %s since %s (workflow %s)", d.For, d.Since.UTC().Format(time.RFC3339), d.Owner))
		default:
			active = append(active, fmt.Sprintf("alarm %s has been active since %s (workflow %s)", d.Alarm, d.Since.UTC().Format(time.RFC3339), d.Owner))
		}
	}
	return active
}

func (a *Activities) forgetIntake(ctx context.Context, owner string) {
	a.Logger(ctx).Warn("an intake ended while its alarm was active: restores are not held back by it any more", "intake", owner)
	if _, err := a.Ledger.SetActive(ctx, ledger.ActiveRequest{Owner: owner}); err != nil {
		a.Logger(ctx).Warn("the ledger could not be told to forget it", "intake", owner, "error", err)
	}
}

// intakeOver reports whether an intake has ended without a successor. What cannot be found out counts as active.
func (a *Activities) intakeOver(ctx context.Context, id string) bool {
	d, err := a.Temporal.DescribeWorkflowExecution(ctx, id, "")
	var gone *serviceerror.NotFound
	if err != nil {
		return errors.As(err, &gone)
	}
	info := d.GetWorkflowExecutionInfo()
	return info.GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING && time.Since(info.GetCloseTime().AsTime()) > intakeGone
}
