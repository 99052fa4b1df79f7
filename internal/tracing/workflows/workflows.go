// Package workflows carries traces through Temporal: in the headers of signals, starts, updates and activities, under the
// key that all of Temporal's SDKs use. Headers are no part of what a replay compares, so tracing may be turned on and off
// while workflows run.
//
// A span is for work that somebody asked for. Where no trace leads to a step, it has no span, so that polls and probes make
// none. Some types of workflows begin a trace themselves. Others go on for years and serve many events: their runs have no
// span, and what they do is found in the trace of the event that it is done for.
package workflows

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing"
)

// header is where Temporal's SDKs keep the trace.
const header = "_tracer-data"

// The operations of the SDK that are not treated alike.
const (
	runWorkflow    = "RunWorkflow"
	handleUpdate   = "HandleUpdate"
	validateUpdate = "ValidateUpdate"
	startActivity  = "StartActivity"
	signalExternal = "SignalExternalWorkflow"
	startChild     = "StartChildWorkflow"
)

// Types says which types of workflows are treated in a way of their own.
type Types struct {
	Begin    []string // a run to which no trace leads begins one
	Standing []string // a run has no span
}

// Interceptors returns what a Temporal client needs to carry traces; workers that are made from the client take them over.
func Interceptors(p trace.TracerProvider, types Types) []interceptor.ClientInterceptor {
	t := carrier{of: p.Tracer(tracing.Scope), types: types}
	return []interceptor.ClientInterceptor{interceptor.NewTracingInterceptor(t), &live{}}
}

type spanKey struct{}

// carrier is our tracer as the SDK wants it.
type carrier struct {
	interceptor.BaseTracer
	of    trace.Tracer
	types Types
}

// Options implements interceptor.Tracer. What a stranger wrote into a header is ignored if it is no trace.
func (carrier) Options() interceptor.TracerOptions {
	return interceptor.TracerOptions{SpanContextKey: spanKey{}, HeaderKey: header, DisableQueryTracing: true, AllowInvalidParentSpans: true}
}

// UnmarshalSpan implements interceptor.Tracer.
func (carrier) UnmarshalSpan(m map[string]string) (interceptor.TracerSpanRef, error) {
	if c, ok := tracing.Read(m); ok {
		return &span{is: c}, nil
	}
	return nil, nil
}

// MarshalSpan implements interceptor.Tracer.
func (carrier) MarshalSpan(s interceptor.TracerSpan) (map[string]string, error) {
	return tracing.Write(contextOf(s)), nil
}

// SpanFromContext implements interceptor.Tracer.
func (carrier) SpanFromContext(ctx context.Context) interceptor.TracerSpan {
	if c := trace.SpanContextFromContext(ctx); c.IsValid() {
		return &span{is: c}
	}
	return nil
}

// ContextWithSpan implements interceptor.Tracer.
func (carrier) ContextWithSpan(ctx context.Context, s interceptor.TracerSpan) context.Context {
	if own, ok := s.(*span); ok && own.own != nil {
		return trace.ContextWithSpan(ctx, own.own)
	}
	return ctx
}

// GetLogger implements interceptor.Tracer: lines of workflows and activities name their trace.
func (carrier) GetLogger(l log.Logger, s interceptor.TracerSpanRef) log.Logger {
	if c := contextOf(s); c.IsValid() {
		return log.With(l, "trace_id", c.TraceID().String())
	}
	return l
}

// StartSpan implements interceptor.Tracer.
func (t carrier) StartSpan(o *interceptor.TracerStartSpanOptions) (interceptor.TracerSpan, error) {
	parent := contextOf(o.Parent)
	switch o.Operation {
	case startActivity, signalExternal, startChild: // no more than a moment: what it starts follows its parent
		return &span{is: parent}, nil
	case validateUpdate:
		return &span{}, nil
	case runWorkflow:
		if slices.Contains(t.types.Standing, o.Name) || !parent.IsValid() && !slices.Contains(t.types.Begin, o.Name) {
			return &span{}, nil
		}
	default:
		if !parent.IsValid() {
			return &span{}, nil
		}
	}
	ctx := trace.ContextWithSpanContext(context.Background(), parent)
	if o.Operation == runWorkflow {
		ctx = tracing.WithIdentity(ctx, o.IdempotencyKey)
	}
	_, own := t.of.Start(ctx, o.Operation+":"+o.Name, startOptions(o)...)
	return &span{is: own.SpanContext(), own: own, waits: o.Operation == runWorkflow || o.Operation == handleUpdate}, nil
}

func startOptions(o *interceptor.TracerStartSpanOptions) []trace.SpanStartOption {
	kind := trace.SpanKindServer
	if o.ToHeader {
		kind = trace.SpanKindClient
	}
	attrs := make([]attribute.KeyValue, 0, len(o.Tags))
	for k, v := range o.Tags {
		if v != "" {
			attrs = append(attrs, attribute.String(k, v))
		}
	}
	opts := []trace.SpanStartOption{trace.WithSpanKind(kind), trace.WithAttributes(attrs...)}
	if !o.Time.IsZero() {
		opts = append(opts, trace.WithTimestamp(o.Time))
	}
	return opts
}

// span is a place in a trace: a span of ours, one of another process, or none.
type span struct {
	is    trace.SpanContext
	own   trace.Span // nil: it is not ours to end
	waits bool       // it may be left, or run again, before its work is done: it is sent only once
	done  bool       // its work is done
}

func contextOf(s interceptor.TracerSpanRef) trace.SpanContext {
	if own, ok := s.(*span); ok && own != nil {
		return own.is
	}
	return trace.SpanContext{}
}

// Finish implements interceptor.TracerSpan. A workflow that is pushed out of the cache, and one that is only replayed, has
// not ended: its span is dropped, and the run that ends it makes the same span again.
func (s *span) Finish(o *interceptor.TracerFinishSpanOptions) {
	if s.own == nil || s.waits && !s.done {
		return
	}
	if failed(o.Error) {
		s.own.SetStatus(codes.Error, kind(o.Error))
	}
	s.own.End()
}

// failed reports whether an error says that something went wrong. A new run, a cancellation and what was expected do not.
func failed(err error) bool {
	var app *temporal.ApplicationError
	switch {
	case err == nil, workflow.IsContinueAsNewError(err), temporal.IsCanceledError(err):
		return false
	case errors.As(err, &app):
		return app.Category() != temporal.ApplicationErrorCategoryBenign
	}
	return true
}

// kind says of which kind an error is: the type that we gave it, or that of its cause. Its text stays in the log, which names
// the trace: it may tell who may not do what in vCenter.
func kind(err error) string {
	var app *temporal.ApplicationError
	if errors.As(err, &app) && app.Type() != "" {
		return app.Type()
	}
	for cause := errors.Unwrap(err); cause != nil; cause = errors.Unwrap(cause) {
		err = cause
	}
	return fmt.Sprintf("%T", err)
}

// live notes which runs and updates have ended here, and not in a replay.
type live struct{ interceptor.InterceptorBase }

// InterceptWorkflow implements interceptor.WorkerInterceptor.
func (*live) InterceptWorkflow(ctx workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	i := &liveWorkflow{}
	i.Next = next
	return i
}

type liveWorkflow struct {
	interceptor.WorkflowInboundInterceptorBase
}

// ExecuteWorkflow implements interceptor.WorkflowInboundInterceptor.
func (l *liveWorkflow) ExecuteWorkflow(ctx workflow.Context, in *interceptor.ExecuteWorkflowInput) (any, error) {
	out, err := l.Next.ExecuteWorkflow(ctx, in)
	if s, ok := ctx.Value(spanKey{}).(*span); ok {
		s.done = !workflow.IsReplaying(ctx)
	}
	return out, err
}

// ExecuteUpdate implements interceptor.WorkflowInboundInterceptor.
func (l *liveWorkflow) ExecuteUpdate(ctx workflow.Context, in *interceptor.UpdateInput) (any, error) {
	replayed := workflow.IsReplaying(ctx)
	out, err := l.Next.ExecuteUpdate(ctx, in)
	if s, ok := ctx.Value(spanKey{}).(*span); ok {
		s.done = !replayed && !workflow.IsReplaying(ctx)
	}
	return out, err
}
