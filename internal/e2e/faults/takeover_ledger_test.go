package faults

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
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
)

// misled puts what the faulty continue-as-new made in the place of the site's ledger: a run of the watch's type with the
// ledger's input.
func misled(s *sitetest.Site, in any) {
	s.T.Helper()
	id := ledger.WorkflowID(s.Queue)
	s.Must(s.Temporal.TerminateWorkflow(s.T.Context(), id, "", "the test puts another in its place"))
	_, err := s.Temporal.ExecuteWorkflow(s.T.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: s.Queue}, watchapi.WorkflowType, in)
	if err != nil {
		s.T.Fatal(err)
	}
}

// healed waits until the ledger is one.
func healed(s *sitetest.Site) {
	s.T.Helper()
	s.Eventually("the ledger is replaced", func() bool {
		kind, _ := s.TypeOf(ledger.WorkflowID(s.Queue))
		return kind == ledger.WorkflowType
	})
}

// stubborn is a site with a LOW round under way in cluster-a that waits for its guests, and one in cluster-b that has ended.
func stubborn(t *testing.T) (s *sitetest.Site, under, ended string) {
	t.Helper()
	s = sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) {
		p.Cooldown = clock.Duration(time.Hour)
		p.Criticality.Low.GracePeriod = clock.Duration(10 * time.Minute)
		p.LateWatch = 0
	}))
	for _, vm := range s.VC.TaggedVMs("cluster-a") {
		s.VC.IgnoreShutdown(vm.Ref)
	}
	s.Worker()
	s.Signal("done", s.AlarmRequest("cluster-b", preemption.CriticalityHigh))
	ended = s.Done("done").RoundID
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityLow))
	under = s.Started("alarm")
	s.Eventually("the guests are asked", func() bool { return s.VC.Calls()["ShutdownGuest"] == 6 })
	s.Eventually("the ledger knows", func() bool {
		st := s.Ledger()
		return len(st.Reserved) == 6 && st.Scopes[s.Cluster("cluster-b").String()].Active == ""
	})
	return s, under, ended
}

// wantHeld checks that the ledger knows of the round under way in cluster-a, and does not begin another.
func wantHeld(s *sitetest.Site, under string) {
	s.T.Helper()
	st := s.Ledger()
	if sc := st.Scopes[s.Cluster("cluster-a").String()]; sc == nil || sc.Active != under {
		s.T.Errorf("the round under way is not known: %s", sitetest.Pretty(st))
	}
	if len(st.Reserved) != 6 || len(st.Loads) != 6 {
		s.T.Errorf("%d VMs are reserved, with %d loads, want 6", len(st.Reserved), len(st.Loads))
	}
	if d := s.Ask("person", alarmRequestBy(s, "cluster-a")); d.Verdict != preemptapi.Joined && d.Verdict != preemptapi.Refused {
		s.T.Errorf("beside the round under way another is %s", sitetest.Pretty(d))
	}
}

// alarmRequestBy is a person's LOW request in the scope of a cluster.
func alarmRequestBy(s *sitetest.Site, cluster string) preemption.WorkflowRequest {
	r := s.AlarmRequest(cluster, preemption.CriticalityLow)
	r.Origin, r.ID = preemption.OriginPerson, fmt.Sprintf("person-%d", sitetest.NextID.Add(1))
	return r
}

func TestALedgerThatRunsAsTheWatchIsReplacedAndKeepsAllItHeld(t *testing.T) {
	t.Parallel()
	s, under, ended := stubborn(t)
	before := s.Ledger()
	s.Workers[0].Stop()
	misled(s, ledger.Input{State: before, Sweep: time.Hour})

	w := s.Worker()
	healed(s)
	wantHeld(s, under)
	if _, taken, _ := w.Keeper.Report(); len(taken) != 1 || !strings.Contains(taken[0], watchapi.WorkflowType) {
		t.Errorf("the worker says %v", taken)
	}
	l, ctx, b := ledgerClient(s), t.Context(), s.Cluster("cluster-b").String()
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
	s.Must(s.Temporal.CancelWorkflow(ctx, under, ""))
	if r := s.Round(under); r.State != preemptapi.RoundWithdrawn || len(r.Targets) != 6 {
		t.Errorf("the round under way ended so: %s", sitetest.Pretty(r))
	}
	s.Eventually("its VMs are free", func() bool { return len(s.Ledger().Reserved) == 0 })
	s.Signal("next", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	sitetest.WantState(t, s.Done("next"), preemptapi.RoundCompleted, 6)
}

func TestALedgerWhoseStateIsLostIsRebuiltFromTheRoundsUnderWay(t *testing.T) {
	t.Parallel()
	s, under, _ := stubborn(t)
	s.Workers[0].Stop()
	misled(s, watch.Input{Timing: watch.DefaultTiming()})
	s.Worker()
	healed(s)
	wantHeld(s, under)
	s.Must(s.Temporal.CancelWorkflow(t.Context(), under, ""))
	s.Round(under)
	s.Eventually("its VMs are free", func() bool { return len(s.Ledger().Reserved) == 0 })
}

func TestARoundThatEndedWhileTheLedgerWasNoneCountsAllTheSame(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.Cooldown = clock.Duration(time.Hour) }))
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.Done("alarm")
	s.Round(r.RoundID) // has closed
	s.Workers[0].Stop()
	// As if it had ended an hour ago for the ledger's hearing, and had been given up.
	a := s.Cluster("cluster-a").String()
	state := ledger.State{Scopes: map[string]*ledger.Scope{a: {Active: r.RoundID, ActiveRank: 3}}, Reserved: map[string]string{}}
	for _, vm := range r.Preempted() {
		state.Reserved[vm.String()] = r.RoundID
	}
	misled(s, ledger.Input{State: state, Sweep: time.Hour})
	s.Worker()
	healed(s)
	st := s.Ledger()
	if sc := st.Scopes[a]; sc.Active != "" || sc.LastOwner != r.RoundID || sc.Until.Before(time.Now()) || len(st.Reserved) > 0 {
		t.Errorf("the ledger holds %s", sitetest.Pretty(st))
	}
	if f, err := ledgerClient(s).Facts(t.Context(), ledger.FactsRequest{Scope: a}); err != nil || len(f.Preempted) != 6 {
		t.Errorf("what budgets count: %+v, %v", f, err)
	}
}

// TestTheStateIsFoundHoweverOftenTheWrongLedgerRolled makes the chain of runs that the fault made: a ledger that continued
// as the watch, which continued as itself with an input of its own.
func TestTheStateIsFoundHoweverOftenTheWrongLedgerRolled(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	faulty := worker.New(s.Temporal, s.Queue, worker.Options{})
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
	s.Must(faulty.Start())
	id, scope := ledger.WorkflowID(s.Queue), s.Cluster("cluster-a").String()
	until := time.Now().Add(time.Hour).UTC()
	_, err := s.Temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: s.Queue}, ledger.WorkflowType, ledger.Input{
		State: ledger.State{Scopes: map[string]*ledger.Scope{scope: {LastOwner: "earlier", Until: until, HighestRank: 2}}},
	})
	s.Must(err)
	s.Eventually("it runs as the watch and has rolled", func() bool {
		d, err := s.Temporal.DescribeWorkflowExecution(t.Context(), id, "")
		return err == nil && d.GetWorkflowExecutionInfo().GetType().GetName() == watchapi.WorkflowType &&
			d.GetWorkflowExecutionInfo().GetHistoryLength() == 4 && d.GetPendingWorkflowTask() == nil
	})
	time.Sleep(100 * time.Millisecond)
	faulty.Stop()

	s.Worker()
	healed(s)
	if sc := s.Ledger().Scopes[scope]; sc == nil || !sc.Until.Equal(until) || sc.LastOwner != "earlier" {
		t.Errorf("the ledger holds %s", sitetest.Pretty(s.Ledger()))
	}
}

func TestAWrongLedgerIsNamedInTheError(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	w := s.Worker()
	s.Must(ledgerClient(s).Raise(t.Context(), ledger.RaiseRequest{}))
	w.End() // nobody takes over
	misled(s, ledger.Input{})
	_, err := ledgerClient(s).Facts(t.Context(), ledger.FactsRequest{})
	if err == nil || !strings.Contains(err.Error(), "runs as a "+watchapi.WorkflowType) || !strings.Contains(err.Error(), "a worker replaces it") {
		t.Errorf("the error says: %v", err)
	}
}
