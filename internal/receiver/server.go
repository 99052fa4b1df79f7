package receiver

import (
	"log/slog"
	"net/http"
	"time"
)

// Server returns a server for a Receiver that limits what a slow or greedy sender can hold. The time to
// write is enough for a body that arrives slowly, the wait for a slot, and Temporal.
func Server(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 32 << 10,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
