package vcenter

import (
	"context"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// defaultEventLag is how long events are waited for that should tell of a state: vCenter posts them independently of it,
// seconds later at times, or never.
const defaultEventLag = 15 * time.Second

const (
	firstEvidencePause   = 100 * time.Millisecond
	longestEvidencePause = 2 * time.Second
)

// AwaitEvidence is PowerOffEvidence that looks again until vCenter tells of each VM how it went off, or
// Config.EventLag has passed.
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

// complete reports whether no event that may come later says more. Of a guest that went off by itself our request, posted
// independently, may be still to come.
func (e Evidence) complete() bool { return e.Event != "" && (e.User != "" || !e.Asked.IsZero()) }

// AwaitEvents looks until what it finds is complete, Config.EventLag has passed or ctx has ended. Its error is that of a
// look.
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

// EventsLag reports whether events that tell of a state since then may be still to come.
func (g *Gateway) EventsLag(since time.Time) bool { return time.Since(since) < g.cfg.EventLag }
