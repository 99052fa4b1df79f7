package record

import (
	"context"
	"encoding/json"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// RoundDetail is a round as a page shows it: the entry, the whole result, and what lies before and behind it.
type RoundDetail struct {
	Entry  Entry                   `json:"entry"`
	Result *preemptapi.RoundResult `json:"result,omitempty"` // nil: it cannot be read, see the entry's error
	// Event is the CloudEvent that caused it; of a person without an event, the one that the command made.
	Event      json.RawMessage `json:"event,omitempty"`
	EventError string          `json:"eventError,omitempty"` // why it cannot be read
	// Measured is the usage of its scopes as it was measured next, by whatever measured: the round itself measures only before.
	Measured []Cluster `json:"measured,omitempty"`
}

// Round returns one round with all that its result says. ok is false where Temporal keeps no such round.
func (r *Reader) Round(ctx context.Context, id string) (d RoundDetail, ok bool, err error) {
	d, ok, err = r.roundResult(ctx, id)
	if !ok || err != nil {
		return d, ok, err
	}
	demand, err := r.demandOf(ctx, d.Entry)
	if err != nil {
		d.EventError = err.Error()
	}
	d.Event = demand.Event
	entries, _ := r.Known(Filter{})
	d.Measured = measuredNext(&d.Entry, entries)
	return d, true, nil
}

// roundResult returns one round without what lies before and behind it.
func (r *Reader) roundResult(ctx context.Context, id string) (d RoundDetail, ok bool, err error) {
	info, err := r.Client.DescribeWorkflowExecution(ctx, id, "")
	if gone(err) {
		return d, false, nil
	}
	if err != nil {
		return d, false, err
	}
	w := info.GetWorkflowExecutionInfo()
	if w.GetType().GetName() != preemptapi.RoundType || w.GetTaskQueue() != "" && w.GetTaskQueue() != r.TaskQueue {
		return d, false, nil
	}
	d.Entry = r.shell(w)
	var v preemptapi.RoundResult
	if d.Entry.Open {
		err = r.query(ctx, id, d.Entry.RunID, preemptapi.RoundStateQuery, &v)
	} else {
		v, err = r.round(ctx, id, d.Entry.RunID)
	}
	if err != nil {
		d.Entry.unread(err)
		return d, true, nil
	}
	ofRound(&d.Entry, v)
	d.Result = &v
	return d, true, nil
}

// measuredNext returns of each scope of a round how it was measured first after the round's last VM was off.
func measuredNext(round *Entry, entries []Entry) []Cluster {
	var acted time.Time
	for _, vm := range round.VMs {
		if vm.OffAt.After(acted) {
			acted = vm.OffAt
		}
	}
	if round.Open || acted.IsZero() {
		return nil
	}
	var all []Cluster
	for _, before := range round.Usage {
		var next Cluster
		for i := range entries {
			e := &entries[i]
			first := e.Usage
			if e.Kind == Restore {
				first = e.UsageFirst
			}
			at, u := e.StartedAt, usageOf(first, before.Scope)
			if u != nil && e.ID != round.ID && at.After(acted) && (next.At.IsZero() || at.Before(next.At)) {
				next = e.cluster(*u, at)
			}
		}
		if !next.At.IsZero() {
			all = append(all, next)
		}
	}
	return all
}

// cluster is a usage as the entry measured it. Who is next it says of its own scope alone.
func (e *Entry) cluster(u policy.Usage, at time.Time) Cluster {
	c := Cluster{Usage: u, At: at, By: e.ID}
	if u.Scope == e.Scope {
		c.Next = e.Next
	}
	return c
}

// measuredAt is when the usage of an entry was measured: a restore measures after each wave.
func (e *Entry) measuredAt() time.Time {
	if e.Kind != Restore {
		return e.StartedAt
	}
	if e.EndedAt.IsZero() {
		return e.At
	}
	return e.EndedAt
}

func usageOf(all []policy.Usage, scope vsphere.Ref) *policy.Usage {
	for i := range all {
		if all[i].Scope == scope {
			return &all[i]
		}
	}
	return nil
}
