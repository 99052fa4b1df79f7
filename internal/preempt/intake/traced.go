package intake

import (
	"context"
	"encoding/json"
	"log/slog"
)

// traceRejected shows in the trace of a request that it was rejected, and why: the trace ends there.
func (a *Activities) traceRejected(ctx context.Context, m Message, d Decoded) {
	if a.Tracer == nil || d.Rejected == "" {
		return
	}
	var said struct {
		Event   json.RawMessage `json:"event"`
		Request struct {
			Event json.RawMessage `json:"event"`
		} `json:"request"`
	}
	if json.Unmarshal(m.JSON, &said) != nil {
		return // whoever sent it named no trace
	}
	event := said.Event
	if len(event) == 0 {
		event = said.Request.Event
	}
	_, span := a.Tracer.Step(a.Tracer.FromEvent(ctx, event), "reject request", slog.String("reason", d.Rejected))
	span.End(nil)
}
