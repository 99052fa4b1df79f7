package record

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/doctorapi"
)

// ErrNone says that nothing of the kind is kept.
var ErrNone = errors.New("none is kept")

// LastDiagnosis returns what a worker found when it was last asked for a diagnosis, and when. Its error is ErrNone where
// no diagnosis is kept.
func (r *Reader) LastDiagnosis(ctx context.Context) (d doctorapi.Result, at time.Time, err error) {
	infos, _, err := r.page(ctx, fmt.Sprintf("ExecutionStatus = 'Completed' AND WorkflowType = '%s'", doctorapi.Type), 1, nil)
	if err != nil {
		return d, at, err
	}
	if len(infos) == 0 {
		return d, at, ErrNone
	}
	e := infos[0].GetExecution()
	if err := r.result(ctx, e.GetWorkflowId(), e.GetRunId(), &d); err != nil {
		return d, at, fmt.Errorf("read diagnosis %s: %w", e.GetWorkflowId(), err)
	}
	return d, infos[0].GetCloseTime().AsTime().UTC(), nil
}
