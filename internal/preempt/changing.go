package preempt

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Changing is one run of an activity that powers VMs off or on. From its first such call on it works on a context of its
// own: a cancellation spares what was not yet sent, and a stopping worker or lost heartbeats interrupt nothing. Where Temporal
// says that another worker has been given the work, what was not yet sent is left to that one. It may be repeated after a crash
// at any instant.
type Changing struct {
	env      *Env
	Ctx      context.Context // its own
	Asked    context.Context // the activity's: says whether it was cancelled
	Owner    string          // the id of the round or restore
	Repeated bool            // an earlier attempt may have sent something
	Sent     bool            // this run has sent a call that changes a VM
	Failures map[vsphere.Ref]int
	Lost     map[vsphere.Ref]bool // vCenter's answer to what was sent was lost: it may be under way
}

// Change begins a run. The run ends with the returned function. onlyLooks says that the run only finds out what an
// earlier one has done.
func (e *Env) Change(ctx context.Context, owner string, onlyLooks bool) (c *Changing, end func()) {
	stop := e.Beat(ctx)
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.Settings.Timing.Outage)
	return &Changing{
		env: e, Ctx: own, Asked: ctx, Owner: owner, Repeated: onlyLooks || activity.GetInfo(ctx).Attempt > 1,
		Failures: map[vsphere.Ref]int{}, Lost: map[vsphere.Ref]bool{},
	}, func() { cancel(); stop() }
}

// Cancelled reports whether what was not yet sent is to be spared.
func (c *Changing) Cancelled() bool { return step.Cancelled(c.Asked) }

// Superseded reports whether another worker has been given the work: it decides about what this one has not sent.
func (c *Changing) Superseded() bool { return step.Superseded(c.Asked) }

// longestPassPause is the longest pause between two passes over what is left.
const longestPassPause = time.Minute

// UntilDecided passes over the targets until none is left. It waits while vCenter is away, but for an outage before
// anything was sent: that is returned, and Temporal waits it out on whichever worker. giveUp gets the targets that are left
// for good, and why; no error means that vCenter stayed away.
func UntilDecided[T any](c *Changing, todo []T, pass func([]T) ([]T, error), giveUp func([]T, error)) error {
	for pause := c.env.Settings.Timing.Retry; len(todo) > 0; pause = min(2*pause, longestPassPause) {
		left, err := todo, c.handOver()
		if err == nil {
			left, err = pass(todo)
		}
		outage := vcenter.KindOf(err).Outage()
		switch {
		case err != nil && !outage:
			giveUp(left, err)
			return nil
		case outage && (!c.Sent || c.Superseded()):
			return step.Typed(err)
		}
		if todo = left; len(todo) == 0 {
			return nil
		}
		if !clock.Sleep(c.Ctx, pause) {
			giveUp(todo, err)
			return nil
		}
	}
	return nil
}

// handOver returns an error where the worker stops before anything was sent, or has been taken for dead: another worker takes
// over.
func (c *Changing) handOver() error {
	if c.Sent && !c.Superseded() || c.Asked.Err() == nil || c.Cancelled() {
		return nil
	}
	return &vcenter.Error{Op: "hand over", Object: c.Owner, Kind: vcenter.Unavailable, Err: context.Cause(c.Asked)}
}
