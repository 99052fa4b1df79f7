package e2e

import (
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// liveLookedUp is a LOW round at the end of whose grace period vCenter is away.
func liveLookedUp(t *testing.T, name string) {
	s := sitetest.New(t, sitetest.OneCluster(2), sitetest.LateGuests(time.Second), sitetest.WithPolicy(func(p *policy.Policy) {
		p.Criticality.Low.GracePeriod = clock.Duration(2 * time.Second)
	}))
	s.Deaf()
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityLow))
	round := s.Started("alarm")
	s.Reaches(round, preemptapi.RoundWaiting)
	s.VC.Outage()
	s.Must(s.GuestOff(s.VC.TaggedVMs("")[0].Ref))
	time.Sleep(4 * time.Second)
	s.VC.Recover()
	r := s.Round(round)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 1)
	s.Keep(name, round)
}

// liveLookedUpRaised is raised while vCenter is away at the end of its grace period.
func liveLookedUpRaised(t *testing.T, name string) {
	s, r := sitetest.RaisedWhileAway(t)
	s.Keep(name, r.RoundID)
}
