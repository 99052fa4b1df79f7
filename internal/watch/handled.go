package watch

import (
	"slices"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// maxSeen bounds the marks in a checkpoint. Where more happened within the overlap, whoever goes on reads
// again from the oldest mark that is kept.
const maxSeen = 500

// handledEvents are the events that this attempt knows to be handled: those of the checkpoint it began with, and its own.
type handledEvents struct {
	marks []watchapi.Mark // the oldest first
	known map[watchapi.Mark]bool
}

func newHandledEvents(marks []watchapi.Mark) *handledEvents {
	h := &handledEvents{known: map[watchapi.Mark]bool{}}
	for _, m := range marks {
		h.add(m)
	}
	return h
}

// add takes a mark in; false means that it was in already.
func (h *handledEvents) add(m watchapi.Mark) bool {
	if h.known[m] {
		return false
	}
	h.known[m] = true
	at := len(h.marks)
	for at > 0 && h.marks[at-1].Time.After(m.Time) {
		at--
	}
	h.marks = slices.Insert(h.marks, at, m)
	return true
}

// forget drops what happened before that time.
func (h *handledEvents) forget(before time.Time) {
	h.marks = slices.DeleteFunc(h.marks, func(m watchapi.Mark) bool {
		old := m.Time.Before(before)
		if old {
			delete(h.known, m)
		}
		return old
	})
}

// newest returns the newest marks, as many as a checkpoint holds, the oldest of them first.
func (h *handledEvents) newest() []watchapi.Mark {
	return slices.Clone(h.marks[max(0, len(h.marks)-maxSeen):])
}

// readFrom is from where to read on after a checkpoint: a little before what was reached, unless more happened
// in that little than the checkpoint holds marks of.
func readFrom(c watchapi.Checkpoint) time.Time {
	from := c.Reached.Add(-overlap)
	if len(c.Seen) >= maxSeen && c.Seen[0].Time.After(from) {
		from = c.Seen[0].Time
	}
	if from.After(c.Reached) {
		return c.Reached
	}
	return from
}

// markHandled remembers and counts events as handled, each once.
func (f *follower) markHandled(marks []watchapi.Mark) {
	for _, m := range marks {
		if f.handled.add(m) {
			f.checkpoint.Events++
		}
	}
}

// moveCheckpoint moves the checkpoint behind the events.
func (f *follower) moveCheckpoint(events []vcenter.StreamEvent) {
	present := time.Now().Add(f.offset + overlap) // what is stamped later was so before vCenter's clock was set back
	for _, e := range events {
		f.markHandled([]watchapi.Mark{markOf(e)})
		if e.Time.After(f.checkpoint.Reached) && !e.Time.After(present) {
			f.checkpoint.Reached = e.Time
		}
	}
}

// advance moves the checkpoint behind the events before the first that is still to be handed over.
func (f *follower) advance() {
	n := 0
	for n < len(f.unhandled) && !f.pending[markOf(f.unhandled[n])] {
		n++
	}
	f.moveCheckpoint(f.unhandled[:n])
	f.unhandled = f.unhandled[n:]
}

func markOf(e vcenter.StreamEvent) watchapi.Mark { return watchapi.Mark{Key: e.Key, Time: e.Time} }
