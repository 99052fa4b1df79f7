package record

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Sum is what preemptions cost and gave.
type Sum struct {
	Preemptions int           `json:"preemptions"` // times that a VM was turned off or throttled
	VMs         int           `json:"vms"`         // different VMs
	Down        time.Duration `json:"down"`        // nanoseconds, added over the VMs
	GHzHours    float64       `json:"ghzHours"`    // reclaimed: what each used when it was chosen, for as long as it was down
	GiBHours    float64       `json:"gibHours"`
	StillDown   int           `json:"stillDown,omitempty"` // of the preemptions; they count up to now
	Unknown     int           `json:"unknown,omitempty"`   // of the preemptions; the record does not show when they ended, and their hours are not counted
	Reclaim     time.Duration `json:"reclaim"`             // nanoseconds, from a round's start until a VM was off, the median
	ReclaimMost time.Duration `json:"reclaimMost"`

	vms      map[vsphere.Ref]bool
	reclaims []time.Duration
}

// Row is the Sum of one day, cluster, group, alarm or VM.
type Row struct {
	Key  string `json:"key"` // the day as 2006-01-02, a MoRef, or a name; empty: unknown, or none
	Name string `json:"name,omitempty"`
	Sum
}

// Sums adds up a time.
type Sums struct {
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until"`
	Rounds   int       `json:"rounds"`   // that turned off or throttled at least one VM
	Restores int       `json:"restores"` // that brought back at least one
	Total    Sum       `json:"total"`
	Days     []Row     `json:"days"` // each day of the time, also those without any; hours count on the day on which they passed
	Clusters []Row     `json:"clusters"`
	Groups   []Row     `json:"groups"` // a VM of several groups counts in each
	Alarms   []Row     `json:"alarms"`
	VMs      []Row     `json:"vms"` // the longest down first
}

// maxDays bounds the days that are listed.
const maxDays = 400

// Summed adds up what happened to VMs from since until until. Days begin at midnight in the place. Work that began before
// since counts with the hours within the time; its preemptions count where they happened within it.
func Summed(entries []Entry, since, until time.Time, place *time.Location) Sums {
	s := Sums{Since: since, Until: until, Days: []Row{}}
	for _, e := range entries {
		s.countWork(e)
	}
	days := newRows()
	for at := midnight(since, place); at.Before(until) && len(days.keys) < maxDays; at = at.AddDate(0, 0, 1) {
		days.row(at.Format(time.DateOnly), "")
	}
	clusters, groups, alarms, vms := newRows(), newRows(), newRows(), newRows()
	for _, d := range Downs(entries) {
		from, to := within(d, since, until)
		fresh := !d.Since.Before(since) && d.Since.Before(until)
		if !fresh && !to.After(from) {
			continue
		}
		s.Total.add(d, from, to, fresh)
		clusters.row(d.Cluster.Value, d.ClusterName).add(d, from, to, fresh)
		alarms.row(cmp.Or(d.Alarm, d.By, "by hand"), "").add(d, from, to, fresh)
		vms.row(d.VM.Value, d.Name).add(d, from, to, fresh)
		for _, g := range d.Groups {
			groups.row(g, "").add(d, from, to, fresh)
		}
		days.byDay(d, from, to, fresh, place)
	}
	s.Total.finish()
	s.Days, s.Clusters, s.Groups, s.Alarms, s.VMs = days.list(), clusters.list(), groups.list(), alarms.list(), vms.list()
	for _, list := range [][]Row{s.Clusters, s.Groups, s.Alarms, s.VMs} {
		slices.SortStableFunc(list, func(a, b Row) int {
			return cmp.Or(cmp.Compare(b.Down, a.Down), cmp.Compare(b.Preemptions, a.Preemptions), strings.Compare(a.Key, b.Key))
		})
	}
	return s
}

// countWork counts a round that turned VMs off, and a restore that brought VMs back, within the time.
func (s *Sums) countWork(e Entry) {
	did := func(what ...Done) bool {
		return slices.ContainsFunc(e.VMs, func(v VM) bool {
			at := e.when(v)
			return slices.Contains(what, v.Done) && !at.Before(s.Since) && at.Before(s.Until)
		})
	}
	switch {
	case e.Kind == Round && did(TurnedOff, Throttled):
		s.Rounds++
	case e.Kind == Restore && did(Returned):
		s.Restores++
	}
}

// within returns the part of a time down that lies within the time summed; none where its end is unknown.
func within(d Down, since, until time.Time) (from, to time.Time) {
	from, to = d.Since, d.Until
	if from.Before(since) {
		from = since
	}
	switch {
	case d.Unknown:
		return from, from
	case to.IsZero() || to.After(until):
		to = until
	}
	return from, to
}

func midnight(at time.Time, place *time.Location) time.Time {
	y, m, d := at.In(place).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, place)
}

func (s *Sum) add(d Down, from, to time.Time, fresh bool) {
	s.addHours(d, from, to)
	if s.vms == nil {
		s.vms = map[vsphere.Ref]bool{}
	}
	s.vms[d.VM] = true
	if !fresh {
		return
	}
	s.Preemptions++
	switch {
	case d.Unknown:
		s.Unknown++
	case d.Until.IsZero():
		s.StillDown++
	}
	if d.Reclaim > 0 {
		s.reclaims = append(s.reclaims, d.Reclaim)
	}
}

func (s *Sum) addHours(d Down, from, to time.Time) {
	if !to.After(from) {
		return
	}
	down := to.Sub(from)
	s.GHzHours += float64(d.CPUMHz) / 1000 * down.Hours()
	s.GiBHours += float64(d.MemoryMB) / 1024 * down.Hours()
	if !d.Throttled {
		s.Down += down
	}
}

func (s *Sum) finish() {
	s.VMs = len(s.vms)
	if len(s.reclaims) > 0 {
		slices.Sort(s.reclaims)
		s.Reclaim, s.ReclaimMost = s.reclaims[len(s.reclaims)/2], s.reclaims[len(s.reclaims)-1]
	}
}

// rows are sums by key.
type rows struct {
	keys map[string]*Row
}

func newRows() *rows { return &rows{keys: map[string]*Row{}} }

func (r *rows) row(key, name string) *Sum {
	row := r.keys[key]
	if row == nil {
		row = &Row{Key: key}
		r.keys[key] = row
	}
	if name != "" {
		row.Name = name // the last is how it is called now
	}
	return &row.Sum
}

// byDay divides a time down among the days on which it passed.
func (r *rows) byDay(d Down, from, to time.Time, fresh bool, place *time.Location) {
	if fresh {
		r.row(midnight(d.Since, place).Format(time.DateOnly), "").add(d, from, from, true)
	}
	for at := midnight(from, place); at.Before(to); at = at.AddDate(0, 0, 1) {
		begin, end := later(at, from), earlier(at.AddDate(0, 0, 1), to)
		r.row(at.Format(time.DateOnly), "").add(d, begin, end, false)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// list returns the rows by key.
func (r *rows) list() []Row {
	list := []Row{}
	for _, key := range slices.Sorted(maps.Keys(r.keys)) {
		row := r.keys[key]
		row.finish()
		list = append(list, *row)
	}
	return list
}
