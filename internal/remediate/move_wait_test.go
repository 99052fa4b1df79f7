package remediate_test

import (
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
)

func TestWhereOthersHaveAllThatCouldBeMovedItWaitsForThem(t *testing.T) {
	s := storing(t, 4)
	for _, vm := range []int{1, 2, 3, 4} {
		s.ledger.Remedy(s.env.Now(), ledger.RemedyRequest{Owner: "move@other", VM: web(vm).Ref.String(), What: placement.KindMove})
	}
	s.env.RegisterDelayedCallback(func() {
		for _, vm := range []int{1, 2, 3, 4} {
			s.ledger.Remedied(s.env.Now(), ledger.RemediedRequest{Owner: "move@other", VM: web(vm).Ref.String(), What: placement.KindMove})
		}
	}, 10*time.Minute)
	s.decided(fullAlarm(), remediateapi.Applied, "moved from store-1")
	if len(s.done) != 2 {
		t.Errorf("moved %v", s.done)
	}
}

func TestWhereAllMovedAShortTimeAgoItWaitsUntilTheyMayMoveAgain(t *testing.T) {
	for name, c := range map[string]struct {
		cooldown time.Duration
		moved    int
		atMost   time.Duration
	}{
		"within its patience":              {time.Hour, 2, 90 * time.Minute},
		"not for longer than its patience": {24 * time.Hour, 0, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			s := storing(t, 4)
			for _, vm := range []int{1, 2, 3, 4} {
				r := ledger.RemedyRequest{Owner: "move@other", VM: web(vm).Ref.String(), What: placement.KindMove, Cooldown: c.cooldown}
				s.ledger.Remedy(s.env.Now(), r)
				s.ledger.Remedied(s.env.Now(), ledger.RemediedRequest{Owner: r.Owner, VM: r.VM, What: r.What, Acted: true})
			}
			req, began := fullAlarm(), s.env.Now()
			req.Move.Cooldown = clock.Duration(c.cooldown)
			all := s.decide(placement.KindMove, req)
			took := s.env.Now().Sub(began)
			if len(s.done) != c.moved || took > c.atMost || c.moved > 0 && took < c.cooldown-time.Minute {
				t.Errorf("moved %v after %s: %+v", s.done, took, all)
			}
		})
	}
}

func TestWhereOthersKeepAllThatCouldBeMovedItGivesUpInTheEnd(t *testing.T) {
	s := storing(t, 2)
	for _, vm := range []int{1, 2} {
		s.ledger.Remedy(s.env.Now(), ledger.RemedyRequest{Owner: "round-7", VM: web(vm).Ref.String(), What: "evict"})
	}
	began := s.env.Now()
	all := s.decide(placement.KindMove, fullAlarm())
	if len(all) != 1 || all[0].State != remediateapi.Infeasible || !all[0].Until.IsZero() || len(s.done) != 0 {
		t.Errorf("%+v, moved %v", all, s.done)
	}
	if waited := s.env.Now().Sub(began); waited < 2*time.Hour || waited > 4*time.Hour {
		t.Errorf("it waited for %s", waited)
	}
}
