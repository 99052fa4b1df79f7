package standalone

import (
	"context"
	"log/slog"
)

// lateHeartbeat is what the SDK warns of when an activity ends while one of its heartbeats is under way, as happens on a
// slow machine. It means nothing: the result is sent all the same.
const lateHeartbeat = "RecordActivityHeartbeat with error"

// calm drops what is below a level, which may change, and what would only alarm.
type calm struct {
	slog.Handler
	level slog.Leveler
}

// Enabled tells whether the level is logged.
func (h calm) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.level.Level() && h.Handler.Enabled(ctx, l)
}

// Handle logs the record.
func (h calm) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == lateHeartbeat {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs returns the handler with attributes.
func (h calm) WithAttrs(attrs []slog.Attr) slog.Handler {
	return calm{h.Handler.WithAttrs(attrs), h.level}
}

// WithGroup returns the handler with a group.
func (h calm) WithGroup(name string) slog.Handler {
	return calm{h.Handler.WithGroup(name), h.level}
}
