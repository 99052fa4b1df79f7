package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"

	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/log/tag"
)

// logger hands the server's warnings and errors to slog. Everything below is dropped.
type logger struct {
	slog  *slog.Logger
	state *loggerState
}

// loggerState is shared by a logger and all that were derived from it.
type loggerState struct {
	muted atomic.Bool
	fatal atomic.Pointer[fatalError]
}

type fatalError struct{ msg string }

func (e *fatalError) Error() string { return e.msg }

var (
	_ log.Logger     = (*logger)(nil)
	_ log.WithLogger = (*logger)(nil)
)

func newLogger(l *slog.Logger) *logger {
	return &logger{slog: l.With("component", "temporal"), state: &loggerState{}}
}

// mute silences the logger: a server that is being stopped complains about its own parts going away.
func (l *logger) mute() { l.state.muted.Store(true) }

// fatal is the first error after which the server wanted the process to end.
func (l *logger) fatal() error {
	if e := l.state.fatal.Load(); e != nil {
		return e
	}
	return nil
}

func (l *logger) With(tags ...tag.Tag) log.Logger {
	return &logger{slog: l.slog.With(attrs(tags)...), state: l.state}
}

func (l *logger) Debug(string, ...tag.Tag) {}

func (l *logger) Info(string, ...tag.Tag) {}

func (l *logger) Warn(msg string, tags ...tag.Tag) {
	if !expected(msg) {
		l.log(slog.LevelWarn, msg, tags)
	}
}

func (l *logger) Error(msg string, tags ...tag.Tag) { l.log(slog.LevelError, msg, tags) }

func (l *logger) DPanic(msg string, tags ...tag.Tag) { l.log(slog.LevelError, msg, tags) }

// Panic panics, as the server's callers of it rely on to unwind into their own recovery.
func (l *logger) Panic(msg string, tags ...tag.Tag) {
	l.log(slog.LevelError, msg, tags)
	panic("temporal: " + msg)
}

// Fatal must not return. It ends the goroutine and not the process, which has more to care for than this server.
func (l *logger) Fatal(msg string, tags ...tag.Tag) {
	l.log(slog.LevelError, msg, tags)
	for _, t := range tags {
		msg += fmt.Sprintf(", %s: %v", t.Key(), t.Value())
	}
	l.state.fatal.CompareAndSwap(nil, &fatalError{msg: msg})
	runtime.Goexit()
}

func (l *logger) log(level slog.Level, msg string, tags []tag.Tag) {
	if l.state.muted.Load() {
		return
	}
	l.slog.Log(context.Background(), level, msg, attrs(tags)...)
}

func attrs(tags []tag.Tag) []any {
	out := make([]any, 0, len(tags))
	for _, t := range tags {
		out = append(out, slog.Any(t.Key(), t.Value()))
	}
	return out
}

// expected knows the warnings about what we chose to leave out.
func expected(msg string) bool {
	return strings.HasPrefix(msg, "HTTP API port has not been set")
}
