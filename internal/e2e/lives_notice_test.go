package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// liveNoticed is a round whose guests are told: one is ready, one asks for more time, one ignores its shutdown; the
// reply address hears of it before and after.
func liveNoticed(t *testing.T, name string) {
	l := newLife(t)
	p := l.set.Policies["default"]
	p.Criticality.Medium.Notice = clock.Duration(5 * time.Second) // time enough to be ready in, on a slow machine
	l.set.Policies["default"] = p
	vms := l.vc.TaggedVMs("")
	l.vc.GuestReply(vms[1].Ref, func(string) (string, time.Duration) { return "ready", 0 })
	l.vc.GuestReply(vms[2].Ref, func(string) (string, time.Duration) { return "extend 500ms", 0 })
	l.worker()
	req := l.alarmRequest("cluster-a", preemption.CriticalityMedium)
	req.ReplyTo = l.sink.URL
	l.signal("alarm", req)
	r := l.round(l.started("alarm"))
	wantState(t, r, preemptapi.RoundCompleted, lifeVMs)
	wantNotice(t, r, vms[1].Name, "acknowledged")
	l.keep(name, r.RoundID)
}

func liveNoticeWithdrawn(t *testing.T, name string) {
	s := newSite(t, oneCluster(3), notice(time.Minute))
	s.worker()
	vm := s.vc.TaggedVMs("")[0]
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	s.eventually("the guest is told", func() bool { return s.guest(vm) != "" })
	s.change("alarm", "cluster-a", 0, "red", "green")
	r := s.done("alarm")
	wantState(t, r, preemptapi.RoundWithdrawn, 0)
	s.keep(name, s.id("alarm"), r.RoundID)
}

func liveRehearsed(t *testing.T, name string) {
	s := newSite(t, oneCluster(2))
	s.worker()
	req := person(preemption.CriticalityMedium)
	req.VM, req.NoticeOnly, req.Notice = s.vc.TaggedVMs("")[0].Name, true, "500ms"
	s.signal("rehearsal", req)
	r := s.done("rehearsal")
	wantState(t, r, preemptapi.RoundRehearsed, 0)
	s.keep(name, s.id("rehearsal"), r.RoundID)
}

// liveReplaced is a round under a target and a budget, whose first target cannot go.
func liveReplaced(t *testing.T, name string) {
	s := newSite(t, target(88), withPolicy(func(p *policy.Policy) {
		p.Budgets = []policy.Budget{{Scope: true, Max: policy.Amount{N: 5}, Per: clock.Duration(time.Hour)}}
	}))
	s.must(s.vc.SetClusterUsage("cluster-a", 92, 50))
	s.worker()
	first := s.firstChosen("cluster-a")
	s.vc.FailCall("PowerOffVM_Task", &first, &types.NoPermission{}, -1)
	s.signal("alarm", s.alarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.done("alarm")
	if len(r.Preempted()) == 0 || !strings.Contains(strings.Join(r.Changes, " "), "planning for what is still missing") {
		t.Fatal(pretty(r))
	}
	s.keep(name, s.id("alarm"), r.RoundID)
}
