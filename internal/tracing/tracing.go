// Package tracing marks what is done for one event with spans, so that a reader finds all of it in one trace. Where
// tracing is off, the tracer is nil and everything here does nothing. Spans are sent by otlp below it, and carried through
// Temporal by workflows.
package tracing

import (
	"context"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// Scope names our instrumentation in every span.
const Scope = "github.com/vsphere-preemption/vsphere-preemption"

// maxText bounds each text of a span, in bytes.
const maxText = 300

// Tracer begins traces. A nil Tracer begins none.
type Tracer struct{ of trace.Tracer }

// New returns the tracer of a provider.
func New(p trace.TracerProvider) *Tracer { return &Tracer{of: p.Tracer(Scope)} }

// Begin begins a span for what starts here: a new trace, or a part of the trace that ctx belongs to.
func (t *Tracer) Begin(ctx context.Context, name string, attrs ...slog.Attr) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	return begin(ctx, t.of, name, trace.SpanKindInternal, time.Time{}, attrs)
}

// Serve is Begin for a request that another program sent.
func (t *Tracer) Serve(ctx context.Context, name string, attrs ...slog.Attr) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	return begin(ctx, t.of, name, trace.SpanKindServer, time.Time{}, attrs)
}

// Step begins a span in the trace that ctx belongs to; outside of a trace it does nothing.
func (t *Tracer) Step(ctx context.Context, name string, attrs ...slog.Attr) (context.Context, *Span) {
	if t == nil || !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx, nil
	}
	return begin(ctx, t.of, name, trace.SpanKindInternal, time.Time{}, attrs)
}

// Called records a call to another program that has ended, in the trace that ctx belongs to. failed is the kind of its
// failure, "" if it succeeded.
func Called(ctx context.Context, name string, began time.Time, failed string, attrs ...slog.Attr) {
	if !Recording(ctx) {
		return
	}
	of := trace.SpanFromContext(ctx).TracerProvider().Tracer(Scope)
	_, s := begin(ctx, of, name, trace.SpanKindClient, began, attrs)
	if failed != "" {
		s.of.SetStatus(codes.Error, failed)
	}
	s.of.End()
}

// Recording reports whether ctx belongs to a span of this process that is recorded, so that what describes a step need not
// be gathered where nobody reads it.
func Recording(ctx context.Context) bool { return trace.SpanFromContext(ctx).IsRecording() }

// ID returns the id of the trace that ctx belongs to, "" for none.
func ID(ctx context.Context) string {
	if c := trace.SpanContextFromContext(ctx); c.HasTraceID() {
		return c.TraceID().String()
	}
	return ""
}

func begin(ctx context.Context, of trace.Tracer, name string, kind trace.SpanKind, at time.Time, attrs []slog.Attr) (context.Context, *Span) {
	opts := []trace.SpanStartOption{trace.WithSpanKind(kind), trace.WithAttributes(attributes(attrs)...)}
	if !at.IsZero() {
		opts = append(opts, trace.WithTimestamp(at))
	}
	ctx, s := of.Start(ctx, name, opts...)
	return ctx, &Span{of: s}
}

// Span is a span under way. A nil Span takes everything and does nothing.
type Span struct{ of trace.Span }

// Note adds what was learned about the step.
func (s *Span) Note(attrs ...slog.Attr) {
	if s != nil {
		s.of.SetAttributes(attributes(attrs)...)
	}
}

// End ends the span, as failed where there is an error.
func (s *Span) End(err error) {
	if s == nil {
		return
	}
	if err != nil {
		s.of.SetStatus(codes.Error, Text(err.Error()))
	}
	s.of.End()
}

// Text is a text as spans show it: without secrets of URLs, and not longer than a line.
func Text(s string) string { return shown.Clip(shown.Redact(s), maxText) }

// attributes leaves out what is empty.
func attributes(attrs []slog.Attr) []attribute.KeyValue {
	out := make([]attribute.KeyValue, 0, len(attrs))
	for _, a := range attrs {
		v := a.Value.Resolve()
		switch {
		case v.Kind() == slog.KindInt64:
			out = append(out, attribute.Int64(a.Key, v.Int64()))
		case v.Kind() == slog.KindBool:
			out = append(out, attribute.Bool(a.Key, v.Bool()))
		case v.String() != "":
			out = append(out, attribute.String(a.Key, Text(v.String())))
		}
	}
	return out
}

type identityKey struct{}

// WithIdentity has the next span that begins with ctx take its ids from the key, so that a step which is run again has the
// ids that it had before.
func WithIdentity(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, identityKey{}, key)
}

// Identity returns the key of WithIdentity, "" for none.
func Identity(ctx context.Context) string {
	key, _ := ctx.Value(identityKey{}).(string)
	return key
}
