package standalone

import (
	"context"
	"log/slog"
)

// atLeast drops what is below a level, which may change.
type atLeast struct {
	slog.Handler
	level slog.Leveler
}

// Enabled tells whether the level is logged.
func (h atLeast) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.level.Level() && h.Handler.Enabled(ctx, l)
}

// WithAttrs returns the handler with attributes.
func (h atLeast) WithAttrs(attrs []slog.Attr) slog.Handler {
	return atLeast{h.Handler.WithAttrs(attrs), h.level}
}

// WithGroup returns the handler with a group.
func (h atLeast) WithGroup(name string) slog.Handler {
	return atLeast{h.Handler.WithGroup(name), h.level}
}
