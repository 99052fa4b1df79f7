package e2e

import (
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
)

// A host is a part of its cluster: rounds of both follow one another, and the cluster's budget counts what its hosts gave.
func TestARoundOfAHostHoldsBackThatOfItsClusterAndCountsInItsBudget(t *testing.T) {
	t.Parallel()
	s := newSite(t, withSettings(func(set *preempt.Settings) {
		p := set.Policies["default"]
		p.Budgets = []policy.Budget{{Scope: true, Max: policy.Amount{N: 3}}}
		p.Cooldown = clock.Duration(time.Second)
		set.Policies["default"] = p
		p.Scope, p.Budgets = policy.ScopeHost, nil
		set.Policies["by-host"] = p
	}))
	gone := 0
	for _, vm := range s.vc.TaggedVMs("cluster-a") {
		if vm.Host == s.vc.Cluster("cluster-a").Hosts[0].Ref {
			gone++
		}
	}
	s.vc.SetShutdownDelay(4 * time.Second) // the round of the host waits for its guests
	s.worker()
	ofHost := s.alarmRequest("cluster-a", preemption.CriticalityMedium)
	ofHost.Policy = "by-host"
	s.signal("host", ofHost)
	s.eventually("the guests are asked", func() bool { return s.calls("ShutdownGuest") == gone })
	s.signal("cluster", s.alarmRequest("cluster-a", preemption.CriticalityMedium))
	s.eventually("the round of the cluster is put off", func() bool {
		d := s.state("cluster").LastDecision
		return d != nil && d.Verdict == preemptapi.Deferred
	})
	if n := len(s.done("host").Preempted()); n != gone {
		t.Fatalf("%d VMs of the host went, want %d", n, gone)
	}
	r := s.done("cluster")
	if n := len(r.Preempted()); n != max(0, 3-gone) {
		t.Errorf("%d VMs of the cluster went; the budget of 3 had %d left: %s", n, 3-gone, pretty(r))
	}
}
