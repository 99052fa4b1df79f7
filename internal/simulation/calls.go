package simulation

import (
	"maps"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// unavailableKey counts the requests that an Outage answered.
const unavailableKey = "HTTP 503"

// counters count what clients ask of the vCenter.
type counters struct {
	latency atomic.Int64 // nanoseconds
	load    atomic.Pointer[func(inFlight int) time.Duration]

	mu       sync.Mutex
	byMethod map[string]int
	inFlight int
	highest  int
	waits    chan struct{} // closed when waits for updates must end
}

func (c *counters) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byMethod = map[string]int{}
	c.highest = c.inFlight
	if c.waits == nil {
		c.waits = make(chan struct{})
	}
}

func (c *counters) count(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byMethod[key]++
}

// enter counts a call as in flight; the func it returns ends that.
func (c *counters) enter() func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight++
	c.highest = max(c.highest, c.inFlight)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.inFlight--
	}
}

// waitsEnd is closed at the next endWaits.
func (c *counters) waitsEnd() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waits
}

func (c *counters) endWaits() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.waits)
	c.waits = make(chan struct{})
}

// Calls is the number of calls since the last ResetCalls, by SOAP method (PowerOffVM_Task) and by REST call without
// ids (REST POST /com/vmware/cis/tagging/tag-association/{id}?~action=attach). A call refused by an Outage counts as
// "HTTP 503" alone; a call that never got a connection does not count.
func (v *VCenter) Calls() map[string]int {
	v.calls.mu.Lock()
	defer v.calls.mu.Unlock()
	return maps.Clone(v.calls.byMethod)
}

// TotalCalls is the sum of Calls.
func (v *VCenter) TotalCalls() int {
	total := 0
	for _, n := range v.Calls() {
		total += n
	}
	return total
}

// ResetCalls starts Calls and MaxConcurrent anew.
func (v *VCenter) ResetCalls() { v.calls.reset() }

// MaxConcurrent is the highest number of calls in flight at once since ResetCalls, the added latency included.
// Waits for updates do not count: they are parked, not work.
func (v *VCenter) MaxConcurrent() int {
	v.calls.mu.Lock()
	defer v.calls.mu.Unlock()
	return v.calls.highest
}

// SetLatency adds d to each later SOAP and REST call; calls side by side do not wait for one another.
func (v *VCenter) SetLatency(d time.Duration) { v.calls.latency.Store(int64(d)) }

// SlowUnderLoad adds to each later SOAP and REST call, beside the latency, what f returns for the number of calls that
// are in flight when it comes, itself included. Waits for updates do not count. nil: nothing.
func (v *VCenter) SlowUnderLoad(f func(inFlight int) time.Duration) {
	if f == nil {
		v.calls.load.Store(nil)
		return
	}
	v.calls.load.Store(&f)
}

// delayNow is how long a call that comes now is held.
func (c *counters) delayNow() time.Duration {
	d := time.Duration(c.latency.Load())
	f := c.load.Load()
	if f == nil {
		return d
	}
	c.mu.Lock()
	n := c.inFlight
	c.mu.Unlock()
	return d + (*f)(n)
}

var idInPath = regexp.MustCompile(`/(id:[^/]+|urn:[^/]+|[0-9a-f]{8}-[0-9a-f-]{27})`)

// restKey names a REST call without the ids in it.
func restKey(r *http.Request) string {
	path := idInPath.ReplaceAllString(strings.TrimPrefix(r.URL.Path, "/rest"), "/{id}")
	if action := r.URL.Query().Get("~action"); action != "" {
		path += "?~action=" + action
	}
	return "REST " + r.Method + " " + path
}
