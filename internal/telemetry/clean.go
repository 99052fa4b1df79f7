package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// clean hides the secrets of URLs in every record, because the errors of HTTP clients contain whole URLs.
type clean struct{ slog.Handler }

// Handle logs the record without secrets.
func (h clean) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, r.Level, shown.Redact(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(redacted(a))
		return true
	})
	return h.Handler.Handle(ctx, out)
}

// WithAttrs returns the handler with attributes.
func (h clean) WithAttrs(attrs []slog.Attr) slog.Handler {
	cleaned := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		cleaned[i] = redacted(a)
	}
	return clean{h.Handler.WithAttrs(cleaned)}
}

// WithGroup returns the handler with a group.
func (h clean) WithGroup(name string) slog.Handler { return clean{h.Handler.WithGroup(name)} }

func redacted(a slog.Attr) slog.Attr {
	a.Value = a.Value.Resolve()
	switch a.Value.Kind() {
	case slog.KindString:
		return slog.String(a.Key, shown.Redact(a.Value.String()))
	case slog.KindGroup:
		group := a.Value.Group()
		cleaned := make([]slog.Attr, len(group))
		for i, member := range group {
			cleaned[i] = redacted(member)
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(cleaned...)}
	case slog.KindAny:
		switch v := a.Value.Any().(type) {
		case error:
			return slog.String(a.Key, shown.Redact(v.Error()))
		case fmt.Stringer:
			return slog.String(a.Key, shown.Redact(v.String()))
		}
	}
	return a
}

// escaped writes JSON lines without characters that hide or reverse text.
type escaped struct{ to io.Writer }

// Write implements io.Writer.
func (e escaped) Write(line []byte) (int, error) {
	if _, err := e.to.Write(shown.JSON(line)); err != nil {
		return 0, err
	}
	return len(line), nil
}
