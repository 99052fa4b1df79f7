package e2e

import (
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// liveClockCorrected has a fall that is stamped before its rise.
func liveClockCorrected(t *testing.T, name string) {
	s := newSite(t)
	s.worker()
	s.vc.SetClock(10 * time.Minute)
	s.change("alarm", "cluster-a", 0, "green", "red")
	r := s.done("alarm")
	wantState(t, r, preemptapi.RoundCompleted, 6)
	s.vc.SetClock(0)
	s.change("alarm", "cluster-a", 0, "red", "green")
	s.until("alarm", "the fall is known", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
	s.keep(name, s.id("alarm"), r.RoundID)
}

// liveHeld is acknowledged, and repeated until it is no more.
func liveHeld(t *testing.T, name string) {
	s := newSite(t, withPolicy(func(p *policy.Policy) { p.Cooldown = clock.Duration(time.Second) }))
	s.worker()
	red := s.changed("cluster-a", 0, "green", "red")
	host := s.vc.Cluster("cluster-a").Hosts[0].Ref
	s.must(s.vc.SetAlarmActions(host, false))
	s.changes("alarm", red)
	held := s.until("alarm", "it is held", func(r preemptapi.Response) bool { return r.Round != nil && r.Round.State == preemptapi.RoundHeld })
	s.must(s.vc.SetAlarmActions(host, true))
	r := s.until("alarm", "it is acted upon", func(r preemptapi.Response) bool { return r.Round != nil && r.Round.State == preemptapi.RoundCompleted })
	s.keep(name, s.id("alarm"), held.Round.RoundID, r.Round.RoundID)
}

// liveHandedOn is a request that reached the intake of another vCenter.
func liveHandedOn(t *testing.T, name string) {
	one, other, alarm := twins(t)
	d := other.ask("earlier", preemption.WorkflowRequest{
		Tag: "preemptible", Criticality: preemption.CriticalityHigh, Event: plainEvent(), Origin: preemption.OriginPerson,
		VM: other.vc.TaggedVMs("cluster-b")[0].Name,
	})
	other.round(d.RoundID)
	for _, s := range []*site{one, other} {
		_, err := s.c.SignalWithStartWorkflow(t.Context(), alarm, preemption.SignalChannel,
			preemption.WorkflowRequest{Tag: "preemptible", Criticality: preemption.CriticalityHigh, Event: routed(t, s.vc.URL(), s.red(alarm))},
			client.StartWorkflowOptions{ID: alarm, TaskQueue: s.queue}, preemption.WorkflowName)
		s.must(err)
		s.eventually("its VMs are off", func() bool { return s.off("cluster-a") == 6 })
	}
	one.keep(name, alarm)
}
