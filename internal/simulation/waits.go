package simulation

import (
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// collected are the filters whose objects a first wait for updates has read.
type collected struct {
	mu      sync.Mutex // a leaf
	filters map[waitKey]bool
}

// put notes a filter as read, or as not; it reports whether it was.
func (c *collected) put(key waitKey, read bool) (was bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.filters == nil {
		c.filters = map[waitKey]bool{}
	}
	if was = c.filters[key]; read {
		c.filters[key] = true
	} else {
		delete(c.filters, key)
	}
	return was
}

// readOnce spares a wait for updates the simulator's reading of all objects at each change of any: with a hundred tasks
// that end at once, it took half a minute. Where a filter names its objects one by one, there is nothing to find anew
// once the first wait has read them. Filters that traverse are left as they are.
func (v *VCenter) readOnce(ctx *simulator.Context, req *types.WaitForUpdatesEx) {
	pc, ok := ctx.Session.Get(req.This).(*simulator.PropertyCollector)
	if !ok {
		return
	}
	var filters []types.ManagedObjectReference
	ctx.WithLock(pc, func() { filters = append(filters, pc.Filter...) })
	for _, ref := range filters {
		key := waitKey{ctx.Session.Key, ref}
		was := v.collected.put(key, req.Version == "")
		filter, ok := ctx.Session.Get(ref).(*simulator.PropertyFilter)
		if !ok || !was || req.Version == "" || traverses(filter) {
			continue
		}
		read := *filter // others may be reading the filter, so it is replaced, not changed
		read.Spec.ObjectSet = nil
		ctx.Session.Put(&read)
	}
}

func traverses(f *simulator.PropertyFilter) bool {
	for _, o := range f.Spec.ObjectSet {
		if len(o.SelectSet) > 0 {
			return true
		}
	}
	return false
}
