package events

import (
	"context"
	"strings"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
)

func TestAWatchThatOthersSignalRollsWhileItFollowsAndGoesOn(t *testing.T) {
	t.Parallel()
	s := sitetest.NewOn(t, sitetest.Rolling(t))
	s.Rules = sitetest.RulesOn(s.ID("cpu"))
	s.Worker()
	timing := sitetest.QuickWatch
	timing.Lease = time.Hour // so that nothing but the history's length ends the activity
	s.Watch(timing)
	id := watchapi.WorkflowID(s.Queue)
	_, first := s.TypeOf(id)
	for range sitetest.RollAfter {
		s.Must(s.Temporal.SignalWorkflow(t.Context(), id, "", preemption.SignalChannel, strings.Repeat("rubbish", 1000)))
	}
	s.Eventually("it continues as new", func() bool {
		kind, run := s.TypeOf(id)
		return run != first && kind == watchapi.WorkflowType
	})
	s.KeepRun("rolled-while-following", id, first)
	s.Follows()
	s.Alarm("cluster-a", 0, "green", "red")
	sitetest.WantState(t, s.Done(s.Exists(s.Intake("cpu", "cluster-a"))), preemptapi.RoundCompleted, 6)
}

func TestAWatchThatWasTerminatedIsStartedAgainAndOneThatWasCancelledIsNot(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t)
	s.Worker()
	s.Watch(sitetest.QuickWatch)
	ctx, end := context.WithCancel(t.Context())
	defer end()
	go watch.Keep(ctx, s.Temporal, s.Queue, sitetest.QuickWatch, 200*time.Millisecond, s.Log)
	id := watchapi.WorkflowID(s.Queue)
	_, first := s.TypeOf(id)
	s.Must(s.Temporal.TerminateWorkflow(t.Context(), id, "", "history too large"))
	s.Eventually("it is started again", func() bool { _, run := s.TypeOf(id); return run != first })
	s.Follows()
	s.Alarm("cluster-a", 0, "green", "red")
	sitetest.WantState(t, s.Done(s.Exists(s.Intake("cpu", "cluster-a"))), preemptapi.RoundCompleted, 6)
	_, second := s.TypeOf(id)
	s.Must(s.Temporal.CancelWorkflow(t.Context(), id, ""))
	s.Must(s.Temporal.GetWorkflow(t.Context(), id, second).Get(t.Context(), nil))
	time.Sleep(time.Second)
	if _, run := s.TypeOf(id); run != second {
		t.Error("a watch that a person cancelled was started again")
	}
}
