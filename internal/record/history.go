package record

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Filter chooses entries. Empty fields choose all. Names are compared in any case; clusters and VMs are named by name or
// MoRef.
type Filter struct {
	Since   time.Time // that ended since then, or are under way
	Until   time.Time // that began before
	VM      string
	Cluster string // or another scope
	Alarm   string // or what else caused it
	Kind    Kind
	State   string
}

// Matches reports whether an entry is chosen.
func (f Filter) Matches(e Entry) bool {
	switch {
	case !e.Open && e.EndedAt.Before(f.Since),
		!f.Until.IsZero() && !e.StartedAt.Before(f.Until),
		f.Kind != "" && f.Kind != e.Kind,
		f.State != "" && !strings.EqualFold(f.State, e.State),
		f.Alarm != "" && !strings.EqualFold(f.Alarm, e.Alarm) && !strings.EqualFold(f.Alarm, e.By),
		f.Cluster != "" && !e.in(f.Cluster),
		f.VM != "" && !slices.ContainsFunc(e.VMs, func(v VM) bool { return v.Is(f.VM) }):
		return false
	}
	return true
}

// in reports whether the entry is about a cluster, or another scope, called so.
func (e Entry) in(name string) bool {
	for _, ref := range []vsphere.Ref{e.Scope, e.Cluster} {
		if !ref.Zero() && (ref.Value == name || ref.String() == name) {
			return true
		}
	}
	return strings.EqualFold(e.ScopeName, name) || strings.EqualFold(e.ClusterName, name)
}

// History returns the entries that a filter chooses, newest first: what is under way, then what has ended. It reads what it
// does not know yet, and the error says that not all could be read: the entries are then those that are known. Reach says
// whether they are all there is.
func (r *Reader) History(ctx context.Context, f Filter) ([]Entry, Reach, error) {
	_, err := r.Now(ctx)
	if err == nil {
		err = r.extend(ctx, f.Since)
	}
	out, reach := r.Known(f)
	return out, reach, err
}

// Extend reads what has ended since a time. It keeps what it has read if ctx ends.
func (r *Reader) Extend(ctx context.Context, since time.Time) (Reach, error) {
	err := r.extend(ctx, since)
	_, reach := r.ended(since)
	return reach, err
}

// Known is History without asking Temporal: what was read so far.
func (r *Reader) Known(f Filter) ([]Entry, Reach) {
	past, reach := r.ended(f.Since)
	out := []Entry{}
	open := r.openNow()
	over := make(map[string]bool, len(open))
	for _, e := range past {
		over[e.RunID] = true
	}
	for _, e := range open {
		if !over[e.RunID] && f.Matches(e) {
			out = append(out, e)
		}
	}
	for _, e := range past {
		if f.Matches(e) {
			out = append(out, e)
		}
	}
	return out, reach
}

// VMRecord is what the record knows of one VM.
type VMRecord struct {
	Ref     vsphere.Ref `json:"ref"`
	Name    string      `json:"name,omitempty"` // the last that is known
	Groups  []string    `json:"groups,omitempty"`
	Off     *Off        `json:"off,omitempty"` // nil: it is not off because of us, by the record
	Past    []VMPast    `json:"past"`          // newest first
	Downs   []Down      `json:"downs"`         // newest first
	Others  []VM        `json:"others"`        // that have the same name, where it was named by name
	Pending *Entry      `json:"pending,omitempty"`
}

// VMPast is what became of the VM in one entry.
type VMPast struct {
	Entry Entry     `json:"entry"` // without its VMs
	VM    VM        `json:"vm"`
	At    time.Time `json:"at"`
}

// VM returns what the record knows of the VM of a name or MoRef since a time. ok is false where it knows nothing.
func (r *Reader) VM(ctx context.Context, name string, since time.Time) (rec VMRecord, reach Reach, ok bool, err error) {
	entries, reach, err := r.History(ctx, Filter{Since: since})
	rec, ok = vmOf(entries, name)
	return rec, reach, ok, err
}

// KnownVM is VM without asking Temporal.
func (r *Reader) KnownVM(name string, since time.Time) (rec VMRecord, reach Reach, ok bool) {
	entries, reach := r.Known(Filter{Since: since})
	rec, ok = vmOf(entries, name)
	return rec, reach, ok
}

// vmOf collects what entries, newest first, say of one VM.
func vmOf(entries []Entry, name string) (rec VMRecord, ok bool) {
	rec = VMRecord{Past: []VMPast{}, Downs: []Down{}, Others: []VM{}}
	for i := range entries {
		for _, v := range entries[i].VMs {
			if v.Ref.Zero() || !v.Is(name) && v.Ref != rec.Ref {
				continue
			}
			if !ok {
				rec.Ref, ok = v.Ref, true
			}
			if v.Ref != rec.Ref {
				rec.another(v)
				continue
			}
			rec.add(&entries[i], v)
		}
	}
	for _, d := range Downs(entries) {
		if d.VM == rec.Ref && ok {
			rec.Downs = append(rec.Downs, d)
		}
	}
	slices.Reverse(rec.Downs)
	if len(rec.Downs) > 0 && rec.Downs[0].Until.IsZero() && !rec.Downs[0].Unknown {
		rec.Off = &rec.Downs[0].Off
	}
	return rec, ok
}

func (rec *VMRecord) another(v VM) {
	if !slices.ContainsFunc(rec.Others, func(o VM) bool { return o.Ref == v.Ref }) {
		rec.Others = append(rec.Others, v)
	}
}

func (rec *VMRecord) add(e *Entry, v VM) {
	if rec.Name == "" {
		rec.Name = v.Name
	}
	if rec.Groups == nil {
		rec.Groups = v.Groups
	}
	short := *e
	short.VMs = nil
	if v.Done == Waiting {
		rec.Pending = &short
	}
	rec.Past = append(rec.Past, VMPast{Entry: short, VM: v, At: e.when(v)})
}
