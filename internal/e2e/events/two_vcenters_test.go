package events

import (
	"net/http"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
)

func TestTwoVCentersInOneNamespaceArePreemptedEachForItsOwnAlarm(t *testing.T) {
	t.Parallel()
	one, other, alarm := sitetest.Twins(t)
	for _, s := range []*sitetest.Site{one, other} {
		a := s.Bring(s.Receiver(), sitetest.Routed(t, s.VC.URL(), s.Red(alarm)))
		if a.Code != http.StatusAccepted || !strings.HasSuffix(a.WorkflowID, "@"+s.Queue) {
			t.Fatalf("%+v", a)
		}
	}
	for _, s := range []*sitetest.Site{one, other} {
		s.Eventually("its own VMs are off", func() bool { return s.OffIn("cluster-a") == 6 })
	}
}

// The prototype's clients signal the workflow that is called as their alarm, and name no task queue.
func TestThePrototypesClientsOfTwoVCentersInOneNamespaceBothGetTheirVMs(t *testing.T) {
	t.Parallel()
	one, other, alarm := sitetest.Twins(t)
	d := other.Ask("earlier", preemption.WorkflowRequest{Tag: "preemptible", Criticality: preemption.CriticalityHigh, Event: sitetest.PlainEvent(), Origin: preemption.OriginPerson, VM: other.VC.TaggedVMs("cluster-b")[0].Name}) // its task queue has a ledger
	other.Round(d.RoundID)
	ask := func(s *sitetest.Site) event.Event {
		e := sitetest.Routed(t, s.VC.URL(), s.Red(alarm))
		_, err := s.Temporal.SignalWithStartWorkflow(t.Context(), alarm, preemption.SignalChannel,
			preemption.WorkflowRequest{Tag: "preemptible", Criticality: preemption.CriticalityHigh, Event: e},
			client.StartWorkflowOptions{ID: alarm, TaskQueue: s.Queue}, preemption.WorkflowName)
		s.Must(err)
		return e
	}
	ask(one)
	one.Eventually("the first one's VMs are off", func() bool { return one.OffIn("cluster-a") == 6 })
	ask(other)
	other.Eventually("the other one's VMs are off", func() bool { return other.OffIn("cluster-a") == 6 })
	v, err := one.Temporal.QueryWorkflow(t.Context(), alarm, "", preemption.WorkFlowQueryType)
	one.Must(err)
	var text string
	one.Must(v.Get(&text))
	if !strings.Contains(text, string(preemptapi.HandedOn)) || !strings.Contains(text, alarm+"@"+other.Queue) || one.OffIn("cluster-b") != 0 {
		t.Errorf("the first one's intake does not say to whom it handed the request on: %s", text)
	}
}
