package vcenter

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/vmware/govmomi/vapi/rest"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
)

// How calls are delayed after a refusal because of their rate.
const (
	firstHold   = 250 * time.Millisecond
	longestHold = 8 * time.Second
	mostHolds   = 8 // of one call: half a minute in all
)

// pace delays all calls of the REST API for a while if vCenter refuses one because of their rate.
type pace struct {
	mu    sync.Mutex
	until time.Time
}

// hold delays calls for d from now on; the longest of several delays counts.
func (p *pace) hold(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := time.Now().Add(d); until.After(p.until) {
		p.until = until
	}
}

// wait waits while calls are delayed; it is false if the context ended first.
func (p *pace) wait(ctx context.Context) bool {
	for {
		p.mu.Lock()
		left := time.Until(p.until)
		p.mu.Unlock()
		if left <= 0 {
			return true
		}
		if !clock.Sleep(ctx, left) {
			return false
		}
	}
}

// rest is soap for the REST API. A call that is refused because of the rate was not carried out, and is made again.
func (g *Gateway) rest(ctx context.Context, c call, f func(context.Context, *rest.Client) error) error {
	for hold, tries := firstHold, 1; ; hold, tries = min(2*hold, longestHold), tries+1 {
		if !g.pace.wait(ctx) {
			return interrupted(c, ctx.Err())
		}
		err := run(ctx, g, c, g.restSlot, f)
		after, fast := tooFast(err)
		if !fast || tries > mostHolds {
			return err
		}
		after = min(max(after, hold), 4*longestHold)
		g.log.Warn("vCenter is asked too fast: calls of the REST API wait", "call", c.op+" "+c.object, "wait", after)
		g.pace.hold(after)
	}
}

// tooFast reports whether vCenter refused a call for the rate of calls, and after which time it may be made again, if
// vCenter says so.
func tooFast(err error) (after time.Duration, is bool) {
	var status *statusError
	if !errors.As(err, &status) {
		return 0, false
	}
	limited := status.code == http.StatusTooManyRequests || status.code == http.StatusServiceUnavailable && status.after > 0
	return status.after, limited
}

// retryAfter reads the header of that name; 0 if it gives no seconds.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, 3600)) * time.Second
}

// refusedForLoad reports whether vCenter refused a call because it has too much to do, or is restarting.
func refusedForLoad(err error) bool {
	var status *statusError
	return errors.As(err, &status) && (status.code == http.StatusTooManyRequests || status.code == http.StatusServiceUnavailable)
}
