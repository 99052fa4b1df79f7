// Package telemetry reports what a program does: its log, its health and metrics over HTTP, and its build. It
// has no global state, and knows nothing about the packages that use it.
package telemetry

import (
	"io"
	"log/slog"

	"go.temporal.io/sdk/log"
)

// The formats of a log.
const (
	JSON = "json"
	Text = "text"
)

// New returns a logger that writes to w, as text if format is Text and as JSON otherwise; with debug
// it also writes debug records.
func New(w io.Writer, format string, debug bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if debug {
		options.Level = slog.LevelDebug
	}
	if format == Text {
		return slog.New(clean{slog.NewTextHandler(w, options)})
	}
	return slog.New(clean{slog.NewJSONHandler(escaped{w}, options)})
}

// ForTemporal returns the logger that Temporal's SDK writes to. Its lines carry component=temporal-sdk.
func ForTemporal(l *slog.Logger) log.Logger {
	return log.NewStructuredLogger(l.With("component", "temporal-sdk"))
}
