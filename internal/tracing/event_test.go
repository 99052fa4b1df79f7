package tracing

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

const (
	inHeader = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	inEvent  = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
)

func tracer(t *testing.T) (*Tracer, *tracetest.SpanRecorder) {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	return New(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))), spans
}

func TestARequestBelongsToTheTraceOfItsHeaderOrElseOfItsEvent(t *testing.T) {
	one, _ := tracer(t)
	for name, c := range map[string]struct {
		header string
		event  any
		want   string
	}{
		"nobody traces it":                  {"", nil, ""},
		"the header":                        {inHeader, nil, "0af7651916cd43dd8448eb211c80319c"},
		"the event":                         {"", inEvent, "4bf92f3577b34da6a3ce929d0e0e4736"},
		"both":                              {inHeader, inEvent, "0af7651916cd43dd8448eb211c80319c"},
		"a header that is rubbish":          {"00-zz-1-01", inEvent, "4bf92f3577b34da6a3ce929d0e0e4736"},
		"a header of zeros":                 {"00-00000000000000000000000000000000-b7ad6b7169203331-01", nil, ""},
		"a long header":                     {inHeader + strings.Repeat("0", 1000), nil, ""},
		"an extension that is no text":      {"", 7, ""},
		"an extension with control letters": {"", "00-\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := http.Header{}
			h.Set("traceparent", c.header)
			if got := ID(one.FromRequest(t.Context(), h, map[string]any{"traceparent": c.event})); got != c.want {
				t.Errorf("got trace %q, want %q", got, c.want)
			}
		})
	}
}

func TestAStateThatIsTooLongIsLeftOut(t *testing.T) {
	for state, want := range map[string]string{
		"vendor=1":                             "vendor=1",
		"vendor=" + strings.Repeat("1", 10000): "",
		"no state":                             "",
	} {
		c, ok := Read(Field{"traceparent": inHeader, "tracestate": state})
		if !ok || c.TraceState().String() != want {
			t.Errorf("%.20q: %v, state %q", state, ok, c.TraceState())
		}
	}
}

func TestAnEventCarriesItsTraceOn(t *testing.T) {
	one, spans := tracer(t)
	ctx, span := one.Serve(one.FromEvent(t.Context(), json.RawMessage(`{"traceparent":"`+inEvent+`"}`)), "request")
	marked := one.Mark(ctx, json.RawMessage(`{"id":"1","data":{"a":[1, 2]},"traceparent":"`+inEvent+`","tracestate":"old=1"}`))
	span.End(nil)
	_, later := one.Step(one.FromEvent(context.Background(), marked), "round")
	later.End(nil)
	ended := spans.Ended()
	if len(ended) != 2 || ended[1].Parent().SpanID() != ended[0].SpanContext().SpanID() || ended[0].Parent().SpanID().String() != "00f067aa0ba902b7" {
		t.Fatalf("the round does not follow the request, or that not its sender: %+v", ended)
	}
	var got map[string]json.RawMessage
	if err := json.Unmarshal(marked, &got); err != nil || string(got["id"]) != `"1"` || string(got["data"]) != `{"a":[1,2]}` || got["tracestate"] != nil {
		t.Errorf("the rest of the event changed: %s", marked)
	}
}

func TestWithoutATraceEverythingStaysAsItIs(t *testing.T) {
	one, spans := tracer(t)
	event := json.RawMessage(`{ "id" : "1" }`)
	for name, tr := range map[string]*Tracer{"no tracer": nil, "no trace": one} {
		if got := tr.Mark(t.Context(), event); string(got) != string(event) {
			t.Errorf("%s: the event became %s", name, got)
		}
		ctx, span := tr.Step(t.Context(), "step")
		span.Note()
		span.End(nil)
		if ctx != t.Context() || span != nil || ID(ctx) != "" {
			t.Errorf("%s: a step is traced", name)
		}
	}
	for _, rubbish := range []string{"", "[]", "null", `"text"`, `{"traceparent":7}`, `{"traceparent":{}}`, `{"traceparent":"x"}`} {
		if ctx := one.FromEvent(t.Context(), json.RawMessage(rubbish)); trace.SpanContextFromContext(ctx).IsValid() {
			t.Errorf("%s names a trace", rubbish)
		}
	}
	if n := len(spans.Started()); n != 0 {
		t.Errorf("%d spans", n)
	}
	ctx, span := one.Begin(t.Context(), "event")
	defer span.End(nil)
	for _, rubbish := range []string{"null", "[]", "{", ""} {
		if got := one.Mark(ctx, json.RawMessage(rubbish)); string(got) != rubbish {
			t.Errorf("%q became %s", rubbish, got)
		}
	}
}

func FuzzWhatASenderSaysOfItsTraceDoesNoHarm(f *testing.F) {
	for _, s := range []string{inHeader, "", "00", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"} {
		f.Add(s, "a=1,b=2")
	}
	f.Fuzz(func(t *testing.T, parent, state string) {
		c, ok := Read(Field{"traceparent": parent, "tracestate": state})
		if again, same := Read(Write(c)); same != ok || ok && !again.Equal(c.WithRemote(true)) {
			t.Errorf("%q %q: read %v, written and read again %v", parent, state, c, again)
		}
	})
}
