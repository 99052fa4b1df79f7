package simulation

import (
	"reflect"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// lag is how long events come after the state that they tell of.
type lag struct {
	mu sync.Mutex // a leaf
	of func(class string) time.Duration
}

// LagEvents lets the events to come reach the history later than the state that they tell of, each with the time at
// which it happened: after what of says for its class, such as VmPoweredOffEvent. Events of different lag come in
// another order than they happened. Alarms come at once, as PostAlarm returns their event. A nil func lets the events
// to come do so too.
func (v *VCenter) LagEvents(of func(class string) time.Duration) {
	v.lag.mu.Lock()
	defer v.lag.mu.Unlock()
	v.lag.of = of
}

// LagOf is a func for LagEvents: so long for the classes named, not at all for the others.
func LagOf(d time.Duration, classes ...string) func(class string) time.Duration {
	late := map[string]bool{}
	for _, class := range classes {
		late[class] = true
	}
	return func(class string) time.Duration {
		if late[class] {
			return d
		}
		return 0
	}
}

func (l *lag) after(event types.BaseEvent) time.Duration {
	l.mu.Lock()
	of := l.of
	l.mu.Unlock()
	if _, alarm := event.(*types.AlarmStatusChangedEvent); alarm || of == nil {
		return 0
	}
	if e, ok := event.(*types.EventEx); ok {
		return of(e.EventTypeId)
	}
	return of(reflect.TypeOf(event).Elem().Name())
}

// postLater adds an event of now to the history in a while.
func (v *VCenter) postLater(ctx *simulator.Context, event types.BaseEvent, after time.Duration) {
	happened, user := time.Now(), ctx.Session.UserName
	if !v.begin() {
		return
	}
	go func() {
		defer v.work.Done()
		if v.sleep(after) {
			v.postAt(v.context(user), event, happened)
		}
	}()
}
