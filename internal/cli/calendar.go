package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/cron"
)

// calendar is when a cron expression matches: one set for each of its five fields. As in Temporal, a minute matches
// where all five do, the two fields of the day as well.
type calendar [5]cron.Set

var cronMacros = map[string]string{
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
	"@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}

// parseCron reads a cron expression of five fields, or a name such as @daily. It reads what Temporal reads,
// so that a mistake is told before anything is created.
func parseCron(text string) (c calendar, err error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "TZ=") || strings.HasPrefix(text, "CRON_TZ=") {
		return c, fmt.Errorf("name the time zone by --time-zone, not in the expression")
	}
	if strings.HasPrefix(text, "@every") {
		return c, fmt.Errorf("give an interval by --every")
	}
	if macro, ok := cronMacros[text]; ok {
		text = macro
	}
	e, err := cron.Parse(text)
	return e.Sets, err
}

// ranges writes a set as Temporal has it: evenly spaced as one range with a step, else as runs.
func ranges(m cron.Set) (all []client.ScheduleRange) {
	ns := m.Numbers()
	if len(ns) > 2 && ns[1]-ns[0] > 1 {
		step := ns[1] - ns[0]
		even := true
		for i := 2; i < len(ns); i++ {
			even = even && ns[i]-ns[i-1] == step
		}
		if even {
			return []client.ScheduleRange{{Start: ns[0], End: ns[len(ns)-1], Step: step}}
		}
	}
	for _, n := range ns {
		if last := len(all) - 1; last >= 0 && all[last].End == n-1 {
			all[last].End = n
			continue
		}
		all = append(all, client.ScheduleRange{Start: n, End: n, Step: 1})
	}
	return all
}

// setOf reads what ranges wrote.
func setOf(all []client.ScheduleRange) (m cron.Set) {
	for _, r := range all {
		for n := r.Start; n <= max(r.Start, r.End) && n < 64; n += max(r.Step, 1) {
			m |= 1 << n
		}
	}
	return m
}

// fieldText writes a set as a field of a cron expression.
func fieldText(f cron.Field, m cron.Set) string {
	if m == f.Full() {
		return "*"
	}
	low, high := f.Range()
	var parts []string
	for _, r := range ranges(m) {
		switch {
		case r.Start == r.End:
			parts = append(parts, strconv.Itoa(r.Start))
		case r.Step == 1:
			parts = append(parts, fmt.Sprintf("%d-%d", r.Start, r.End))
		case r.Start == low && r.End+r.Step > high:
			parts = append(parts, fmt.Sprintf("*/%d", r.Step))
		default:
			parts = append(parts, fmt.Sprintf("%d-%d/%d", r.Start, r.End, r.Step))
		}
	}
	return strings.Join(parts, ",")
}

// String is the calendar as a cron expression.
func (c calendar) String() string {
	parts := make([]string, len(c))
	for i, m := range c {
		parts[i] = fieldText(cron.Field(i), m)
	}
	return strings.Join(parts, " ")
}

// spec is the calendar as Temporal has it.
func (c calendar) spec() client.ScheduleCalendarSpec {
	return client.ScheduleCalendarSpec{
		Second: []client.ScheduleRange{{}}, Minute: ranges(c[cron.Minute]), Hour: ranges(c[cron.Hour]), DayOfMonth: ranges(c[cron.DayOfMonth]),
		Month: ranges(c[cron.Month]), DayOfWeek: ranges(c[cron.Weekday]),
	}
}

// calendarOf reads a calendar back; ok is false where five fields do not say it all.
func calendarOf(s client.ScheduleCalendarSpec) (c calendar, ok bool) {
	c = calendar{setOf(s.Minute), setOf(s.Hour), setOf(s.DayOfMonth), setOf(s.Month), setOf(s.DayOfWeek)}
	return c, setOf(s.Second) == 1 && len(s.Year) == 0
}

// day reports whether the calendar matches at any time of t's day.
func (c calendar) day(t time.Time) bool {
	return c[cron.Month].Has(int(t.Month())) && c[cron.DayOfMonth].Has(t.Day()) && c[cron.Weekday].Has(int(t.Weekday()))
}

// lastYear bounds the search for the next time: Temporal looks no further.
const lastYear = 2100

// next returns the first time behind t, in t's zone, that the calendar matches; the zero time for never. As
// in Temporal, a time in an hour that the zone skips does not come, and one in an hour that it repeats comes
// once.
func (c calendar) next(t time.Time) time.Time {
	year, month, first := t.Date()
	for d := first; ; d++ {
		day := time.Date(year, month, d, 12, 0, 0, 0, t.Location())
		if day.Year() >= lastYear {
			return time.Time{}
		}
		if !c.day(day) {
			continue
		}
		for _, hour := range c[cron.Hour].Numbers() {
			for _, minute := range c[cron.Minute].Numbers() {
				at := time.Date(year, month, d, hour, minute, 0, 0, t.Location())
				if at.After(t) && at.Hour() == hour {
					return at
				}
			}
		}
	}
}
