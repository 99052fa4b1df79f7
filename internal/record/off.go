package record

import (
	"slices"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Off is a VM that is off, or throttled, because of us: by the last that the record has of it. What somebody did to it
// since in vCenter shows only when a restore looks at it again.
type Off struct {
	VM        vsphere.Ref `json:"vm"`
	Name      string      `json:"name,omitempty"`
	Throttled bool        `json:"throttled,omitempty"` // it is on, with our CPU limit
	Since     time.Time   `json:"since"`
	RoundID   string      `json:"roundID"`
	Alarm     string      `json:"alarm,omitempty"`
	By        string      `json:"by,omitempty"`
	Cluster   vsphere.Ref `json:"cluster,omitzero"`
	// ClusterName, Groups, CPUMHz and MemoryMB are as in the round.
	ClusterName string    `json:"clusterName,omitempty"`
	Groups      []string  `json:"groups,omitempty"`
	CPUMHz      int64     `json:"cpuMHz,omitempty"`
	MemoryMB    int64     `json:"memoryMB,omitempty"`
	Why         string    `json:"why,omitempty"`  // why it stays off, as the last restore that looked at it said
	WhyAt       time.Time `json:"whyAt,omitzero"` // when it said so
}

// Down is a time for which a VM was off, or throttled, because of us.
type Down struct {
	Off
	Until time.Time `json:"until,omitzero"` // zero: it is so still, by the record; or Unknown
	// Unknown says that it came back and the record does not show when: somebody else turned it on.
	Unknown   bool          `json:"unknown,omitempty"`
	RestoreID string        `json:"restoreID,omitempty"` // that brought it back
	Reclaim   time.Duration `json:"reclaim,omitempty"`   // nanoseconds from the round's start until it was off
}

// OffBy returns who is off, or throttled, because of us, the longest first. past is what has ended and open is what is
// under way.
func OffBy(past, open []Entry) []Off {
	off := []Off{}
	for _, d := range Downs(slices.Concat(open, past)) {
		if d.Until.IsZero() && !d.Unknown {
			off = append(off, d.Off)
		}
	}
	return off
}

// Downs returns each time for which a VM was off, or throttled, because of us, the oldest first. Entries are in any order.
func Downs(entries []Entry) []Down {
	steps := stepsOf(entries)
	var all []Down
	last := map[vsphere.Ref]int{} // the place of the time under way, from 1
	for _, s := range steps {
		at := last[s.vm.Ref]
		var now *Down
		if at > 0 {
			now = &all[at-1]
		}
		switch s.vm.Done {
		case TurnedOff, Throttled:
			if now != nil && now.RoundID == s.entry.ID { // a ladder: throttled before
				now.Throttled = s.vm.Done == Throttled
				continue
			}
			if now != nil {
				now.Unknown = !now.Throttled || s.vm.Done == Throttled
				if !now.Unknown {
					now.Until = s.at
				}
			}
			all = append(all, begun(s))
			last[s.vm.Ref] = len(all)
		case Returned:
			if now != nil {
				now.Until, now.RestoreID = s.at, s.entry.ID
				delete(last, s.vm.Ref)
			}
		case FoundOn:
			if now != nil {
				now.Unknown = true
				delete(last, s.vm.Ref)
			}
		case LeftOff:
			if now != nil {
				now.Why, now.WhyAt = s.vm.Reason, s.at
			}
		}
	}
	return all
}

// step is one thing that happened to one VM.
type step struct {
	at    time.Time
	entry *Entry
	vm    *VM
}

// stepsOf returns what happened to VMs, in order.
func stepsOf(entries []Entry) []step {
	var steps []step
	for i := range entries {
		e := &entries[i]
		if e.Kind != Round && e.Kind != Restore {
			continue
		}
		for j := range e.VMs {
			steps = append(steps, step{at: e.when(e.VMs[j]), entry: e, vm: &e.VMs[j]})
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return a.at.Compare(b.at) })
	return steps
}

// when returns when something happened to a VM of the entry.
func (e *Entry) when(v VM) time.Time {
	switch {
	case v.Done == Returned && !v.OnAt.IsZero():
		return v.OnAt
	case (v.Done == TurnedOff || v.Done == Throttled) && !v.OffAt.IsZero():
		return v.OffAt
	case !e.EndedAt.IsZero():
		return e.EndedAt
	case e.Kind == Round:
		return e.StartedAt
	}
	return e.At
}

func begun(s step) Down {
	e, v := s.entry, s.vm
	d := Down{Off: Off{
		VM: v.Ref, Name: v.Name, Throttled: v.Done == Throttled, Since: s.at, RoundID: e.ID, Alarm: e.Alarm, By: e.By,
		Cluster: e.Cluster, ClusterName: e.ClusterName, Groups: v.Groups, CPUMHz: v.CPUMHz, MemoryMB: v.MemoryMB,
	}}
	if took := s.at.Sub(e.StartedAt); took > 0 && !v.OffAt.IsZero() {
		d.Reclaim = took
	}
	return d
}

// Is reports whether a VM is called so: by MoRef, or by name in any case.
func (v VM) Is(name string) bool {
	return v.Ref.Value == name || v.Ref.String() == name || strings.EqualFold(v.Name, name)
}
