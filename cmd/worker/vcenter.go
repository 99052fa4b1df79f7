package main

import (
	"context"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/worker"
)

// seekVCenter logs in ahead of need, and tells what an operator must know while that fails.
func (s *service) seekVCenter(ctx context.Context) {
	told := false
	connected := worker.SeekVCenter(ctx, s.gateway, func(reason string, again time.Duration) {
		told = true
		s.log.Warn("vCenter cannot be used; requests wait until it can", "vcenter", s.cfg.VCenter.Host(),
			"reason", reason, "again_in", again.String())
	})
	if connected && told {
		s.log.Info("vCenter can be worked with now", "vcenter", s.cfg.VCenter.Host())
	}
}
