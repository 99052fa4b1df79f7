package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// twins are two sites in one namespace, each with its vCenter, task queue and worker. Their clusters and hosts have the
// same references and names, and both have an alarm of the same name.
func twins(t *testing.T) (one, other *site, alarm string) {
	t.Helper()
	one, other = newSite(t), newSite(t)
	if one.vc.Cluster("cluster-a").Ref != other.vc.Cluster("cluster-a").Ref {
		t.Fatal("the sites are not alike")
	}
	alarm = "cpu-of-" + one.queue
	one.rules, other.rules = rulesOn(alarm), rulesOn(alarm)
	one.worker()
	other.worker()
	return one, other, alarm
}

// red lets an alarm turn red on a host of the first cluster.
func (s *site) red(alarm string) types.AlarmStatusChangedEvent {
	s.t.Helper()
	cl := s.vc.Cluster("cluster-a")
	ev, err := s.vc.PostAlarm(s.t.Context(), simulation.AlarmChange{Name: alarm, Entity: cl.Hosts[0].Ref, From: "green", To: "red", Cluster: cl.Ref})
	if err != nil {
		s.t.Fatal(err)
	}
	return ev
}

func TestTwoVCentersInOneNamespaceArePreemptedEachForItsOwnAlarm(t *testing.T) {
	t.Parallel()
	one, other, alarm := twins(t)
	for _, s := range []*site{one, other} {
		a := s.bring(s.receiver(), routed(t, s.vc.URL(), s.red(alarm)))
		if a.code != http.StatusAccepted || !strings.HasSuffix(a.WorkflowID, "@"+s.queue) {
			t.Fatalf("%+v", a)
		}
	}
	for _, s := range []*site{one, other} {
		s.eventually("its own VMs are off", func() bool { return s.off("cluster-a") == 6 })
	}
}

// The prototype's clients signal the workflow that is called as their alarm, and name no task queue.
func TestThePrototypesClientsOfTwoVCentersInOneNamespaceBothGetTheirVMs(t *testing.T) {
	t.Parallel()
	one, other, alarm := twins(t)
	d := other.ask("earlier", preemption.WorkflowRequest{Tag: "preemptible", Criticality: preemption.CriticalityHigh, Event: plainEvent(), Origin: preemption.OriginPerson, VM: other.vc.TaggedVMs("cluster-b")[0].Name}) // its task queue has a ledger
	other.round(d.RoundID)
	ask := func(s *site) event.Event {
		e := routed(t, s.vc.URL(), s.red(alarm))
		_, err := s.c.SignalWithStartWorkflow(t.Context(), alarm, preemption.SignalChannel,
			preemption.WorkflowRequest{Tag: "preemptible", Criticality: preemption.CriticalityHigh, Event: e},
			client.StartWorkflowOptions{ID: alarm, TaskQueue: s.queue}, preemption.WorkflowName)
		s.must(err)
		return e
	}
	ask(one)
	one.eventually("the first one's VMs are off", func() bool { return one.off("cluster-a") == 6 })
	ask(other)
	other.eventually("the other one's VMs are off", func() bool { return other.off("cluster-a") == 6 })
	v, err := one.c.QueryWorkflow(t.Context(), alarm, "", preemption.WorkFlowQueryType)
	one.must(err)
	var text string
	one.must(v.Get(&text))
	if !strings.Contains(text, string(preemptapi.HandedOn)) || !strings.Contains(text, alarm+"@"+other.queue) || one.off("cluster-b") != 0 {
		t.Errorf("the first one's intake does not say to whom it handed the request on: %s", text)
	}
}
