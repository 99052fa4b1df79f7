package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// liveNoticed is a round whose guests are told: one is ready, one asks for more time, one ignores its shutdown; the
// reply address hears of it before and after.
func liveNoticed(t *testing.T, name string) {
	l := newLife(t)
	p := l.Settings.Policies["default"]
	p.Criticality.Medium.Notice = clock.Duration(5 * time.Second) // time enough to be ready in, on a slow machine
	l.Settings.Policies["default"] = p
	vms := l.VC.TaggedVMs("")
	l.VC.GuestReply(vms[1].Ref, func(string) (string, time.Duration) { return "ready", 0 })
	l.VC.GuestReply(vms[2].Ref, func(string) (string, time.Duration) { return "extend 500ms", 0 })
	l.Worker()
	req := l.AlarmRequest("cluster-a", preemption.CriticalityMedium)
	req.ReplyTo = l.sink.URL
	l.Signal("alarm", req)
	r := l.Round(l.Started("alarm"))
	sitetest.WantState(t, r, preemptapi.RoundCompleted, lifeVMs)
	sitetest.WantNotice(t, r, vms[1].Name, "acknowledged")
	l.Keep(name, r.RoundID)
}

func liveNoticeWithdrawn(t *testing.T, name string) {
	s := sitetest.New(t, sitetest.OneCluster(3), sitetest.WithNotice(time.Minute))
	s.Worker()
	vm := s.VC.TaggedVMs("")[0]
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	s.Eventually("the guest is told", func() bool { return s.Guest(vm) != "" })
	s.Change("alarm", "cluster-a", 0, "red", "green")
	r := s.Done("alarm")
	sitetest.WantState(t, r, preemptapi.RoundWithdrawn, 0)
	s.Keep(name, s.ID("alarm"), r.RoundID)
}

func liveRehearsed(t *testing.T, name string) {
	s := sitetest.New(t, sitetest.OneCluster(2))
	s.Worker()
	req := sitetest.PersonRequest(preemption.CriticalityMedium)
	req.VM, req.NoticeOnly, req.Notice = s.VC.TaggedVMs("")[0].Name, true, "500ms"
	s.Signal("rehearsal", req)
	r := s.Done("rehearsal")
	sitetest.WantState(t, r, preemptapi.RoundRehearsed, 0)
	s.Keep(name, s.ID("rehearsal"), r.RoundID)
}

// liveReplaced is a round under a target and a budget, whose first target cannot go.
func liveReplaced(t *testing.T, name string) {
	s := sitetest.New(t, sitetest.WithTarget(88), sitetest.WithPolicy(func(p *policy.Policy) {
		p.Budgets = []policy.Budget{{Scope: true, Max: policy.Amount{N: 5}, Per: clock.Duration(time.Hour)}}
	}))
	s.Must(s.VC.SetClusterUsage("cluster-a", 92, 50))
	s.Worker()
	first := s.FirstChosen("cluster-a")
	s.VC.FailCall("PowerOffVM_Task", &first, &types.NoPermission{}, -1)
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.Done("alarm")
	if len(r.Preempted()) == 0 || !strings.Contains(strings.Join(r.Changes, " "), "planning for what is still missing") {
		t.Fatal(sitetest.Pretty(r))
	}
	s.Keep(name, s.ID("alarm"), r.RoundID)
}
