package main

import (
	"context"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
)

// How often to try to connect to vCenter, and how recent its last answer must be to count as ready.
const (
	firstVCenterPause   = 2 * time.Second
	longestVCenterPause = 10 * time.Second
	vcenterTellEvery    = time.Minute
	vcenterFresh        = 2 * time.Minute
)

// seekVCenter logs in in advance, so that the first request finds a session, and logs why while that fails.
// Work does not wait for it: each call logs in by itself.
func (s *service) seekVCenter(ctx context.Context) {
	var (
		told string
		at   time.Time
	)
	for pause := firstVCenterPause; ; pause = min(2*pause, longestVCenterPause) {
		err := s.gateway.Connect(ctx)
		if err == nil && told != "" {
			s.log.Info("vCenter is usable now", "vcenter", s.cfg.VCenter.Host())
		}
		if err == nil || ctx.Err() != nil {
			return
		}
		if text := err.Error(); text != told || time.Since(at) >= vcenterTellEvery {
			told, at = text, time.Now()
			s.log.Warn("vCenter cannot be used; requests wait until it can", "vcenter", s.cfg.VCenter.Host(),
				"reason", text, "again_in", pause.String())
		}
		if !clock.Sleep(ctx, pause) {
			return
		}
	}
}

// vcenterReady returns why vCenter cannot be used, nil if it can. It asks vCenter if no call was made recently.
func (s *service) vcenterReady(ctx context.Context) error {
	if at, err := s.gateway.LastContact(); err == nil && time.Since(at) < vcenterFresh {
		return nil
	}
	return s.gateway.Connect(ctx)
}
