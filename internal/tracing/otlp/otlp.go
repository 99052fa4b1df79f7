// Package otlp sends spans to a collector by OTLP, as the standard variables of OpenTelemetry say. It is off unless they
// turn it on. Nothing waits for the collector: spans go through a bounded queue, and are dropped while that is full.
package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.temporal.io/sdk/interceptor"

	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing/workflows"
)

// stopTime limits how long the last spans may take at the end.
const stopTime = 2 * time.Second

// Traces is what a program needs to be traced. A nil Traces is off.
type Traces struct {
	provider *sdktrace.TracerProvider
	exporter *watched
}

// New returns the tracing of a program, nil where the settings are off. It opens no connection.
func New(s Settings, service, version string, log *slog.Logger) (*Traces, error) {
	if !s.On {
		return nil, nil
	}
	// The library writes to stderr what it cannot read in the variables, with the values of headers. Read has checked them.
	otel.SetLogger(logr.Discard())
	exporter, err := s.exporter(context.Background())
	if err != nil {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_*: %w", err)
	}
	w := &watched{SpanExporter: exporter, log: log.With("endpoint", s.Endpoint), secrets: s.headers, now: time.Now}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { w.failed(0, err) })) // the library's, besides what an export returns
	log.Info("traces are sent", "endpoint", s.Endpoint, "protocol", s.Protocol, "sampler", s.sampler.Description())
	return &Traces{exporter: w, provider: sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(w), sdktrace.WithSampler(s.sampler), sdktrace.WithIDGenerator(ids{}), sdktrace.WithResource(s.describe(service, version)),
	)}, nil
}

// exporter returns what sends. It reads the variables that we have only checked itself.
func (s Settings) exporter(ctx context.Context) (sdktrace.SpanExporter, error) {
	if s.Protocol == overGRPC {
		return otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(s.Endpoint), otlptracegrpc.WithHeaders(s.headers))
	}
	return otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(s.Endpoint), otlptracehttp.WithHeaders(s.headers))
}

// describe says which program the spans are of. What the variables say comes last, and so holds.
func (s Settings) describe(service, version string) *resource.Resource {
	attrs := []attribute.KeyValue{
		attribute.String("telemetry.sdk.name", "opentelemetry"), attribute.String("telemetry.sdk.language", "go"),
		attribute.String("telemetry.sdk.version", otel.Version()),
		attribute.String("service.name", service), attribute.String("service.version", version), attribute.Int("process.pid", os.Getpid()),
	}
	if host, err := os.Hostname(); err == nil {
		attrs = append(attrs, attribute.String("host.name", host))
	}
	attrs = append(attrs, s.resource...)
	if s.service != "" {
		attrs = append(attrs, attribute.String("service.name", s.service))
	}
	return resource.NewSchemaless(attrs...)
}

// Tracer returns what begins traces, nil where tracing is off.
func (t *Traces) Tracer() *tracing.Tracer {
	if t == nil {
		return nil
	}
	return tracing.New(t.provider)
}

// Interceptors returns what a Temporal client needs to carry traces, none where tracing is off.
func (t *Traces) Interceptors(types workflows.Types) []interceptor.ClientInterceptor {
	if t == nil {
		return nil
	}
	return workflows.Interceptors(t.provider, types)
}

// CountBy has somebody count the spans that the collector takes, and those that it does not take.
func (t *Traces) CountBy(count func(spans int, taken bool)) {
	if t == nil {
		return
	}
	t.exporter.mu.Lock()
	defer t.exporter.mu.Unlock()
	t.exporter.by = count
}

// Stop sends what is left, for two seconds at most. What could not be sent is logged, not returned: it is no failure of the
// program.
func (t *Traces) Stop() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.exporter.failed(0, fmt.Errorf("send the last spans: %w", err))
	}
}
