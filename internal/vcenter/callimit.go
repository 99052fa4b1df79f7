package vcenter

import (
	"context"
	"sync"
	"time"
)

// How the limit of calls adapts.
const (
	firstCalls   = 5                     // the limit begins at no more
	fewestCalls  = 2                     // the limit never falls below, unless the configured one is lower
	slowAnswer   = 1.5                   // vCenter is overloaded when answers take so many times their best
	shortAnswer  = 50 * time.Millisecond // faster answers are not told apart: that is noise
	cutTo        = 0.8                   // what an overload leaves of the limit
	slowest      = 4.0                   // one answer counts as no slower than this
	smoothing    = 10                    // so many answers are judged together
	bestLasts    = 5 * time.Minute       // the best answer is one of this long at least, and of twice this at most
	maxMeasured  = 64                    // kinds of calls
	crowdedFor   = 50 * time.Millisecond // after the last place was taken: long polls leave all places to calls so long
	fullyGranted = 0.999                 // a limit of 4.999 grows by thousandths: it counts as 5
)

// callLimit bounds the calls that are made at once. The bound follows vCenter: it falls when vCenter takes longer to
// answer than it did, or refuses calls for load, and rises while answers are quick and all places are taken. It begins
// low, and is never above the configured number. Calls are served in the order in which they came.
type callLimit struct {
	most   int
	report func(limit int) // is called with the lock held, for each change of the whole number

	mu       sync.Mutex
	limit    float64
	told     int
	inUse    int
	polls    int // of inUse: long polls, at most half of the limit
	came     int // numbers those who wait
	waiting  []*caller
	pollers  []*caller
	best     map[string]*bestAnswer
	probing  bool      // vCenter was never overloaded: the limit rises by each answer
	slowness float64   // of the last answers, as multiples of their best
	cutAt    time.Time // answers to calls that began before tell nothing about the limit now
	fullAt   time.Time // when last a call other than a long poll took the last place, or found none
}

// caller is a call that waits for its place.
type caller struct {
	came   int
	placed chan struct{}
}

// bestAnswer is the shortest time in which calls of one kind were answered lately.
type bestAnswer struct {
	now, before time.Duration // in this window and in the one before
	since       time.Time
}

func newCallLimit(most int, report func(int)) *callLimit {
	first := min(most, firstCalls)
	l := &callLimit{
		most: most, limit: float64(first), told: first, probing: true, slowness: 1, best: map[string]*bestAnswer{}, report: report,
	}
	report(first)
	return l
}

// enter waits for a place. A long poll takes at most every second place. The returned function gives it back.
func (l *callLimit) enter(ctx context.Context, poll bool) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := &caller{placed: make(chan struct{})}
	l.mu.Lock()
	l.came++
	c.came = l.came
	queue := l.queue(poll)
	*queue = append(*queue, c)
	l.place()
	l.mu.Unlock()
	leave = func() { l.leave(poll) }
	select {
	case <-c.placed:
		return leave, nil
	case <-ctx.Done():
	}
	if l.withdraw(c, poll) {
		return nil, ctx.Err()
	}
	leave() // it got its place in the same moment
	return nil, ctx.Err()
}

func (l *callLimit) queue(poll bool) *[]*caller {
	if poll {
		return &l.pollers
	}
	return &l.waiting
}

// place gives free places to those who came first.
func (l *callLimit) place() {
	for l.inUse < l.whole() {
		queue := &l.waiting
		if len(l.pollers) > 0 && l.polls < max(1, l.whole()/2) && (len(l.waiting) == 0 || l.pollers[0].came < l.waiting[0].came) {
			queue = &l.pollers
			l.polls++
		}
		if len(*queue) == 0 {
			return
		}
		close((*queue)[0].placed)
		*queue = (*queue)[1:]
		l.inUse++
		if queue == &l.waiting && l.inUse >= l.whole() {
			l.fullAt = time.Now()
		}
	}
}

// crowded reports whether calls need all places: then a long poll would hold up one of them.
func (l *callLimit) crowded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) > 0 || time.Since(l.fullAt) < crowdedFor
}

func (l *callLimit) leave(poll bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inUse--
	if poll {
		l.polls--
	}
	l.place()
}

// withdraw takes one who waits out of the queue. It reports false when that one has been placed.
func (l *callLimit) withdraw(c *caller, poll bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	queue := l.queue(poll)
	for i, other := range *queue {
		if other == c {
			*queue = append((*queue)[:i], (*queue)[i+1:]...)
			return true
		}
	}
	return false
}

func (l *callLimit) whole() int { return int(l.limit + 1 - fullyGranted) }

// current returns how many calls may be made at once now.
func (l *callLimit) current() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.whole()
}

// answered takes how long a call of a kind took that began at the given time. Calls of one kind must be comparable.
func (l *callLimit) answered(kind string, began time.Time, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if began.Before(l.cutAt) {
		return
	}
	best := l.learn(kind, took)
	ratio := float64(max(took, shortAnswer)) / float64(max(best, shortAnswer))
	l.slowness += (min(ratio, slowest) - l.slowness) / smoothing
	switch {
	case l.slowness > slowAnswer:
		l.cut()
	case ratio <= slowAnswer && l.inUse >= l.whole():
		rise := 1 / l.limit // by one, when all that are under way are answered
		if l.probing {
			rise = 1
		}
		l.set(l.limit + rise)
	}
}

// refused takes that vCenter refused a call that began at the given time because it has too much to do.
func (l *callLimit) refused(began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !began.Before(l.cutAt) {
		l.cut()
	}
}

func (l *callLimit) cut() {
	l.probing, l.slowness, l.cutAt = false, 1, time.Now()
	l.set(l.limit * cutTo)
}

func (l *callLimit) set(limit float64) {
	l.limit = min(max(limit, float64(min(fewestCalls, l.most))), float64(l.most))
	if n := l.whole(); n != l.told {
		l.told = n
		l.report(n)
	}
	l.place()
}

// learn keeps the shortest answer of a kind, and returns it. It is forgotten after a while, for a vCenter that became
// slower for good.
func (l *callLimit) learn(kind string, took time.Duration) time.Duration {
	b := l.best[kind]
	switch {
	case b == nil && len(l.best) >= maxMeasured:
		return took
	case b == nil:
		b = &bestAnswer{now: took, before: took, since: time.Now()}
		l.best[kind] = b
	case time.Since(b.since) > bestLasts:
		b.before, b.now, b.since = b.now, took, time.Now()
	}
	b.now = min(b.now, took)
	return min(b.now, b.before)
}
