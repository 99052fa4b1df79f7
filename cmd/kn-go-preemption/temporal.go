package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
)

// How often to try to connect to Temporal after the start.
const (
	firstPause   = 500 * time.Millisecond
	longestPause = 10 * time.Second
	callTimeout  = 3 * time.Second
)

// temporal is the connection to Temporal and its state.
type temporal struct {
	client client.Client
	log    *slog.Logger

	mu    sync.Mutex
	known bool
	away  bool
}

// ready returns why Temporal cannot be reached, nil if it can, and logs changes.
func (t *temporal) ready(ctx context.Context) error {
	_, err := t.client.CheckHealth(ctx, &client.CheckHealthRequest{})
	t.mu.Lock()
	changed := !t.known || t.away != (err != nil)
	t.known, t.away = true, err != nil
	t.mu.Unlock()
	switch {
	case err != nil && changed:
		t.log.Warn("Temporal does not answer: events are answered with 503 until it does", "reason", err,
			"remedy", "check that TEMPORAL_URL is right, that Temporal runs, and TEMPORAL_TLS_* if it wants TLS")
	case err == nil && changed:
		t.log.Info("Temporal answers")
	}
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	return nil
}

// seek connects before the first event arrives, so that a problem is logged early.
func (t *temporal) seek(ctx context.Context) {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		limited, cancel := context.WithTimeout(ctx, callTimeout)
		err := t.ready(limited)
		cancel()
		if err == nil || !clock.Sleep(ctx, pause) {
			return
		}
	}
}
