package cli

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
)

// How far back watch status reads what intakes rejected, how many intakes it asks, at once and for how long, and how many
// rejections it shows.
const (
	rejectedSince   = 24 * time.Hour
	rejectedIntakes = 40
	rejectedAtOnce  = 8
	rejectedWait    = 3 * time.Second
	rejectedShown   = 5
)

// rejected is a request or an alarm that an intake of the task queue rejected.
type rejected struct {
	WorkflowID string    `json:"workflowID"`
	Time       time.Time `json:"time"`
	Reason     string    `json:"reason"`
}

// rejections returns what the intakes of the task queue rejected recently, newest first. Intakes that do not answer are
// left out; the metric preemption_rejections_total counts theirs too.
func (s *session) rejections(ctx context.Context) []rejected {
	ctx, cancel := context.WithTimeout(ctx, rejectedWait)
	defer cancel()
	oldest := s.app.Now().Add(-rejectedSince)
	query := fmt.Sprintf("WorkflowType = '%s' AND TaskQueue = '%s' AND (ExecutionStatus = 'Running' OR CloseTime > '%s')",
		preemption.WorkflowName, quoted(s.app.target.queue), oldest.UTC().Format(time.RFC3339))
	intakes, _, err := s.executions(ctx, query, rejectedIntakes)
	if err != nil {
		s.app.log.Debug("it is unknown what intakes rejected", "error", err)
		return nil
	}
	var (
		all  []rejected
		lock sync.Mutex
		busy sync.WaitGroup
	)
	places := make(chan struct{}, rejectedAtOnce)
	for _, info := range intakes {
		busy.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			st, err := s.intakeStatus(ctx, info)
			if err != nil {
				s.app.log.Debug("an intake did not say what it rejected", "workflowID", info.GetExecution().GetWorkflowId(), "error", err)
				return
			}
			lock.Lock()
			defer lock.Unlock()
			for _, r := range st.Rejections {
				if r.Time.After(oldest) {
					all = append(all, rejected{WorkflowID: info.GetExecution().GetWorkflowId(), Time: r.Time, Reason: r.Reason})
				}
			}
		})
	}
	busy.Wait()
	slices.SortFunc(all, func(a, b rejected) int { return b.Time.Compare(a.Time) })
	return all[:min(len(all), rejectedShown)]
}
