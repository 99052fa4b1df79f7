package faults

import (
	"strings"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
)

func TestANoticeThatHangsTakesNobodyElsesAway(t *testing.T) {
	t.Parallel()
	const long = 10 * time.Second
	s := sitetest.New(t, sitetest.OneCluster(3), sitetest.WithNotice(long))
	vms := s.VC.TaggedVMs("")
	release := s.VC.HangReconfigure(vms[1].Ref)
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	id := s.Started("alarm")
	s.Eventually("the others are told", func() bool {
		return strings.Contains(s.Guest(vms[0]), `"state":"pending"`) && strings.Contains(s.Guest(vms[2]), `"state":"pending"`)
	})
	told := time.Now()
	s.Eventually("all are off", func() bool { return s.OffIn("cluster-a") == 3 })
	release() // so that what may have been told can be taken back
	r := s.Round(id)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 3)
	s.Agree(r)
	for _, i := range []int{0, 2} {
		sitetest.WantNotice(t, r, vms[i].Name, "given")
		if o := sitetest.OutcomeOf(t, r, vms[i]); o.OffAt.Before(told.Add(long - 5*time.Second)) {
			t.Errorf("%s was told that it has %s, and went after %s", vms[i].Name, long, o.OffAt.Sub(told))
		}
	}
	sitetest.WantNotice(t, r, vms[1].Name, "perhaps")
	s.Eventually("no notice is left", func() bool { return s.Guest(vms[1]) == "" })
}
