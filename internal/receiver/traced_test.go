package receiver

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/vsphere-preemption/vsphere-preemption/internal/bearer"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// following is an engine that notes in which trace it is called.
type following struct {
	fake
	trace string
}

func (f *following) Handle(ctx context.Context, in trigger.Incoming) (trigger.Result, error) {
	f.trace = tracing.ID(ctx)
	return f.fake.Handle(ctx, in)
}

func TestAnEventIsHandledInTheTraceOfItsSender(t *testing.T) {
	const ofHeader, ofEvent = "0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736"
	_, data := documented(t)
	for name, c := range map[string]struct {
		header []string
		err    error
		want   string // trace; "": one of its own
		status int
	}{
		"a header":          {[]string{"Traceparent", "00-" + ofHeader + "-b7ad6b7169203331-01"}, nil, ofHeader, http.StatusAccepted},
		"an extension":      {[]string{"Ce-Traceparent", "00-" + ofEvent + "-b7ad6b7169203331-01"}, nil, ofEvent, http.StatusAccepted},
		"nobody":            {nil, nil, "", http.StatusAccepted},
		"rubbish":           {[]string{"Traceparent", "rubbish", "Ce-Traceparent", strings.Repeat("00-", 500), "Tracestate", strings.Repeat("a=1,", 500)}, nil, "", http.StatusAccepted},
		"Temporal is away":  {[]string{"Traceparent", "00-" + ofHeader + "-b7ad6b7169203331-01"}, errors.New("away"), ofHeader, http.StatusServiceUnavailable},
		"it is not sampled": {[]string{"Traceparent", "00-" + ofHeader + "-b7ad6b7169203331-00"}, nil, ofHeader, http.StatusAccepted},
	} {
		t.Run(name, func(t *testing.T) {
			spans := tracetest.NewSpanRecorder()
			engine := &following{fake: fake{result: trigger.Result{Verdict: trigger.Sent}, err: c.err}}
			var log bytes.Buffer
			r := newReceiver(t, Config{
				Engine: engine, Log: slog.New(slog.NewTextHandler(&log, nil)),
				Tracer: tracing.New(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))),
			})
			req := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(data))
			req.Header = binaryHeader(c.header...)
			w := httptest.NewRecorder()
			r.ServeHTTP(w, req)
			if w.Code != c.status || engine.trace == "" || c.want != "" && engine.trace != c.want {
				t.Errorf("%d, in trace %q: %s", w.Code, engine.trace, w.Body)
			}
			if !strings.Contains(log.String(), "trace_id="+engine.trace) {
				t.Errorf("the log does not name the trace: %s", log.String())
			}
			ended := spans.Ended()
			if name == "it is not sampled" {
				if len(ended) != 0 {
					t.Errorf("%d spans", len(ended))
				}
				return
			}
			if len(ended) != 1 || (ended[0].Status().Code == codes.Error) != (c.err != nil) {
				t.Errorf("spans: %+v", ended)
			}
		})
	}
}

func TestASenderWithoutATokenMakesNoSpan(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	token, err := bearer.Read(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	spans := tracetest.NewSpanRecorder()
	r := newReceiver(t, Config{
		Token: token, Tracer: tracing.New(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))),
	})
	_, data := documented(t)
	req := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(data))
	req.Header = binaryHeader("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	if n := len(spans.Started()); w.Code != http.StatusUnauthorized || n != 0 {
		t.Errorf("%d with %d spans", w.Code, n)
	}
}
