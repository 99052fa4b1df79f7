package faults

import (
	"fmt"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
)

// rolls does something again and again until the workflow has continued as new often enough, and checks its type.
func rolls(s *sitetest.Site, id, kind string, times int, do func(i int)) {
	s.T.Helper()
	_, last := s.TypeOf(id)
	deadline := time.Now().Add(2 * time.Minute)
	for i := 0; times > 0; i++ {
		if time.Now().After(deadline) {
			s.T.Fatalf("%s did not roll: %d rolls are missing", id, times)
		}
		do(i)
		got, run := s.TypeOf(id)
		if got != kind {
			s.T.Fatalf("%s went on as %s, not as %s", id, got, kind)
		}
		if run != last {
			last, times = run, times-1
		}
	}
}

// ledgerClient asks the site's ledger as an activity does.
func ledgerClient(s *sitetest.Site) ledger.Client {
	return ledger.Client{Temporal: s.Temporal, TaskQueue: s.Queue, Sweep: s.Settings.Timing.Sweep}
}

func TestALedgerThatRollsMoreOftenThanItSweepsSweepsAllTheSame(t *testing.T) {
	t.Parallel()
	s := sitetest.NewOn(t, sitetest.Rolling(t))
	s.Worker()
	l, scope := ledgerClient(s), s.Cluster("cluster-a").String()
	l.Sweep = 10 * time.Second
	// Of a round whose worker died between the admission and the start.
	_, err := l.Admit(t.Context(), ledger.AdmitRequest{RequestID: "request", Scope: scope, Owner: "never-begun", Rank: 2})
	s.Must(err)
	began := time.Now()
	_, run := s.TypeOf(ledger.WorkflowID(s.Queue))
	rolls := 0
	for s.Ledger().Scopes[scope].Active != "" {
		if time.Since(began) > time.Minute {
			t.Fatalf("its scope is held for ever: the ledger rolled %d times", rolls)
		}
		_, err := l.Facts(t.Context(), ledger.FactsRequest{Owner: "another", Scope: scope})
		s.Must(err)
		if _, now := s.TypeOf(ledger.WorkflowID(s.Queue)); now != run {
			run, rolls = now, rolls+1
		}
	}
	if rolls < 2 {
		t.Errorf("the ledger rolled %d times: nothing was tried", rolls)
	}
}

func TestTheLedgerKeepsAllThatHoldsWhenItRolls(t *testing.T) {
	t.Parallel()
	s := sitetest.NewOn(t, sitetest.Rolling(t))
	s.Worker()
	l, ctx := ledgerClient(s), t.Context()
	l.Sweep = time.Hour // the owners of this test are no workflows
	now := time.Now()
	scope := func(i int) string { return fmt.Sprintf("ClusterComputeResource:domain-c%d", i) }

	admit := func(owner string, in string) ledger.Admission {
		t.Helper()
		a, err := l.Admit(ctx, ledger.AdmitRequest{RequestID: "of-" + owner, Scope: in, Owner: owner, Rank: 2})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	admit("done", scope(1))
	s.Must(l.Complete(ctx, ledger.CompleteRequest{
		Owner: "done", Scope: scope(1), Preempted: 1, Rank: 2, Cooldown: time.Hour, Evicted: []ledger.Evicted{{VM: "VirtualMachine:vm-1", Time: now}},
	}))
	admit("busy", scope(2))
	r, err := l.Reserve(ctx, ledger.ReserveRequest{
		Owner: "busy", Scope: scope(2), VMs: []string{"VirtualMachine:vm-2"}, Loads: map[string]ledger.Load{"VirtualMachine:vm-2": {Host: "HostSystem:h", CPUMHz: 7}},
	})
	if err != nil || !r.Granted {
		t.Fatal(r, err)
	}
	g, err := l.Remedy(ctx, ledger.RemedyRequest{Owner: "resize", VM: "VirtualMachine:vm-3", What: placement.KindResize, Cooldown: time.Hour})
	if err != nil || !g.Granted {
		t.Fatal(g, err)
	}
	s.Must(l.Remedied(ctx, ledger.RemediedRequest{Owner: "resize", VM: "VirtualMachine:vm-3", What: placement.KindResize, Acted: true}))

	rolls(s, ledger.WorkflowID(s.Queue), ledger.WorkflowType, 3, func(int) {
		if _, err := l.Facts(ctx, ledger.FactsRequest{Owner: "other", Scope: scope(1)}); err != nil {
			t.Fatal(err)
		}
	})

	if a := admit("next", scope(1)); a.Verdict != ledger.Cooldown || a.Owner != "done" {
		t.Errorf("the cooldown: %+v", a)
	}
	if a := admit("next", scope(2)); a.Verdict != ledger.Busy || a.Owner != "busy" {
		t.Errorf("the round under way: %+v", a)
	}
	if a, err := l.Admit(ctx, ledger.AdmitRequest{RequestID: "of-done", Scope: scope(1), Owner: "again", Rank: 3}); err != nil || a.Verdict != ledger.Duplicate {
		t.Errorf("a request that was acted on: %+v, %v", a, err)
	}
	if r, err := l.Reserve(ctx, ledger.ReserveRequest{Owner: "next", VMs: []string{"VirtualMachine:vm-2"}}); err != nil || len(r.Conflicts) != 1 {
		t.Errorf("the reservation: %+v, %v", r, err)
	}
	f, err := l.Facts(ctx, ledger.FactsRequest{Owner: "next", Scope: scope(1)})
	if err != nil || f.Preempted["VirtualMachine:vm-1"] != 1 || len(f.Evictions) != 1 || len(f.Reserved) != 1 {
		t.Errorf("what budgets count: %+v, %v", f, err)
	}
	m, err := l.RemedyFacts(ctx, ledger.RemedyFactsRequest{})
	if err != nil || m.Actions != 1 || len(m.Last) != 1 {
		t.Errorf("what remediation counts: %+v, %v", m, err)
	}
}
