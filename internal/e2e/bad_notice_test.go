package e2e

import (
	"strings"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

func TestANoticeThatHangsTakesNobodyElsesAway(t *testing.T) {
	t.Parallel()
	const long = 10 * time.Second
	s := newSite(t, oneCluster(3), notice(long))
	vms := s.vc.TaggedVMs("")
	release := s.vc.HangReconfigure(vms[1].Ref)
	s.worker()
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	id := s.started("alarm")
	s.eventually("the others are told", func() bool {
		return strings.Contains(s.guest(vms[0]), `"state":"pending"`) && strings.Contains(s.guest(vms[2]), `"state":"pending"`)
	})
	told := time.Now()
	s.eventually("all are off", func() bool { return s.off("cluster-a") == 3 })
	release() // so that what may have been told can be taken back
	r := s.round(id)
	wantState(t, r, preemptapi.RoundCompleted, 3)
	s.agree(r)
	for _, i := range []int{0, 2} {
		wantNotice(t, r, vms[i].Name, "given")
		if o := of(t, r, vms[i]); o.OffAt.Before(told.Add(long - 5*time.Second)) {
			t.Errorf("%s was told that it has %s, and went after %s", vms[i].Name, long, o.OffAt.Sub(told))
		}
	}
	wantNotice(t, r, vms[1].Name, "perhaps")
	s.eventually("no notice is left", func() bool { return s.guest(vms[1]) == "" })
}
