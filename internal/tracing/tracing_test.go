package tracing

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

func TestASpanShowsNoSecretAndNoLongText(t *testing.T) {
	one, spans := tracer(t)
	ctx, span := one.Begin(t.Context(), "event", slog.String("source", "https://u:hunter2@vc/sdk"), slog.String("empty", ""))
	Called(ctx, "vcenter PowerOffVM_Task", time.Now(), "NoPermission", slog.String("vcenter.object", "vm-1"))
	span.Note(slog.Int("n", 7), slog.Bool("b", true), slog.String("long", strings.Repeat("x", 9999)))
	span.End(errors.New("post to https://hook?token=hunter2: refused"))
	for _, s := range spans.Ended() {
		for _, a := range s.Attributes() {
			if text := a.Value.String(); strings.Contains(text, "hunter2") || len(text) > maxText+10 || text == "" {
				t.Errorf("%s is %.400q", a.Key, text)
			}
		}
		if s.Status().Code != codes.Error || strings.Contains(s.Status().Description, "hunter2") {
			t.Errorf("the status of %s: %+v", s.Name(), s.Status())
		}
	}
	call := spans.Ended()[0]
	if call.Name() != "vcenter PowerOffVM_Task" || call.SpanKind() != trace.SpanKindClient || call.Status().Description != "NoPermission" {
		t.Errorf("the call: %s %s %+v", call.Name(), call.SpanKind(), call.Status())
	}
}

func TestACallOutsideOfATraceHasNoSpan(t *testing.T) {
	_, spans := tracer(t)
	Called(t.Context(), "vcenter WaitForUpdatesEx", time.Now(), "")
	if n := len(spans.Started()); n != 0 || Recording(t.Context()) {
		t.Errorf("%d spans", n)
	}
}
