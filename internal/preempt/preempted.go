package preempt

import (
	"context"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// MarkChanged notes that the number of preempted VMs has changed, so that they are counted soon.
func (e *Env) MarkChanged() { e.changed.Store(true) }

// How often the preempted VMs are counted: one call over all VMs each.
const (
	countEvery = 5 * time.Minute
	countSoon  = 30 * time.Second // after a change
	countLook  = 2 * time.Second
)

// Records finds the VMs that carry an attribute.
type Records interface {
	Owned(ctx context.Context, key string) ([]vcenter.Owned, error)
}

// CountPreempted reports now and then, until ctx ends, how many VMs are off because of a preemption. It counts all VMs of
// this vCenter whose attribute says so, whichever worker turned them off.
func (e *Env) CountPreempted(ctx context.Context, in Records, tell func(n int)) {
	var last time.Time
	for {
		if since := time.Since(last); since >= countEvery || since >= countSoon && e.changed.Swap(false) {
			last = time.Now()
			if owned, err := in.Owned(ctx, preemption.AttributeKey); err == nil {
				n := 0
				for _, o := range owned {
					if record, ours := RecordOf(o.Value); record != nil && ours && !record.StaysOn && o.PowerState != vsphere.PoweredOn {
						n++
					}
				}
				tell(n)
			} else {
				e.MarkChanged()
			}
		}
		if !clock.Sleep(ctx, countLook) {
			return
		}
	}
}
