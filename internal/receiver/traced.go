package receiver

import (
	"log/slog"
	"net/http"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// traced is send in a span, which belongs to the sender's trace if it names one. What is refused or ignored before has no
// span: a sender that shows no token cannot fill anybody's collector.
func (r *Receiver) traced(req *http.Request, e *event.Event, in trigger.Incoming) outcome {
	ctx := req.Context()
	if r.cfg.Tracer == nil {
		return r.send(ctx, in)
	}
	ctx = r.cfg.Tracer.FromRequest(ctx, req.Header, e.Extensions())
	ctx, span := r.cfg.Tracer.Serve(ctx, http.MethodPost+" CloudEvent", slog.String("http.request.method", req.Method),
		slog.String("cloudevents.event_id", e.ID()), slog.String("cloudevents.event_type", e.Type()),
		slog.String("cloudevents.event_source", e.Source()), slog.String("cloudevents.event_subject", e.Subject()))
	out := r.send(ctx, in)
	out.trace = tracing.ID(ctx)
	span.Note(slog.Int("http.response.status_code", out.status), slog.String("result", out.result), slog.String("reason", out.reason))
	var err error
	if out.status >= http.StatusInternalServerError {
		err = &problem{out}
	}
	span.End(err)
	return out
}
