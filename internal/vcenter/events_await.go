package vcenter

import (
	"context"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
)

// told is how vCenter tells of news in the history: a property collector with a filter on the event collector's latest
// page.
type told struct {
	pc      *collector
	version string // of what it has told
}

// Await returns as soon as vCenter tells of an event that Next may not have returned, or after d, or when ctx ends. news
// says that there is one. It may return earlier without news, where one may have been missed: call Next after each return.
// vCenter holds one call open for it, beside those that the limit counts. If d is under a second, or vCenter does not
// answer, it sleeps for d: what vCenter tells only makes it faster.
func (r *EventReader) Await(ctx context.Context, d time.Duration) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	end := time.Now().Add(d)
	seconds := int32(d / time.Second)
	if r.history == nil || seconds == 0 || d+time.Second > r.g.cfg.CallTimeout {
		clock.Sleep(ctx, d)
		return false
	}
	if r.told == nil {
		if err := r.listen(ctx); err == nil {
			return false // what came before it listened is not told
		}
		clock.Sleep(ctx, time.Until(end))
		return false
	}
	c := call{op: "wait for", object: r.call.object, parked: true}
	set, err := r.g.updatesWithin(ctx, c, r.told.pc, r.told.version, seconds)
	r.told.pc.done = err == nil
	switch {
	case err != nil:
		r.untold(ctx)
		clock.Sleep(ctx, time.Until(end))
	case set != nil: // in a storm, nobody listens: vCenter would gather pages for us
		r.untold(ctx)
		return true
	}
	return false
}

// listen has vCenter tell of what comes from now on. Two calls, and one more if no property collector is idle.
func (r *EventReader) listen(ctx context.Context) error {
	pc, err := r.g.openCollector(ctx)
	if err != nil {
		return err
	}
	r.told = &told{pc: pc}
	c := call{op: "watch", object: r.call.object}
	err = r.g.addFilter(ctx, c, pc, types.PropertyFilterSpec{
		PropSet:   []types.PropertySpec{{Type: r.history.ref.Type, PathSet: []string{"latestPage"}}},
		ObjectSet: []types.ObjectSpec{{Obj: r.history.ref}},
	})
	if err != nil {
		r.untold(ctx)
		return err
	}
	set, err := r.g.updatesWithin(ctx, c, pc, "", 0)
	if err != nil {
		r.untold(ctx)
		return err
	}
	if pc.done = true; set != nil {
		r.told.version = set.Version
	}
	return nil
}

// untold gives back what vCenter tells by.
func (r *EventReader) untold(ctx context.Context) {
	if r.told != nil {
		r.g.giveBack(ctx, r.told.pc)
		r.told = nil
	}
}
