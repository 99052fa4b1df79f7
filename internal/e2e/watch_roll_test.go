package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
)

func TestAWatchThatOthersSignalRollsWhileItFollowsAndGoesOn(t *testing.T) {
	t.Parallel()
	s := newSiteOn(t, rolling(t))
	s.rules = rulesOn(s.id("cpu"))
	s.worker()
	timing := quickWatch
	timing.Lease = time.Hour // so that nothing but the history's length ends the activity
	s.watch(timing)
	id := watchapi.WorkflowID(s.queue)
	_, first := s.typeOf(id)
	for range rollAfter {
		s.must(s.c.SignalWorkflow(t.Context(), id, "", preemption.SignalChannel, strings.Repeat("rubbish", 1000)))
	}
	s.eventually("it continues as new", func() bool {
		kind, run := s.typeOf(id)
		return run != first && kind == watchapi.WorkflowType
	})
	s.keepRun("rolled-while-following", id, first)
	s.follows()
	s.alarm("cluster-a", 0, "green", "red")
	wantState(t, s.done(s.exists(s.intake("cpu", "cluster-a"))), preemptapi.RoundCompleted, 6)
}

func TestAWatchThatWasTerminatedIsStartedAgainAndOneThatWasCancelledIsNot(t *testing.T) {
	t.Parallel()
	s := watched(t)
	s.worker()
	s.watch(quickWatch)
	ctx, end := context.WithCancel(t.Context())
	defer end()
	go watch.Keep(ctx, s.c, s.queue, quickWatch, 200*time.Millisecond, s.log)
	id := watchapi.WorkflowID(s.queue)
	_, first := s.typeOf(id)
	s.must(s.c.TerminateWorkflow(t.Context(), id, "", "history too large"))
	s.eventually("it is started again", func() bool { _, run := s.typeOf(id); return run != first })
	s.follows()
	s.alarm("cluster-a", 0, "green", "red")
	wantState(t, s.done(s.exists(s.intake("cpu", "cluster-a"))), preemptapi.RoundCompleted, 6)
	_, second := s.typeOf(id)
	s.must(s.c.CancelWorkflow(t.Context(), id, ""))
	s.must(s.c.GetWorkflow(t.Context(), id, second).Get(t.Context(), nil))
	time.Sleep(time.Second)
	if _, run := s.typeOf(id); run != second {
		t.Error("a watch that a person cancelled was started again")
	}
}
