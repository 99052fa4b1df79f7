package otlp

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing"
)

// tellEvery is how often a failure that lasts is logged.
const tellEvery = 5 * time.Minute

// watched is an exporter that logs its failures, now and then and without secrets.
type watched struct {
	sdktrace.SpanExporter
	log     *slog.Logger
	secrets map[string]string // headers
	now     func() time.Time

	mu   sync.Mutex
	by   func(spans int, taken bool) // counts them; nil: nobody does
	lost int                         // spans since the failure was last logged
	told time.Time                   // when that was; zero: nothing fails
}

// ExportSpans implements sdktrace.SpanExporter. Its errors end here.
func (w *watched) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := w.SpanExporter.ExportSpans(ctx, spans); err != nil {
		w.count(len(spans), false)
		w.failed(len(spans), err)
		return nil
	}
	w.count(len(spans), true)
	w.sent()
	return nil
}

func (w *watched) count(spans int, taken bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by != nil {
		w.by(spans, taken)
	}
}

func (w *watched) failed(spans int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost += spans
	now := w.now()
	if !w.told.IsZero() && now.Sub(w.told) < tellEvery {
		return
	}
	w.log.Warn("traces could not be sent; nothing else is affected", "reason", w.clean(err), "spans", w.lost,
		"remedy", "check OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS, and that the collector runs")
	w.told, w.lost = now, 0
}

func (w *watched) sent() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.told.IsZero() {
		w.log.Info("traces are sent again", "lost_since", w.lost)
		w.told, w.lost = time.Time{}, 0
	}
}

// clean returns an error's text without what a collector may repeat of our headers.
func (w *watched) clean(err error) string {
	text := err.Error()
	for _, secret := range w.secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "***")
		}
		if _, token, ok := strings.Cut(secret, " "); ok && token != "" { // of "Bearer <token>"
			text = strings.ReplaceAll(text, token, "***")
		}
	}
	return tracing.Text(text)
}
