package otlp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing/workflows"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestWhatIsOffDoesNothing(t *testing.T) {
	off, err := New(Settings{}, "x", "x", quiet())
	if err != nil || off != nil || off.Tracer() != nil || off.Interceptors(workflows.Types{}) != nil {
		t.Errorf("%v %v", off, err)
	}
	off.Stop()
}

// collector is a gRPC collector that notes the names of spans and one header.
type collector struct {
	coltracepb.UnimplementedTraceServiceServer
	got chan string
}

func (c collector) Export(ctx context.Context, r *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	c.got <- r.GetResourceSpans()[0].GetScopeSpans()[0].GetSpans()[0].GetName() + " " + strings.Join(md.Get("x-token"), "")
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

func TestSpansArriveOverEachProtocolWithTheHeaders(t *testing.T) {
	got := make(chan string, 2)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	coltracepb.RegisterTraceServiceServer(server, collector{got: got})
	go func() { _ = server.Serve(listener) }() // ends with Stop
	t.Cleanup(server.Stop)
	web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/v1/traces" && bytes.Contains(body, []byte("a span")) {
			got <- "a span " + r.Header.Get("X-Token")
		}
	}))
	t.Cleanup(web.Close)
	for protocol, endpoint := range map[string]string{overGRPC: "http://" + listener.Addr().String(), overHTTP: web.URL} {
		s, err := read(map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_HEADERS": "x-token=hunter2",
		})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		traces, err := New(s, "test", "test", slog.New(slog.NewTextHandler(&out, nil)))
		if err != nil {
			t.Fatal(err)
		}
		_, span := traces.Tracer().Begin(t.Context(), "a span")
		span.End(nil)
		traces.Stop()
		select {
		case what := <-got:
			if what != "a span hunter2" {
				t.Errorf("over %s came %q", protocol, what)
			}
		default:
			t.Errorf("nothing came over %s", protocol)
		}
		if !strings.Contains(out.String(), "traces are sent") || strings.Contains(out.String(), "hunter2") {
			t.Errorf("the log: %s", out.String())
		}
	}
}

// failing is an exporter that fails as told.
type failing struct{ err error }

func (f *failing) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return f.err }
func (f *failing) Shutdown(context.Context) error                             { return nil }

func TestAFailureIsLoggedNowAndThenWithoutSecrets(t *testing.T) {
	var out bytes.Buffer
	now := time.Now()
	to := &failing{}
	counted := map[bool]int{}
	w := &watched{
		SpanExporter: to, log: slog.New(slog.NewTextHandler(&out, nil)),
		secrets: map[string]string{"authorization": "Bearer hunter2", "x-key": "swordfish"}, now: func() time.Time { return now },
		by: func(spans int, taken bool) { counted[taken] += spans },
	}
	export := func() string {
		t.Helper()
		out.Reset()
		if err := w.ExportSpans(t.Context(), make([]sdktrace.ReadOnlySpan, 3)); err != nil {
			t.Errorf("the error goes on: %v", err)
		}
		return out.String()
	}
	if got := export(); got != "" {
		t.Errorf("what works is logged: %s", got)
	}
	to.err = fmt.Errorf("401: you sent authorization: Bearer hunter2, token=hunter2 and swordfish to https://u:pw@c %s", strings.Repeat("x", 5000))
	got := export()
	if !strings.Contains(got, "traces could not be sent") || !strings.Contains(got, "spans=3") || len(got) > 1000 {
		t.Errorf("the log: %s", got)
	}
	for _, secret := range []string{"hunter2", "swordfish", "u:pw"} {
		if strings.Contains(got, secret) {
			t.Errorf("the log tells %s: %s", secret, got)
		}
	}
	for range 100 {
		if got := export(); got != "" {
			t.Fatalf("it is logged again at once: %s", got)
		}
	}
	now = now.Add(tellEvery)
	if got := export(); !strings.Contains(got, "spans=303") {
		t.Errorf("after a while: %s", got)
	}
	to.err = nil
	if got := export(); !strings.Contains(got, "traces are sent again") {
		t.Errorf("when it works again: %s", got)
	}
	if got := export(); got != "" {
		t.Errorf("what works is logged: %s", got)
	}
	if counted[false] != 3*102 || counted[true] != 3*3 {
		t.Errorf("counted as taken or not: %v", counted)
	}
}

func TestACollectorThatIsAwayFailsNothing(t *testing.T) {
	s, err := read(map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	var out lines
	traces, err := New(s, "test", "test", slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for range 10000 { // more than the queue holds
		_, span := traces.Tracer().Begin(t.Context(), "a span")
		span.End(errors.New("it fails"))
	}
	began := time.Now()
	traces.Stop()
	if took := time.Since(began); took > 2*stopTime {
		t.Errorf("the end took %s", took)
	}
	if !strings.Contains(out.String(), "traces could not be sent") {
		t.Errorf("the log: %s", out.String())
	}
}

// lines is a buffer for several writers.
type lines struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.String()
}

func TestAStepThatIsRunAgainHasTheSameIds(t *testing.T) {
	trace, span := ids{}.NewIDs(tracing.WithIdentity(t.Context(), "run 1"))
	again, spanAgain := ids{}.NewIDs(tracing.WithIdentity(t.Context(), "run 1"))
	other, _ := ids{}.NewIDs(tracing.WithIdentity(t.Context(), "run 2"))
	if trace != again || span != spanAgain || trace == other || !span.IsValid() {
		t.Errorf("%s/%s, again %s/%s, another %s", trace, span, again, spanAgain, other)
	}
	drawn, _ := ids{}.NewIDs(t.Context())
	if next, _ := (ids{}).NewIDs(t.Context()); next == drawn || !next.IsValid() {
		t.Errorf("drawn twice: %s", next)
	}
	if got := (ids{}).NewSpanID(tracing.WithIdentity(t.Context(), "run 1"), drawn); got == span {
		t.Error("in another trace the span has the same id")
	}
}
