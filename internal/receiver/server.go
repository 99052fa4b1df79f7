package receiver

import (
	"log/slog"
	"net/http"
	"time"
)

// Server returns a server for a Receiver, with bounds on what a slow or greedy sender can hold. The time to
// write leaves room for a body that comes slowly, the wait for a slot, and Temporal.
func Server(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 32 << 10,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
