package e2e

import (
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// liveClockCorrected has a fall that is stamped before its rise.
func liveClockCorrected(t *testing.T, name string) {
	s := sitetest.New(t)
	s.Worker()
	s.VC.SetClock(10 * time.Minute)
	s.Change("alarm", "cluster-a", 0, "green", "red")
	r := s.Done("alarm")
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	s.VC.SetClock(0)
	s.Change("alarm", "cluster-a", 0, "red", "green")
	s.Until("alarm", "the fall is known", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
	s.Keep(name, s.ID("alarm"), r.RoundID)
}

// liveHeld is acknowledged, and repeated until it is no more.
func liveHeld(t *testing.T, name string) {
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.Cooldown = clock.Duration(time.Second) }))
	s.Worker()
	red := s.Changed("cluster-a", 0, "green", "red")
	host := s.VC.Cluster("cluster-a").Hosts[0].Ref
	s.Must(s.VC.SetAlarmActions(host, false))
	s.Changes("alarm", red)
	held := s.Until("alarm", "it is held", func(r preemptapi.Response) bool { return r.Round != nil && r.Round.State == preemptapi.RoundHeld })
	s.Must(s.VC.SetAlarmActions(host, true))
	r := s.Until("alarm", "it is acted upon", func(r preemptapi.Response) bool { return r.Round != nil && r.Round.State == preemptapi.RoundCompleted })
	s.Keep(name, s.ID("alarm"), held.Round.RoundID, r.Round.RoundID)
}

// liveHandedOn is a request that reached the intake of another vCenter.
func liveHandedOn(t *testing.T, name string) {
	one, other, alarm := sitetest.Twins(t)
	d := other.Ask("earlier", preemption.WorkflowRequest{
		Tag: "preemptible", Criticality: preemption.CriticalityHigh, Event: sitetest.PlainEvent(), Origin: preemption.OriginPerson,
		VM: other.VC.TaggedVMs("cluster-b")[0].Name,
	})
	other.Round(d.RoundID)
	for _, s := range []*sitetest.Site{one, other} {
		_, err := s.Temporal.SignalWithStartWorkflow(t.Context(), alarm, preemption.SignalChannel,
			preemption.WorkflowRequest{Tag: "preemptible", Criticality: preemption.CriticalityHigh, Event: sitetest.Routed(t, s.VC.URL(), s.Red(alarm))},
			client.StartWorkflowOptions{ID: alarm, TaskQueue: s.Queue}, preemption.WorkflowName)
		s.Must(err)
		s.Eventually("its VMs are off", func() bool { return s.OffIn("cluster-a") == 6 })
	}
	one.Keep(name, alarm)
}
