package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.temporal.io/api/enums/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/api/temporalproto"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/telemetry"
)

// heard is a log that can be read while it is written.
type heard struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (h *heard) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.buf.Write(b)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.buf.String()
}

// TestNoSecretIsToldByAnything sends a request whose reply address has a password and a token, once to an address that
// takes it and once to one that does not, and looks for them, and for vCenter's password, wherever something is told.
func TestNoSecretIsToldByAnything(t *testing.T) {
	t.Parallel()
	const vcPassword, password, token = "canary-vcenter-1", "canary-password-2", "canary-token-3"
	s := sitetest.New(t, sitetest.WithInventory(func(o *simulation.Options) { o.Password = vcPassword }))
	var log heard
	s.Log = telemetry.New(&log, telemetry.JSON, true)
	s.Worker()
	var mu sync.Mutex
	got := map[string]bool{}
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, pw, _ := r.BasicAuth()
		got[pw+" "+r.URL.Query().Get("token")] = true
		if strings.HasPrefix(r.URL.Path, "/refuse") {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(sink.Close)
	var told []string
	tell := func(what, text string) { told = append(told, what+"\n"+text) }
	for i, path := range []string{"/take", "/refuse"} {
		id := []string{"alarm", "other"}[i]
		req := s.AlarmRequest([]string{"cluster-a", "cluster-b"}[i], preemption.CriticalityHigh)
		req.ReplyTo = strings.Replace(sink.URL, "://", "://user:"+password+"@", 1) + path + "?token=" + token
		s.Signal(id, req)
		r := s.Round(s.Done(id).RoundID)
		if r.ReplySent != (path == "/take") {
			t.Fatalf("%s: sent %v, %s", path, r.ReplySent, r.ReplyError)
		}
		b, err := json.Marshal(r)
		s.Must(err)
		tell("the round's result", string(b))
		b, err = json.Marshal(s.State(id))
		s.Must(err)
		tell("current_state", string(b))
		for _, args := range [][]string{{"status", "-w", s.ID(id)}, {"status", "-w", s.ID(id), "-o", "json"}, {"list"}, {"list", "-o", "json"}} {
			_, out, errs := s.Typed(append([]string{"workflow"}, args...)...)
			tell("preemptctl "+strings.Join(args, " "), out+errs)
		}
		for _, workflow := range []string{s.ID(id), r.RoundID} {
			d, err := s.Temporal.DescribeWorkflowExecution(t.Context(), workflow, "")
			s.Must(err)
			tell("the description of "+workflow, d.String())
			v, err := s.Temporal.QueryWorkflow(t.Context(), workflow, "", "__temporal_workflow_metadata")
			s.Must(err)
			var page sdkpb.WorkflowMetadata
			s.Must(v.Get(&page))
			tell("the page of "+workflow, page.String())
			if text := historyText(s, workflow); strings.Contains(text, vcPassword) {
				t.Errorf("vCenter's password is in the history of %s", workflow)
			}
		}
	}
	for _, vm := range s.VC.TaggedVMs("") {
		text, _ := s.VC.Attribute(vm.Ref, preemption.AttributeKey)
		tell("the attribute of "+vm.Name, text)
	}
	s.Eventually("the log says that a reply was refused", func() bool { return strings.Contains(log.String(), "could not be delivered") })
	tell("the log", log.String())
	for _, text := range told {
		for _, secret := range []string{vcPassword, password, token} {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("%s is told: %s", secret, text[max(0, at-300):min(len(text), at+100)])
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if !got[password+" "+token] || len(got) != 1 {
		t.Errorf("the address itself was called with %v", got)
	}
}

// historyText is a workflow's history as text.
func historyText(s *sitetest.Site, id string) string {
	s.T.Helper()
	var all strings.Builder
	it := s.Temporal.GetWorkflowHistory(s.T.Context(), id, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		e, err := it.Next()
		s.Must(err)
		b, err := temporalproto.CustomJSONMarshalOptions{}.Marshal(e)
		s.Must(err)
		all.Write(b)
	}
	return all.String()
}
