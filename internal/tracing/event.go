package tracing

import (
	"context"
	"encoding/json"
	"net/http"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// The names under which W3C's trace context travels: as headers of HTTP, and as extensions of a CloudEvent.
const (
	parentName = "traceparent"
	stateName  = "tracestate"
)

// Bounds of what another program may send, in bytes. A longer state is left out; what is no trace context is ignored.
const (
	maxParent = 64
	maxState  = 256
)

// Field is the W3C trace context as text, in a map.
type Field map[string]string

// Get implements propagation.TextMapCarrier.
func (f Field) Get(key string) string { return f[key] }

// Set implements propagation.TextMapCarrier.
func (f Field) Set(key, value string) { f[key] = value }

// Keys implements propagation.TextMapCarrier.
func (f Field) Keys() []string { return []string{parentName, stateName} }

// Read returns the span that a trace context names; ok is false if it names none, or is not one.
func Read(f Field) (c trace.SpanContext, ok bool) {
	if len(f[parentName]) > maxParent {
		return c, false
	}
	bounded := Field{parentName: f[parentName]}
	if len(f[stateName]) <= maxState {
		bounded[stateName] = f[stateName]
	}
	c = trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), bounded))
	return c, c.IsValid()
}

// Write returns the trace context of a span, empty for one that has none. A state that is too long to be carried is left
// out.
func Write(c trace.SpanContext) Field {
	f := Field{}
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(context.Background(), c), f)
	if len(f[stateName]) > maxState {
		delete(f, stateName)
	}
	return f
}

// FromRequest returns ctx as part of the trace that a request belongs to: by its headers, else by the extensions of its
// CloudEvent, which say where the event came from.
func (t *Tracer) FromRequest(ctx context.Context, h http.Header, extensions map[string]any) context.Context {
	if t == nil {
		return ctx
	}
	if c, ok := Read(Field{parentName: h.Get(parentName), stateName: h.Get(stateName)}); ok {
		return trace.ContextWithRemoteSpanContext(ctx, c)
	}
	parent, _ := extensions[parentName].(string)
	state, _ := extensions[stateName].(string)
	if c, ok := Read(Field{parentName: parent, stateName: state}); ok {
		return trace.ContextWithRemoteSpanContext(ctx, c)
	}
	return ctx
}

// FromEvent returns ctx as part of the trace that a structured CloudEvent belongs to, by its extensions.
func (t *Tracer) FromEvent(ctx context.Context, event json.RawMessage) context.Context {
	if t == nil || len(event) == 0 {
		return ctx
	}
	var all struct {
		Parent json.RawMessage `json:"traceparent"`
		State  json.RawMessage `json:"tracestate"`
	}
	if json.Unmarshal(event, &all) != nil {
		return ctx
	}
	if c, ok := Read(Field{parentName: text(all.Parent), stateName: text(all.State)}); ok {
		return trace.ContextWithRemoteSpanContext(ctx, c)
	}
	return ctx
}

func text(raw json.RawMessage) (s string) {
	if len(raw) > 2*maxState || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// Mark writes into a structured CloudEvent to which trace it belongs now, so that what is done for it later is found there
// too, however long it waits. Without a trace, the event stays as it is.
func (t *Tracer) Mark(ctx context.Context, event json.RawMessage) json.RawMessage {
	c := trace.SpanContextFromContext(ctx)
	if t == nil || !c.IsValid() {
		return event
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(event, &all) != nil || all == nil {
		return event
	}
	delete(all, stateName)
	for name, value := range Write(c) {
		quoted, err := json.Marshal(value)
		if err != nil { // text always marshals
			return event
		}
		all[name] = quoted
	}
	marked, err := json.Marshal(all)
	if err != nil { // it was read a moment ago
		return event
	}
	return marked
}
