package e2e

import (
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
)

// A host is a part of its cluster: rounds of both follow one another, and the cluster's budget counts what its hosts gave.
func TestARoundOfAHostHoldsBackThatOfItsClusterAndCountsInItsBudget(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithSettings(func(set *preempt.Settings) {
		p := set.Policies["default"]
		p.Budgets = []policy.Budget{{Scope: true, Max: policy.Amount{N: 3}}}
		p.Cooldown = clock.Duration(time.Second)
		set.Policies["default"] = p
		p.Scope, p.Budgets = policy.ScopeHost, nil
		set.Policies["by-host"] = p
	}))
	gone := 0
	for _, vm := range s.VC.TaggedVMs("cluster-a") {
		if vm.Host == s.VC.Cluster("cluster-a").Hosts[0].Ref {
			gone++
		}
	}
	s.VC.SetShutdownDelay(4 * time.Second) // the round of the host waits for its guests
	s.Worker()
	ofHost := s.AlarmRequest("cluster-a", preemption.CriticalityMedium)
	ofHost.Policy = "by-host"
	s.Signal("host", ofHost)
	s.Eventually("the guests are asked", func() bool { return s.Calls("ShutdownGuest") == gone })
	s.Signal("cluster", s.AlarmRequest("cluster-a", preemption.CriticalityMedium))
	s.Eventually("the round of the cluster is put off", func() bool {
		d := s.State("cluster").LastDecision
		return d != nil && d.Verdict == preemptapi.Deferred
	})
	if n := len(s.Done("host").Preempted()); n != gone {
		t.Fatalf("%d VMs of the host went, want %d", n, gone)
	}
	r := s.Done("cluster")
	if n := len(r.Preempted()); n != max(0, 3-gone) {
		t.Errorf("%d VMs of the cluster went; the budget of 3 had %d left: %s", n, 3-gone, sitetest.Pretty(r))
	}
}
