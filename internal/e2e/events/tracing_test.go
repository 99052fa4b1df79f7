package events

import (
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/worker"
	"google.golang.org/protobuf/proto"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing/otlp"
	ours "github.com/vsphere-preemption/vsphere-preemption/internal/worker"
)

// collector takes spans by OTLP over HTTP.
type collector struct {
	url string

	mu    sync.Mutex
	spans []*tracepb.Span
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		var sent coltracepb.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &sent)
		}
		if err != nil || req.URL.Path != "/v1/traces" {
			t.Errorf("the collector got %s: %v", req.URL.Path, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, r := range sent.GetResourceSpans() {
			for _, s := range r.GetScopeSpans() {
				c.spans = append(c.spans, s.GetSpans()...)
			}
		}
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// trace returns the spans of a trace.
func (c *collector) trace(id string) (spans []*tracepb.Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if hex.EncodeToString(s.GetTraceId()) == id {
			spans = append(spans, s)
		}
	}
	return spans
}

// named returns the ids of the traces that have a span of the name.
func (c *collector) named(name string) (traces []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if s.GetName() == name {
			traces = append(traces, hex.EncodeToString(s.GetTraceId()))
		}
	}
	return traces
}

// traced turns tracing on for a site, by the variables that a person sets.
func traced(t *testing.T, s *sitetest.Site, endpoint string) {
	t.Helper()
	env := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
	set, err := otlp.Read(func(name string) string { return env[name] })
	s.Must(err)
	s.Traces, err = otlp.New(set, "test", "test", slog.New(slog.DiscardHandler))
	s.Must(err)
	s.Temporal = s.Dial()
}

func names(spans []*tracepb.Span) (all []string) {
	for _, s := range spans {
		all = append(all, s.GetName())
	}
	slices.Sort(all)
	return all
}

// objects returns which objects of vCenter the calls of a method are about.
func objects(spans []*tracepb.Span, method string) (refs []string) {
	for _, s := range spans {
		for _, a := range s.GetAttributes() {
			if s.GetName() == "vcenter "+method && a.GetKey() == "vcenter.object" {
				refs = append(refs, a.GetValue().GetStringValue())
			}
		}
	}
	slices.Sort(refs)
	return refs
}

// wantWhole checks that a trace leads from its first span to every power-off, without a gap.
func wantWhole(t *testing.T, s *sitetest.Site, spans []*tracepb.Span, parent string, first string) {
	t.Helper()
	got := names(spans)
	for _, name := range []string{
		first, "act on event", "SignalWithStartWorkflow:PreemptVMsWorkflow", "HandleSignal:AlarmChanged", "start round",
		"StartWorkflow:PreemptionRound", "RunWorkflow:PreemptionRound", "RunActivity:PlanRound", "RunActivity:EvictVMs",
	} {
		if !slices.Contains(got, name) {
			t.Errorf("the trace lacks %q: %q", name, got)
		}
	}
	known := map[string]bool{parent: true}
	for _, s := range spans {
		known[hex.EncodeToString(s.GetSpanId())] = true
	}
	for _, s := range spans {
		if !known[hex.EncodeToString(s.GetParentSpanId())] {
			t.Errorf("%q hangs in the air", s.GetName())
		}
	}
	var want []string
	for _, vm := range s.VC.TaggedVMs("cluster-a") {
		want = append(want, vm.Ref.Value)
	}
	slices.Sort(want)
	if off := objects(spans, "PowerOffVM_Task"); !slices.Equal(off, want) {
		t.Errorf("the trace has power-offs of %q, want %q", off, want)
	}
}

func TestOneTraceLeadsFromAnEventToEveryPowerOff(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	s := sitetest.Watched(t)
	traced(t, s, c.url)
	s.Worker()
	const id, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	e := sitetest.Routed(t, s.VC.URL(), s.Alarm("cluster-a", 0, "green", "red"))
	e.SetExtension("traceparent", "00-"+id+"-"+parent+"-01")
	if a := s.Bring(s.Receiver(), e); a.Code != http.StatusAccepted {
		t.Fatalf("%+v", a)
	}
	r := s.Done(s.Intake("cpu", "cluster-a"))
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	s.Agree(r)
	s.Round(r.RoundID)
	s.Workers[0].Stop()
	s.Traces.Stop()
	wantWhole(t, s, c.trace(id), parent, "POST CloudEvent")
	if n := len(c.named("RunWorkflow:PreemptionRound")); n != 1 {
		t.Errorf("%d spans of the round", n)
	}
	for _, span := range c.trace(id) {
		for _, secret := range []string{s.VC.Username(), s.VC.Password(), "session["} {
			if strings.Contains(span.String(), secret) {
				t.Errorf("%q tells %q", span.GetName(), secret)
			}
		}
	}
	wantReplays(t, s, r.RoundID, true)
}

// wantReplays checks that a workflow goes on with and without tracing, and whether its history carries traces.
func wantReplays(t *testing.T, s *sitetest.Site, id string, carries bool) {
	t.Helper()
	var h history.History
	headers := 0
	for events := s.Temporal.GetWorkflowHistory(t.Context(), id, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); events.HasNext(); {
		e, err := events.Next()
		s.Must(err)
		h.Events = append(h.Events, e)
		headers += len(e.GetWorkflowExecutionStartedEventAttributes().GetHeader().GetFields()) + len(e.GetActivityTaskScheduledEventAttributes().GetHeader().GetFields())
	}
	if (headers > 0) != carries {
		t.Errorf("the history has %d headers", headers)
	}
	replayer := worker.NewWorkflowReplayer()
	ours.RegisterRooms(replayer)
	s.Must(replayer.ReplayWorkflowHistory(nil, &h))
}

func TestEachEventOfAnAlarmHasATraceOfItsOwn(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	s := sitetest.Watched(t, sitetest.WithPolicy(func(p *policy.Policy) { p.Cooldown = 0 }))
	traced(t, s, c.url)
	s.Worker()
	url := s.Receiver()
	s.BringAlarm(url, "cpu", "cluster-a", 0, "green", "red")
	first := s.Done(s.Intake("cpu", "cluster-a"))
	s.BringAlarm(url, "cpu", "cluster-a", 0, "red", "green")
	for _, vm := range s.VC.TaggedVMs("cluster-a") {
		s.Must(s.VC.PowerOnAs(vm.Ref, "owner@example.org"))
	}
	s.BringAlarm(url, "cpu", "cluster-a", 0, "green", "red")
	second := s.Until(s.Intake("cpu", "cluster-a"), "the second round ended", func(r preemptapi.Response) bool {
		return r.Round != nil && r.Round.RoundID != first.RoundID && r.State != preemptapi.IntakeRunning
	})
	s.Round(second.RoundID)
	s.Workers[0].Stop()
	s.Traces.Stop()
	rounds := c.named("RunWorkflow:PreemptionRound")
	if len(rounds) != 2 || rounds[0] == rounds[1] {
		t.Fatalf("the rounds are in the traces %q", rounds)
	}
	for _, id := range rounds {
		wantWhole(t, s, c.trace(id), "", "POST CloudEvent")
	}
}

func TestATraceBeginsWhereTheWatchReadsAnAlarm(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	s := sitetest.Watched(t)
	traced(t, s, c.url)
	s.Worker()
	s.Watch(sitetest.QuickWatch)
	s.Alarm("cluster-a", 0, "green", "red")
	r := s.Done(s.Exists(s.Intake("cpu", "cluster-a")))
	s.Round(r.RoundID)
	s.Workers[0].Stop()
	s.Traces.Stop()
	rounds := c.named("RunWorkflow:PreemptionRound")
	if len(rounds) != 1 {
		t.Fatalf("the rounds are in the traces %q", rounds)
	}
	wantWhole(t, s, c.trace(rounds[0]), "", "act on event")
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, span := range c.spans {
		if hex.EncodeToString(span.GetTraceId()) != rounds[0] {
			t.Errorf("%q is in another trace, and nobody asked for it", span.GetName())
		}
	}
}

func TestATraceStaysWholeWhereAnotherWorkerGoesOn(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	s := sitetest.Watched(t, sitetest.WithNotice(2*time.Second))
	traced(t, s, c.url)
	s.Worker()
	s.BringAlarm(s.Receiver(), "cpu", "cluster-a", 0, "green", "red")
	round := s.Started(s.Intake("cpu", "cluster-a"))
	s.Reaches(round, preemptapi.RoundNotified)
	s.Workers[0].Stop()
	s.Worker()
	sitetest.WantState(t, s.Round(round), preemptapi.RoundCompleted, 6)
	s.Workers[1].Stop()
	s.Traces.Stop()
	rounds := c.named("RunWorkflow:PreemptionRound")
	if len(rounds) != 1 {
		t.Fatalf("the round has %d spans", len(rounds))
	}
	wantWhole(t, s, c.trace(rounds[0]), "", "POST CloudEvent")
}

func TestTracingMayBeTurnedOnAndOffInTheMiddleOfARound(t *testing.T) {
	t.Parallel()
	for name, on := range map[string]bool{"on": true, "off": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t)
			s := sitetest.Watched(t, sitetest.WithNotice(2*time.Second))
			turn := func(on bool) {
				if s.Traces = nil; on {
					traced(t, s, c.url)
				}
			}
			turn(!on)
			before := s.Traces
			s.Worker()
			s.BringAlarm(s.Receiver(), "cpu", "cluster-a", 0, "green", "red")
			round := s.Started(s.Intake("cpu", "cluster-a"))
			s.Reaches(round, preemptapi.RoundNotified)
			s.Workers[0].Stop()
			turn(on)
			s.Worker()
			r := s.Round(round)
			sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
			s.Agree(r)
			s.Workers[1].Stop()
			before.Stop()
			s.Traces.Stop()
			if ran := len(c.named("RunWorkflow:PreemptionRound")) == 1; ran != on {
				t.Errorf("the round's own span was sent: %v", ran)
			}
		})
	}
}

func TestWithoutTheVariablesNothingIsTraced(t *testing.T) {
	t.Parallel()
	s := sitetest.Watched(t)
	set, err := otlp.Read(func(string) string { return "" })
	s.Must(err)
	s.Traces, err = otlp.New(set, "test", "test", slog.New(slog.DiscardHandler))
	s.Must(err)
	if s.Traces != nil {
		t.Fatal("tracing is on")
	}
	s.Worker()
	s.BringAlarm(s.Receiver(), "cpu", "cluster-a", 0, "green", "red")
	r := s.Done(s.Intake("cpu", "cluster-a"))
	s.Round(r.RoundID)
	wantReplays(t, s, r.RoundID, false)
}

func TestACollectorThatHangsDelaysNoRoundAndNoEnd(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(hang) })
	s := sitetest.Watched(t)
	traced(t, s, server.URL)
	s.Worker()
	s.BringAlarm(s.Receiver(), "cpu", "cluster-a", 0, "green", "red")
	r := s.Done(s.Intake("cpu", "cluster-a"))
	sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
	if took := r.EndedAt.Sub(r.StartedAt); took > 5*time.Second {
		t.Errorf("the round took %s", took)
	}
	began := time.Now()
	s.Traces.Stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the end took %s", took)
	}
}
