package vcenter

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// limited is a call limit, and the whole numbers that it reported.
func limited(most int) (l *callLimit, reported func() []int) {
	var all []int
	l = newCallLimit(most, func(n int) { all = append(all, n) })
	l.mu.Lock()
	l.set(float64(most)) // it has risen
	l.mu.Unlock()
	return l, func() []int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return slices.Clone(all)
	}
}

// full has all places of the limit taken while f runs.
func full(t *testing.T, l *callLimit, f func()) {
	t.Helper()
	var leave []func()
	for range l.current() {
		free, err := l.enter(t.Context(), false)
		check(t, err)
		leave = append(leave, free)
	}
	f()
	for _, free := range leave {
		free()
	}
}

func TestTheLimitFallsWhenAnswersTakeLongerThanTheirBestAndRisesAgain(t *testing.T) {
	l, reported := limited(10)
	for range 20 {
		l.answered("power off", time.Now(), 100*time.Millisecond)
	}
	if n := l.current(); n != 10 {
		t.Fatalf("quick answers left a limit of %d", n)
	}
	for range 200 {
		l.answered("power off", time.Now(), time.Second)
	}
	if n := l.current(); n != fewestCalls {
		t.Errorf("ten times slower answers left a limit of %d", n)
	}
	for range 200 {
		full(t, l, func() { l.answered("power off", time.Now(), 110*time.Millisecond) })
	}
	if n := l.current(); n != 10 {
		t.Errorf("a vCenter that is quick again has a limit of %d", n)
	}
	for _, n := range reported() {
		if n < fewestCalls || n > 10 {
			t.Errorf("a limit of %d was reported", n)
		}
	}
}

func TestAQuickVCenterIsAskedForTheConfiguredNumberSoon(t *testing.T) {
	l := newCallLimit(50, func(int) {})
	if n := l.current(); n != firstCalls {
		t.Fatalf("it begins with %d calls at once", n)
	}
	answers := 0
	for ; l.current() < 50 && answers < 100; answers++ {
		full(t, l, func() { l.answered("power off", time.Now(), 20*time.Millisecond) })
	}
	if answers != 45 {
		t.Errorf("from 5 to 50 took %d answers, want 45", answers)
	}
}

func TestTheLimitRisesOnlyWhileAllPlacesAreTaken(t *testing.T) {
	l, _ := limited(10)
	l.refused(time.Now())
	was := l.current()
	for range 100 {
		l.answered("power off", time.Now(), 100*time.Millisecond)
	}
	if n := l.current(); n != was || n >= 10 {
		t.Errorf("the limit went from %d to %d with nobody in need of it", was, n)
	}
}

func TestOneOverloadLowersTheLimitOnce(t *testing.T) {
	l, _ := limited(10)
	began := time.Now()
	time.Sleep(time.Millisecond)
	for range 10 { // all were made before the first refusal
		l.refused(began)
	}
	if n := l.current(); n != 8 {
		t.Errorf("ten calls refused at once left a limit of %d, want 8", n)
	}
}

func TestACallThatIsAloneSlowLowersNothing(t *testing.T) {
	l, _ := limited(10)
	for range 5 {
		for range 9 {
			l.answered("power off", time.Now(), 100*time.Millisecond)
		}
		l.answered("power off", time.Now(), 30*time.Second)
	}
	if n := l.current(); n != 10 {
		t.Errorf("the limit fell to %d", n)
	}
}

func TestAConfiguredLimitOfOneStaysOne(t *testing.T) {
	l, _ := limited(1)
	l.refused(time.Now())
	if n := l.current(); n != 1 {
		t.Errorf("the limit is %d", n)
	}
	for _, poll := range []bool{true, false, true} {
		leave, err := l.enter(t.Context(), poll)
		check(t, err)
		leave()
	}
}

func TestCallsAreServedInTheirOrderAndAPollNeverTakesMoreThanHalf(t *testing.T) {
	l, _ := limited(4)
	ctx := t.Context()
	var leave []func()
	for range 2 {
		free, err := l.enter(ctx, true)
		check(t, err)
		leave = append(leave, free)
	}
	third := make(chan func(), 1)
	go func() {
		free, _ := l.enter(ctx, true)
		third <- free
	}()
	eventually(t, "the third poll waits", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.pollers) == 1 })
	for range 2 { // calls pass a poll that has to wait for other polls
		free, err := l.enter(ctx, false)
		check(t, err)
		defer free()
	}
	select {
	case <-third:
		t.Fatal("three of four places are polls")
	default:
	}
	leave[0]()
	(<-third)()
	leave[1]()
}

// However calls come, go and give up while the limit moves, no place is lost and none is given twice.
func TestNoPlaceIsLost(t *testing.T) {
	l, _ := limited(6)
	var group sync.WaitGroup
	for range 40 {
		group.Go(func() {
			for range 50 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(300))*time.Microsecond)
				leave, err := l.enter(ctx, rand.IntN(3) == 0)
				cancel()
				if err != nil {
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					continue
				}
				l.mu.Lock()
				if l.inUse > l.most || l.polls > l.most/2 {
					t.Errorf("%d calls at once, %d of them polls", l.inUse, l.polls)
				}
				l.mu.Unlock()
				if rand.IntN(20) == 0 {
					l.refused(time.Now())
				}
				leave()
			}
		})
	}
	group.Wait()
	if l.inUse != 0 || l.polls != 0 || len(l.waiting)+len(l.pollers) != 0 {
		t.Errorf("%d places and %d polls are still in use, %d wait", l.inUse, l.polls, len(l.waiting)+len(l.pollers))
	}
}

// overloaded answers quickly up to so many calls at once, and ever slower beyond.
func overloaded(capacity int) func(int) time.Duration {
	return func(inFlight int) time.Duration {
		x := max(1, float64(inFlight)/float64(capacity))
		return time.Duration(float64(60*time.Millisecond) * x * x)
	}
}

func TestAVCenterThatSlowsUnderLoadIsAskedLessAtOnce(t *testing.T) {
	v := simulated(t, simulation.Options{Clusters: 1, HostsPerCluster: 1, VMsPerCluster: 60, Tagged: 60})
	g := gateway(t, v, func(c *Config) { c.MaxConcurrentCalls = 20 })
	refs := taggedRefs(v)
	check(t, g.Annotate(t.Context(), refs[0], attribute, "{}")) // how quick it is
	g.limit.mu.Lock()
	g.limit.set(20) // it has risen while vCenter was quick
	g.limit.mu.Unlock()
	v.SlowUnderLoad(overloaded(3))
	var group sync.WaitGroup
	for range 4 {
		for _, ref := range refs {
			group.Go(func() {
				if err := g.Annotate(t.Context(), ref, attribute, "{}"); err != nil {
					t.Error(err)
				}
			})
		}
	}
	lowest := 20
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	for ended := false; !ended; {
		lowest = min(lowest, g.limit.current())
		select {
		case <-done:
			ended = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	if lowest > 8 {
		t.Errorf("a vCenter that has room for 3 calls was asked for at least %d at once", lowest)
	}
}
