package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
)

// misled puts what the faulty continue-as-new made in the place of the site's ledger: a run of the watch's type with the
// ledger's input.
func (s *site) misled(in any) {
	s.t.Helper()
	id := ledger.WorkflowID(s.queue)
	s.must(s.c.TerminateWorkflow(s.t.Context(), id, "", "the test puts another in its place"))
	_, err := s.c.ExecuteWorkflow(s.t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: s.queue}, watchapi.WorkflowType, in)
	if err != nil {
		s.t.Fatal(err)
	}
}

// healed waits until the ledger is one.
func (s *site) healed() {
	s.t.Helper()
	s.eventually("the ledger is replaced", func() bool {
		kind, _ := s.typeOf(ledger.WorkflowID(s.queue))
		return kind == ledger.WorkflowType
	})
}

// stubborn is a site with a LOW round under way in cluster-a that waits for its guests, and one in cluster-b that has ended.
func stubborn(t *testing.T) (s *site, under, ended string) {
	t.Helper()
	s = newSite(t, withPolicy(func(p *policy.Policy) {
		p.Cooldown = clock.Duration(time.Hour)
		p.Criticality.Low.GracePeriod = clock.Duration(10 * time.Minute)
		p.LateWatch = 0
	}))
	for _, vm := range s.vc.TaggedVMs("cluster-a") {
		s.vc.IgnoreShutdown(vm.Ref)
	}
	s.worker()
	s.signal("done", s.alarmRequest("cluster-b", preemption.CriticalityHigh))
	ended = s.done("done").RoundID
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityLow))
	under = s.started("alarm")
	s.eventually("the guests are asked", func() bool { return s.vc.Calls()["ShutdownGuest"] == 6 })
	s.eventually("the ledger knows", func() bool {
		st := s.ledger()
		return len(st.Reserved) == 6 && st.Scopes[s.cluster("cluster-b").String()].Active == ""
	})
	return s, under, ended
}

// wantHeld checks that the ledger knows of the round under way in cluster-a, and does not begin another.
func (s *site) wantHeld(under string) {
	s.t.Helper()
	st := s.ledger()
	if sc := st.Scopes[s.cluster("cluster-a").String()]; sc == nil || sc.Active != under {
		s.t.Errorf("the round under way is not known: %s", pretty(st))
	}
	if len(st.Reserved) != 6 || len(st.Loads) != 6 {
		s.t.Errorf("%d VMs are reserved, with %d loads, want 6", len(st.Reserved), len(st.Loads))
	}
	if d := s.ask("person", s.alarmRequestBy("cluster-a")); d.Verdict != preemptapi.Joined && d.Verdict != preemptapi.Refused {
		s.t.Errorf("beside the round under way another is %s", pretty(d))
	}
}

// alarmRequestBy is a person's LOW request in the scope of a cluster.
func (s *site) alarmRequestBy(cluster string) preemption.WorkflowRequest {
	r := s.alarmRequest(cluster, preemption.CriticalityLow)
	r.Origin, r.ID = preemption.OriginPerson, fmt.Sprintf("person-%d", nextID.Add(1))
	return r
}

func TestALedgerThatRunsAsTheWatchIsReplacedAndKeepsAllItHeld(t *testing.T) {
	t.Parallel()
	s, under, ended := stubborn(t)
	before := s.ledger()
	s.workers[0].stop()
	s.misled(ledger.Input{State: before, Sweep: time.Hour})

	w := s.worker()
	s.healed()
	s.wantHeld(under)
	if _, taken, _ := w.keeper.Report(); len(taken) != 1 || !strings.Contains(taken[0], watchapi.WorkflowType) {
		t.Errorf("the worker says %v", taken)
	}
	l, ctx, b := s.ledgerClient(), t.Context(), s.cluster("cluster-b").String()
	a, err := l.Admit(ctx, ledger.AdmitRequest{RequestID: "new", Scope: b, Owner: "new", Rank: 3})
	if err != nil || a.Verdict != ledger.Cooldown || a.Owner != ended {
		t.Errorf("the cooldown: %+v, %v", a, err)
	}
	a, err = l.Admit(ctx, ledger.AdmitRequest{RequestID: before.Seen[0].RequestID, Scope: b, Owner: "new", Rank: 4})
	if err != nil || a.Verdict != ledger.Duplicate {
		t.Errorf("a request that was acted on: %+v, %v", a, err)
	}
	f, err := l.Facts(ctx, ledger.FactsRequest{Owner: "new", Scope: b})
	if err != nil || len(f.Preempted) != 6 || len(f.Evictions) != 6 {
		t.Errorf("what budgets count: %+v, %v", f, err)
	}
	s.must(s.c.CancelWorkflow(ctx, under, ""))
	if r := s.round(under); r.State != preemptapi.RoundWithdrawn || len(r.Targets) != 6 {
		t.Errorf("the round under way ended so: %s", pretty(r))
	}
	s.eventually("its VMs are free", func() bool { return len(s.ledger().Reserved) == 0 })
	s.signal("next", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	wantState(t, s.done("next"), preemptapi.RoundCompleted, 6)
}

func TestALedgerWhoseStateIsLostIsRebuiltFromTheRoundsUnderWay(t *testing.T) {
	t.Parallel()
	s, under, _ := stubborn(t)
	s.workers[0].stop()
	s.misled(watch.Input{Timing: watch.DefaultTiming()})
	s.worker()
	s.healed()
	s.wantHeld(under)
	s.must(s.c.CancelWorkflow(t.Context(), under, ""))
	s.round(under)
	s.eventually("its VMs are free", func() bool { return len(s.ledger().Reserved) == 0 })
}

func TestARoundThatEndedWhileTheLedgerWasNoneCountsAllTheSame(t *testing.T) {
	t.Parallel()
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.Cooldown = clock.Duration(time.Hour) }))
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.done("alarm")
	s.round(r.RoundID) // has closed
	s.workers[0].stop()
	// As if it had ended an hour ago for the ledger's hearing, and had been given up.
	a := s.cluster("cluster-a").String()
	state := ledger.State{Scopes: map[string]*ledger.Scope{a: {Active: r.RoundID, ActiveRank: 3}}, Reserved: map[string]string{}}
	for _, vm := range r.Preempted() {
		state.Reserved[vm.String()] = r.RoundID
	}
	s.misled(ledger.Input{State: state, Sweep: time.Hour})
	s.worker()
	s.healed()
	st := s.ledger()
	if sc := st.Scopes[a]; sc.Active != "" || sc.LastOwner != r.RoundID || sc.Until.Before(time.Now()) || len(st.Reserved) > 0 {
		t.Errorf("the ledger holds %s", pretty(st))
	}
	if f, err := s.ledgerClient().Facts(t.Context(), ledger.FactsRequest{Scope: a}); err != nil || len(f.Preempted) != 6 {
		t.Errorf("what budgets count: %+v, %v", f, err)
	}
}

// TestTheStateIsFoundHoweverOftenTheWrongLedgerRolled makes the chain of runs that the fault made: a ledger that continued
// as the watch, which continued as itself with an input of its own.
func TestTheStateIsFoundHoweverOftenTheWrongLedgerRolled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	faulty := worker.New(s.c, s.queue, worker.Options{})
	faulty.RegisterWorkflowWithOptions(func(ctx workflow.Context, in ledger.Input) error {
		return workflow.NewContinueAsNewError(ctx, watchapi.WorkflowType, in)
	}, workflow.RegisterOptions{Name: ledger.WorkflowType})
	faulty.RegisterWorkflowWithOptions(func(ctx workflow.Context, in watch.Input) error {
		if in.State.Checkpoint.Events < 3 {
			in.State.Checkpoint.Events++
			return workflow.NewContinueAsNewError(ctx, watchapi.WorkflowType, in)
		}
		return workflow.Await(ctx, func() bool { return false })
	}, workflow.RegisterOptions{Name: watchapi.WorkflowType})
	s.must(faulty.Start())
	id, scope := ledger.WorkflowID(s.queue), s.cluster("cluster-a").String()
	until := time.Now().Add(time.Hour).UTC()
	_, err := s.c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: s.queue}, ledger.WorkflowType, ledger.Input{
		State: ledger.State{Scopes: map[string]*ledger.Scope{scope: {LastOwner: "earlier", Until: until, HighestRank: 2}}},
	})
	s.must(err)
	s.eventually("it runs as the watch and has rolled", func() bool {
		d, err := s.c.DescribeWorkflowExecution(t.Context(), id, "")
		return err == nil && d.GetWorkflowExecutionInfo().GetType().GetName() == watchapi.WorkflowType &&
			d.GetWorkflowExecutionInfo().GetHistoryLength() == 4 && d.GetPendingWorkflowTask() == nil
	})
	time.Sleep(100 * time.Millisecond)
	faulty.Stop()

	s.worker()
	s.healed()
	if sc := s.ledger().Scopes[scope]; sc == nil || !sc.Until.Equal(until) || sc.LastOwner != "earlier" {
		t.Errorf("the ledger holds %s", pretty(s.ledger()))
	}
}

func TestAWrongLedgerIsNamedInTheError(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	w := s.worker()
	s.must(s.ledgerClient().Raise(t.Context(), ledger.RaiseRequest{}))
	w.end() // nobody takes over
	s.misled(ledger.Input{})
	_, err := s.ledgerClient().Facts(t.Context(), ledger.FactsRequest{})
	if err == nil || !strings.Contains(err.Error(), "runs as a "+watchapi.WorkflowType) || !strings.Contains(err.Error(), "a worker replaces it") {
		t.Errorf("the error says: %v", err)
	}
}
