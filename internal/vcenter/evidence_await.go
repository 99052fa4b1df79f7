package vcenter

import (
	"context"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// defaultEventLag is how long to wait for the event of a change: vCenter posts events independently of the state,
// sometimes seconds later, or never.
const defaultEventLag = 15 * time.Second

const (
	firstEvidencePause   = 100 * time.Millisecond
	longestEvidencePause = 2 * time.Second
)

// AwaitEvidence calls PowerOffEvidence again until vCenter has an event for each VM, or Config.EventLag
// has passed.
func (g *Gateway) AwaitEvidence(ctx context.Context, refs []vsphere.Ref, since time.Time) (found map[vsphere.Ref]Evidence, err error) {
	err = g.AwaitEvents(ctx, func() (complete bool, err error) {
		found, err = g.PowerOffEvidence(ctx, refs, since)
		for _, ref := range refs {
			if !found[ref].complete() {
				return false, err
			}
		}
		return true, err
	})
	return found, err
}

// complete reports whether later events cannot add anything. For a guest that went off by itself, the event of our
// request may still come.
func (e Evidence) complete() bool { return e.Event != "" && (e.User != "" || !e.Asked.IsZero()) }

// AwaitEvents reads until the result is complete, Config.EventLag has passed or ctx has ended. Its error is that of a
// read.
func (g *Gateway) AwaitEvents(ctx context.Context, look func() (complete bool, err error)) error {
	until, wait := time.Now().Add(g.cfg.EventLag), firstEvidencePause
	for {
		complete, err := look()
		left := time.Until(until)
		if err != nil || complete || left <= 0 || !clock.Sleep(ctx, min(wait, left)) {
			return err
		}
		wait = min(2*wait, longestEvidencePause)
	}
}

// EventsLag reports whether events of changes since then may still come.
func (g *Gateway) EventsLag(since time.Time) bool { return time.Since(since) < g.cfg.EventLag }
