package workflows

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing"
)

var header1 = map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}

func newCarrier() (carrier, *tracetest.SpanRecorder) {
	spans := tracetest.NewSpanRecorder()
	p := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	return carrier{of: p.Tracer(tracing.Scope), types: Types{Begin: []string{"Round"}, Standing: []string{"Intake"}}}, spans
}

func TestWhichStepsHaveASpanAndWhatFollowsThem(t *testing.T) {
	for name, c := range map[string]struct {
		operation, of string
		parent        bool
		span          bool // it has a span of its own
		carries       bool // what it starts belongs to a trace
	}{
		"a round that was asked for":           {"RunWorkflow", "Round", true, true, true},
		"a round by a schedule":                {"RunWorkflow", "Round", false, true, true},
		"an intake":                            {"RunWorkflow", "Intake", true, false, false},
		"an intake by nobody":                  {"RunWorkflow", "Intake", false, false, false},
		"a message that a round sends":         {"RunWorkflow", "Message", true, true, true},
		"a probe":                              {"RunWorkflow", "Probe", false, false, false},
		"a step of a round":                    {"RunActivity", "PlanRound", true, true, true},
		"a step of an intake":                  {"RunActivity", "DecodeMessages", false, false, false},
		"a signal for an event":                {"SignalWithStartWorkflow", "Intake", true, true, true},
		"a signal that arrives":                {"HandleSignal", "AlarmChanged", true, true, true},
		"a start of a step":                    {"StartActivity", "PlanRound", true, false, true},
		"a start of a step of an intake":       {"StartActivity", "DecodeMessages", false, false, false},
		"a look whether an update is accepted": {"ValidateUpdate", "Admit", true, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			w, spans := newCarrier()
			o := &interceptor.TracerStartSpanOptions{Operation: c.operation, Name: c.of}
			if c.parent {
				var err error
				if o.Parent, err = w.UnmarshalSpan(header1); err != nil {
					t.Fatal(err)
				}
			}
			s, err := w.StartSpan(o)
			if err != nil {
				t.Fatal(err)
			}
			header, err := w.MarshalSpan(s)
			if err != nil || (len(header) > 0) != c.carries || (len(spans.Started()) == 1) != c.span {
				t.Errorf("header %v, %d spans, %v", header, len(spans.Started()), err)
			}
		})
	}
}

func TestAStrangersHeaderIsIgnored(t *testing.T) {
	w, _ := newCarrier()
	for _, m := range []map[string]string{nil, {}, {"traceparent": "rubbish"}, {"other": "x"}, {"traceparent": header1["traceparent"] + "\x00"}} {
		if ref, err := w.UnmarshalSpan(m); ref != nil || err != nil {
			t.Errorf("%q: %v %v", m, ref, err)
		}
	}
	if !w.Options().AllowInvalidParentSpans {
		t.Error("what cannot be read fails the workflow task")
	}
	if got := w.SpanFromContext(context.Background()); got != nil {
		t.Errorf("outside of a trace there is the span %v", got)
	}
}

func TestASpanIsSentOnceItsWorkIsDone(t *testing.T) {
	for name, c := range map[string]struct {
		operation string
		done      bool
		err       error
		sent      bool
		status    string
	}{
		"a run that ended":         {"RunWorkflow", true, nil, true, ""},
		"a run that failed":        {"RunWorkflow", true, fmt.Errorf("round: %w", temporal.NewApplicationError("give CORP\\svc the privilege", "NoPermission")), true, "NoPermission"},
		"a run that goes on anew":  {"RunWorkflow", true, &workflow.ContinueAsNewError{}, true, ""},
		"a run that was cancelled": {"RunWorkflow", true, temporal.NewCanceledError(), true, ""},
		"a run that is replayed":   {"RunWorkflow", false, nil, false, ""},
		"an update in a replay":    {"HandleUpdate", false, nil, false, ""},
		"a step":                   {"RunActivity", false, nil, true, ""},
		"a step that fails":        {"RunActivity", false, errors.New("give CORP\\svc the privilege"), true, "*errors.errorString"},
		"a call that fails":        {"StartWorkflow", false, fmt.Errorf("start: %w", serviceerror.NewUnavailable("x")), true, "*serviceerror.Unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			w, spans := newCarrier()
			parent, _ := w.UnmarshalSpan(header1)
			s, err := w.StartSpan(&interceptor.TracerStartSpanOptions{Operation: c.operation, Name: "Round", Parent: parent})
			if err != nil {
				t.Fatal(err)
			}
			s.(*span).done = c.done
			s.Finish(&interceptor.TracerFinishSpanOptions{Error: c.err})
			ended := spans.Ended()
			if (len(ended) == 1) != c.sent {
				t.Fatalf("%d spans were sent", len(ended))
			}
			if c.sent && (ended[0].Status().Description != c.status || (ended[0].Status().Code == codes.Error) != (c.status != "")) {
				t.Errorf("%+v", ended[0].Status())
			}
		})
	}
}
