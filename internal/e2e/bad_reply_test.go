package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// mailbox receives replies over HTTP.
type mailbox struct {
	*httptest.Server

	mu       sync.Mutex
	refuse   []int // statuses to answer first
	always   int   // status to answer every request with; 0: take it
	attempts []string
	taken    []reply
}

type reply struct {
	header http.Header
	body   []byte
}

func newMailbox(t *testing.T) *mailbox {
	m := &mailbox{}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

func (m *mailbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.attempts = append(m.attempts, r.Header.Get("Ce-Id"))
	switch {
	case m.always != 0:
		w.WriteHeader(m.always)
	case len(m.refuse) > 0:
		w.WriteHeader(m.refuse[0])
		m.refuse = m.refuse[1:]
	default:
		m.taken = append(m.taken, reply{header: r.Header, body: body})
		w.WriteHeader(http.StatusAccepted)
	}
}

func (m *mailbox) got() (attempts []string, taken []reply) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.attempts, m.taken
}

// replied runs a round that replies to the address.
func (s *site) replied(target string, c preemption.Criticality) (preemptapi.RoundResult, preemption.WorkflowRequest) {
	s.t.Helper()
	s.worker()
	req := s.alarmRequest("cluster-a", c)
	req.ReplyTo = target
	s.signal("alarm", req)
	return s.round(s.started("alarm")), req
}

func TestTheReplyIsTheDocumentedCloudEvent(t *testing.T) {
	t.Parallel()
	s, box := newSite(t), newMailbox(t)
	r, req := s.replied(box.URL, preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 6)
	if !r.ReplySent || r.ReplyError != "" {
		t.Errorf("sent=%v, error %q", r.ReplySent, r.ReplyError)
	}
	_, taken := box.got()
	if len(taken) != 1 {
		t.Fatalf("%d events came", len(taken))
	}
	h := taken[0].header
	if got := h.Get("Ce-Type"); got != "com.vmware.workflows.vsphere.VmPreemptedEvent.v0" {
		t.Errorf("type %q", got)
	}
	if got, want := h.Get("Ce-Id"), s.id("alarm")+"-"+req.Event.ID(); got != want {
		t.Errorf("id %q, want %q", got, want)
	}
	// Temporal is named by an IP address and port here, which alone is no valid source.
	source, want := h.Get("Ce-Source"), server.HostPort()+"/"+server.Namespace()
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
	if err := json.Unmarshal(taken[0].body, &data); err != nil {
		t.Fatal(err)
	}
	if !data.Preempted || data.Tag != "preemptible" || !data.ForcedShutdown || data.Criticality != "HIGH" || data.WorkflowID != s.id("alarm") ||
		data.WorkflowStarted == "" || data.Event["id"] != req.Event.ID() || len(data.VirtualMachines) != 6 {
		t.Errorf("data: %s", taken[0].body)
	}
}

func TestAReplyOfGuestShutdownsAloneTellsOfNoForce(t *testing.T) {
	t.Parallel()
	s, box := newSite(t), newMailbox(t)
	s.replied(box.URL, preemption.CriticalityMedium)
	_, taken := box.got()
	if len(taken) != 1 || !containsAll(string(taken[0].body), `"forcedShutdown":false`, `"preempted":true`) {
		t.Errorf("events: %+v", taken)
	}
}

func TestAReplyAddressThatFailsForAWhileGetsTheEventOnceUnderTheSameID(t *testing.T) {
	t.Parallel()
	s, box := newSite(t), newMailbox(t)
	box.refuse = []int{503, 503, 429, 500}
	r, _ := s.replied(box.URL, preemption.CriticalityHigh)
	if !r.ReplySent {
		t.Errorf("the reply was not sent: %q", r.ReplyError)
	}
	attempts, taken := box.got()
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
	s, box := newSite(t), newMailbox(t)
	box.always = http.StatusServiceUnavailable
	s.worker()
	req := s.alarmRequest("cluster-a", preemption.CriticalityHigh)
	req.ReplyTo = box.URL
	s.signal("alarm", req)
	wantState(t, s.done("alarm"), preemptapi.RoundCompleted, 6)
	if active := s.ledger().Scopes[s.cluster("cluster-a").String()].Active; active != "" {
		t.Errorf("the scope is still held by %s", active)
	}
	box.mu.Lock()
	box.always = 0
	box.mu.Unlock()
	s.eventually("the reply is told of", func() bool { return s.state("alarm").Round.ReplySent })
}

func TestAReplyThatIsRefusedForGoodIsReportedAndFailsNothing(t *testing.T) {
	t.Parallel()
	s, box := newSite(t), newMailbox(t)
	box.always = http.StatusBadRequest
	r, _ := s.replied(box.URL, preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 6)
	if r.ReplySent || !containsAll(r.ReplyError, box.URL, "400") {
		t.Errorf("sent=%v, error %q", r.ReplySent, r.ReplyError)
	}
	if attempts, _ := box.got(); len(attempts) != 1 {
		t.Errorf("%d attempts at an address that says no", len(attempts))
	}
	s.agree(r)
}

func TestALoopbackReplyAddressIsRefusedUnlessAllowed(t *testing.T) {
	t.Parallel()
	s, box := newSite(t), newMailbox(t)
	s.allow = nil
	r, _ := s.replied(box.URL, preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundCompleted, 6)
	if r.ReplySent || !containsAll(r.ReplyError, "not allowed", "limits.replyAllow") {
		t.Errorf("sent=%v, error %q", r.ReplySent, r.ReplyError)
	}
	if attempts, _ := box.got(); len(attempts) != 0 {
		t.Errorf("%d requests reached it", len(attempts))
	}
}

func TestNoReplyIsSentWhenNothingWasPreempted(t *testing.T) {
	t.Parallel()
	s, box := newSite(t, withInventory(func(o *simulation.Options) { o.Tagged = -1 })), newMailbox(t)
	r, _ := s.replied(box.URL, preemption.CriticalityHigh)
	wantState(t, r, preemptapi.RoundEmpty, 0)
	if attempts, _ := box.got(); len(attempts) != 0 || r.ReplySent {
		t.Errorf("%d events for nothing, sent=%v", len(attempts), r.ReplySent)
	}
}
