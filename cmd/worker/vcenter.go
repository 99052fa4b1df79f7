package main

import (
	"context"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
)

// How vCenter is sought, and how fresh its last answer must be to count as ready.
const (
	firstVCenterPause   = 2 * time.Second
	longestVCenterPause = 10 * time.Second
	vcenterTellEvery    = time.Minute
	vcenterFresh        = 2 * time.Minute
)

// seekVCenter logs in ahead of need, so that the first request finds a session, and tells what an operator
// must know while that fails. Work does not wait for it: each call logs in by itself.
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

// vcenterReady tells why vCenter cannot be worked with: it asks vCenter where nothing else did lately.
func (s *service) vcenterReady(ctx context.Context) error {
	if at, err := s.gateway.LastContact(); err == nil && time.Since(at) < vcenterFresh {
		return nil
	}
	return s.gateway.Connect(ctx)
}
