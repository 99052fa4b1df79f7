package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/telemetry"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
)

// hook is a webhook that keeps what it is told.
type hook struct {
	mu    sync.Mutex
	down  bool
	tried int
	got   []string
	*httptest.Server
}

func newHook(t *testing.T) *hook {
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.tried++; h.down {
			http.Error(w, "no, not with "+r.URL.String(), http.StatusServiceUnavailable)
			return
		}
		h.got = append(h.got, string(body))
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) texts() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string{}, h.got...)
}

func (h *hook) attempts() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tried
}

func (h *hook) setDown(down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
}

// address is the hook as the library of the channels has it.
func (h *hook) address(path string) string {
	return "generic+" + h.URL + path
}

func TestPeopleAreToldOnceOfEachPhaseOfARound(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithNotice(time.Second))
	h, other := newHook(t), newHook(t)
	s.Env = map[string]string{"OPS": h.address("/ops"), "OTHER": other.address("/other")}
	s.Told = tell.Settings{ConsoleURL: "https://console.example.com", Channels: []tell.Channel{
		{Name: "ops", URLFrom: tell.Source{Env: "OPS"}, On: tell.Events()},
		{Name: "other", URLFrom: tell.Source{Env: "OTHER"}, On: tell.Events(), Clusters: []string{"cluster-b"}},
	}}
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.Round(s.Started("alarm"))
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	s.Eventually("people are told of the notice and of its end", func() bool { return len(h.texts()) == 2 })
	notice, end := h.texts()[0], h.texts()[1]
	for _, want := range []string{
		"6 VMs will be powered off in cluster-a", s.VC.TaggedVMs("cluster-a")[0].Name, "When: 20", "alarm " + "cluster-cpu-above-80 is red",
		"To stop it: preemptctl workflow cancel --queue " + s.Queue, "--workflow-id", r.RoundID, "Console: https://console.example.com/rounds/",
	} {
		if !strings.Contains(strings.ReplaceAll(notice, " --workflow-id "+r.RoundID+" --queue "+s.Queue, " --queue "+s.Queue+" --workflow-id "+r.RoundID), want) {
			t.Errorf("the notice lacks %q:\n%s", want, notice)
		}
	}
	if !strings.Contains(end, "6 VMs gave way in cluster-a") || strings.Contains(end, "To stop it") {
		t.Errorf("the end reads\n%s", end)
	}
	if got := other.texts(); len(got) > 0 {
		t.Errorf("the channel of another cluster was told %q", got)
	}
}

func TestAChannelThatIsDownDelaysNoRoundAndIsToldLater(t *testing.T) {
	t.Parallel()
	const secret = "canary4channel"
	s := sitetest.New(t)
	var log heard
	s.Log = telemetry.New(&log, telemetry.JSON, true)
	h := newHook(t)
	h.setDown(true)
	s.Env = map[string]string{"OPS": h.address("/" + secret + "?token=" + secret)}
	s.Told.Channels = []tell.Channel{{Name: "ops", URLFrom: tell.Source{Env: "OPS"}, On: tell.Events()}}
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.Round(s.Started("alarm"))
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	if len(h.texts()) != 0 {
		t.Error("the channel is not down")
	}
	s.Eventually("an attempt failed", func() bool { return h.attempts() > 0 && strings.Contains(log.String(), `"outcome":"retried"`) })
	code, out, errs := s.Typed("notify", "test", "ops")
	if code != 1 || !strings.Contains(out+errs, "503") {
		t.Errorf("the test of a channel that is down: exit code %d\n%s%s", code, out, errs)
	}
	_, doctor, _ := s.Typed("doctor")
	if !strings.Contains(doctor, "channel ops") || !strings.Contains(doctor, "the last attempt") {
		t.Errorf("doctor says\n%s", doctor)
	}
	h.setDown(false)
	s.Eventually("people are told after all", func() bool { return len(h.texts()) == 1 })
	var all bytes.Buffer
	all.WriteString(out + errs + doctor + log.String())
	b, err := json.Marshal(r)
	s.Must(err)
	all.Write(b)
	histories := 0
	list, err := s.Temporal.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: "TaskQueue = '" + s.Queue + "'"})
	s.Must(err)
	for _, e := range list.GetExecutions() {
		all.WriteString(historyText(s, e.GetExecution().GetWorkflowId()))
		histories++
	}
	if histories < 4 || strings.Contains(all.String(), secret) {
		at := strings.Index(all.String(), secret)
		t.Errorf("in %d histories and all that was told the address is found at %d: %s", histories, at, all.String()[max(0, at-300):max(0, at+50)])
	}
}

func TestOwnersAreToldOfTheirOwnVMsOnly(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	ops, team := newHook(t), newHook(t)
	s.Env = map[string]string{"OPS": ops.address("/"), "TEAM": team.address("/")}
	s.Told.Channels = []tell.Channel{
		{Name: "ops", URLFrom: tell.Source{Env: "OPS"}, On: []tell.Event{tell.Restored}},
		{Name: "team", URLFrom: tell.Source{Env: "TEAM"}, Owners: true},
	}
	vms := s.VC.TaggedVMs("cluster-a")
	for i, tag := range []string{"team", "team", "ops"} {
		s.Must(s.VC.SetTags(vms[i].Ref, tell.CategoryNotify, tag))
	}
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	r := s.Round(s.Started("alarm"))
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	s.Eventually("the team is told", func() bool { return len(team.texts()) == 1 })
	text := team.texts()[0]
	if !strings.Contains(text, "2 VMs gave way") || !strings.Contains(text, vms[0].Name) || !strings.Contains(text, vms[1].Name) || strings.Contains(text, vms[2].Name) {
		t.Errorf("the team reads\n%s", text)
	}
	if got := ops.texts(); len(got) > 0 {
		t.Errorf("a channel that is not for owners was named by a tag, and told %q", got)
	}
}
