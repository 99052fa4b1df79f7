package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Limits of the health server.
const (
	checkTimeout = 3 * time.Second        // for all checks together
	checkFresh   = 200 * time.Millisecond // how long an answer is reused, because checking costs calls
)

// Check is one condition of readiness. Ready returns why the program is not ready, or nil; it must honour
// its context.
type Check struct {
	Name  string
	Ready func(context.Context) error
}

// Health serves /healthz, /readyz and /metrics.
type Health struct {
	server  *http.Server
	metrics http.Handler // nil: none
	addr    string
	done    chan struct{}
	checks  []Check

	mu     sync.Mutex // held while checking, so that many probes cost one check
	at     time.Time
	failed []string
}

// Serve answers /healthz (200 as long as the process answers), /readyz (200 when every check passes, else 503
// with a line per failing one) and /metrics, if there are any, on addr until Stop. If it cannot listen on the address, that
// is an error if the address was set (explicit). Otherwise it logs a warning, and the program runs without the server.
func Serve(l *slog.Logger, addr string, explicit bool, metrics http.Handler, checks ...Check) (*Health, error) {
	h := &Health{metrics: metrics, checks: checks, done: make(chan struct{})}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		close(h.done)
		if explicit {
			return nil, fmt.Errorf("serve health on %s: %w; set HTTP_ADDR to a free address", addr, err)
		}
		l.Warn("health is not served: the default address is not free; set HTTP_ADDR to a free one", "addr", addr, "reason", err)
		return h, nil
	}
	h.addr = listener.Addr().String()
	h.server = &http.Server{
		Handler:           h.handler(),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second,
		WriteTimeout: checkTimeout + 5*time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       slog.NewLogLogger(l.Handler(), slog.LevelDebug),
	}
	go func() {
		defer close(h.done)
		if err := h.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			l.Error("health is no longer served", "addr", h.addr, "reason", err)
		}
	}()
	l.Info("health is served", "addr", h.addr)
	return h, nil
}

// Addr is the address served, "" when none is.
func (h *Health) Addr() string { return h.addr }

// Stop lets running answers finish until ctx ends.
func (h *Health) Stop(ctx context.Context) error {
	if h.server == nil {
		return nil
	}
	err := h.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("stop serving health on %s: %w", h.addr, err), h.server.Close())
	}
	<-h.done
	return err
}

// Handler answers as Serve does, for a program that has a server of its own.
func Handler(metrics http.Handler, checks ...Check) http.Handler {
	return (&Health{metrics: metrics, checks: checks}).handler()
}

func (h *Health) handler() http.Handler {
	mux := http.NewServeMux()
	if h.metrics != nil {
		mux.Handle("GET /metrics", h.metrics)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if failed := h.look(r.Context()); len(failed) > 0 {
			answer(w, http.StatusServiceUnavailable, strings.Join(failed, "\n"))
			return
		}
		answer(w, http.StatusOK, "ok")
	})
	return mux
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // a prober that went away needs no answer
}

// look runs all checks in parallel and returns a line for each failing one, in the order given.
func (h *Health) look(ctx context.Context) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.at.IsZero() && time.Since(h.at) < checkFresh {
		return h.failed
	}
	// A prober that goes away must not fail the check for the next one.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
	defer cancel()
	reasons := make([]error, len(h.checks))
	var wg sync.WaitGroup
	for i, c := range h.checks {
		wg.Go(func() { reasons[i] = c.Ready(ctx) })
	}
	wg.Wait()
	h.failed = nil
	for i, err := range reasons {
		if err != nil {
			h.failed = append(h.failed, h.checks[i].Name+": "+oneLine(err.Error()))
		}
	}
	h.at = time.Now()
	return h.failed
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
