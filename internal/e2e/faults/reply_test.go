package faults

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// replied runs a round that replies to the address.
func replied(s *sitetest.Site, target string, c preemption.Criticality) (preemptapi.RoundResult, preemption.WorkflowRequest) {
	s.T.Helper()
	s.Worker()
	req := s.AlarmRequest("cluster-a", c)
	req.ReplyTo = target
	s.Signal("alarm", req)
	return s.Round(s.Started("alarm")), req
}

func TestTheReplyIsTheDocumentedCloudEvent(t *testing.T) {
	t.Parallel()
	s, box := sitetest.New(t), sitetest.NewMailbox(t)
	r, req := replied(s, box.URL, preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	if !r.ReplySent || r.ReplyError != "" {
		t.Errorf("sent=%v, error %q", r.ReplySent, r.ReplyError)
	}
	_, taken := box.Got()
	if len(taken) != 1 {
		t.Fatalf("%d events came", len(taken))
	}
	h := taken[0].Header
	if got := h.Get("Ce-Type"); got != "com.vmware.workflows.vsphere.VmPreemptedEvent.v0" {
		t.Errorf("type %q", got)
	}
	if got, want := h.Get("Ce-Id"), s.ID("alarm")+"-"+req.Event.ID(); got != want {
		t.Errorf("id %q, want %q", got, want)
	}
	// Temporal is named by an IP address and port here, which alone is no valid source.
	source, want := h.Get("Ce-Source"), sitetest.Shared.HostPort()+"/"+sitetest.Shared.Namespace()
	if u, err := url.Parse(source); err != nil || u.Host+u.Path != want {
		t.Errorf("source %q (%v), want a URI reference of %q", source, err, want)
	}
	var data struct {
		Preempted       bool
		Tag             string
		ForcedShutdown  bool
		Criticality     string
		WorkflowID      string
		WorkflowStarted string
		Event           map[string]any
		VirtualMachines []vsphere.Ref
	}
	if err := json.Unmarshal(taken[0].Body, &data); err != nil {
		t.Fatal(err)
	}
	if !data.Preempted || data.Tag != "preemptible" || !data.ForcedShutdown || data.Criticality != "HIGH" || data.WorkflowID != s.ID("alarm") ||
		data.WorkflowStarted == "" || data.Event["id"] != req.Event.ID() || len(data.VirtualMachines) != 6 {
		t.Errorf("data: %s", taken[0].Body)
	}
}

func TestAReplyOfGuestShutdownsAloneTellsOfNoForce(t *testing.T) {
	t.Parallel()
	s, box := sitetest.New(t), sitetest.NewMailbox(t)
	replied(s, box.URL, preemption.CriticalityMedium)
	_, taken := box.Got()
	if len(taken) != 1 || !sitetest.ContainsAll(string(taken[0].Body), `"forcedShutdown":false`, `"preempted":true`) {
		t.Errorf("events: %+v", taken)
	}
}

func TestAReplyAddressThatFailsForAWhileGetsTheEventOnceUnderTheSameID(t *testing.T) {
	t.Parallel()
	s, box := sitetest.New(t), sitetest.NewMailbox(t)
	box.Refuse = []int{503, 503, 429, 500}
	r, _ := replied(s, box.URL, preemption.CriticalityHigh)
	if !r.ReplySent {
		t.Errorf("the reply was not sent: %q", r.ReplyError)
	}
	attempts, taken := box.Got()
	if len(attempts) != 5 || len(taken) != 1 {
		t.Fatalf("%d attempts, %d taken", len(attempts), len(taken))
	}
	for _, id := range attempts {
		if id != attempts[0] {
			t.Errorf("the id changed: %q", attempts)
		}
	}
}

func TestAFailingReplyAddressHoldsUpNeitherResultNorScope(t *testing.T) {
	t.Parallel()
	s, box := sitetest.New(t), sitetest.NewMailbox(t)
	box.Always = http.StatusServiceUnavailable
	s.Worker()
	req := s.AlarmRequest("cluster-a", preemption.CriticalityHigh)
	req.ReplyTo = box.URL
	s.Signal("alarm", req)
	sitetest.WantState(t, s.Done("alarm"), preemptapi.RoundCompleted, 6)
	if active := s.Ledger().Scopes[s.Cluster("cluster-a").String()].Active; active != "" {
		t.Errorf("the scope is still held by %s", active)
	}
	box.Mu.Lock()
	box.Always = 0
	box.Mu.Unlock()
	s.Eventually("the reply is told of", func() bool { return s.State("alarm").Round.ReplySent })
}

func TestAReplyThatIsRefusedForGoodIsReportedAndFailsNothing(t *testing.T) {
	t.Parallel()
	s, box := sitetest.New(t), sitetest.NewMailbox(t)
	box.Always = http.StatusBadRequest
	r, _ := replied(s, box.URL, preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	if r.ReplySent || !sitetest.ContainsAll(r.ReplyError, box.URL, "400") {
		t.Errorf("sent=%v, error %q", r.ReplySent, r.ReplyError)
	}
	if attempts, _ := box.Got(); len(attempts) != 1 {
		t.Errorf("%d attempts at an address that says no", len(attempts))
	}
	s.Agree(r)
}

func TestALoopbackReplyAddressIsRefusedUnlessAllowed(t *testing.T) {
	t.Parallel()
	s, box := sitetest.New(t), sitetest.NewMailbox(t)
	s.Allow = nil
	r, _ := replied(s, box.URL, preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	if r.ReplySent || !sitetest.ContainsAll(r.ReplyError, "not allowed", "limits.replyAllow") {
		t.Errorf("sent=%v, error %q", r.ReplySent, r.ReplyError)
	}
	if attempts, _ := box.Got(); len(attempts) != 0 {
		t.Errorf("%d requests reached it", len(attempts))
	}
}

func TestNoReplyIsSentWhenNothingWasPreempted(t *testing.T) {
	t.Parallel()
	s, box := sitetest.New(t, sitetest.WithInventory(func(o *simulation.Options) { o.Tagged = -1 })), sitetest.NewMailbox(t)
	r, _ := replied(s, box.URL, preemption.CriticalityHigh)
	sitetest.WantState(t, r, preemptapi.RoundEmpty, 0)
	if attempts, _ := box.Got(); len(attempts) != 0 || r.ReplySent {
		t.Errorf("%d events for nothing, sent=%v", len(attempts), r.ReplySent)
	}
}
