package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/sdk/client"
)

// mask is a set of small numbers: bit n means n.
type mask uint64

func (m mask) has(n int) bool { return m>>n&1 == 1 }

// numbers returns the set in rising order.
func (m mask) numbers() (all []int) {
	for n := range 64 {
		if m.has(n) {
			all = append(all, n)
		}
	}
	return all
}

// calendar is when a cron expression matches: one set for each of its five fields. A minute matches if
// all five fields match, including both day fields.
type calendar [5]mask

// The fields of a calendar.
const (
	fieldMinute = iota
	fieldHour
	fieldDay
	fieldMonth
	fieldWeekday
)

// cronField is the range of one field.
type cronField struct {
	name     string
	min, max int
	names    []string // of the numbers from min on
}

var cronFields = [5]cronField{
	{name: "minute", max: 59},
	{name: "hour", max: 23},
	{name: "day of month", min: 1, max: 31},
	{name: "month", min: 1, max: 12, names: []string{
		"january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december",
	}},
	{name: "day of week", max: 6, names: []string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}},
}

var cronMacros = map[string]string{
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
	"@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}

// parseCron reads a cron expression of five fields, or a name such as @daily. It accepts what Temporal
// accepts, so that a mistake is reported before anything is created.
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
	parts := strings.Fields(text)
	if len(parts) != len(c) {
		return c, fmt.Errorf("it has %d fields, want 5: minute, hour, day of month, month, day of week", len(parts))
	}
	for i, f := range cronFields {
		if c[i], err = f.parse(parts[i]); err != nil {
			return c, fmt.Errorf("%s %q: %w", f.name, parts[i], err)
		}
	}
	return c, nil
}

// parse reads a list of numbers, names, ranges and steps.
func (f cronField) parse(text string) (m mask, err error) {
	for part := range strings.SplitSeq(text, ",") {
		span, stepText, stepped := strings.Cut(part, "/")
		step := 1
		if stepped {
			if step, err = strconv.Atoi(stepText); err != nil || step < 1 {
				return 0, fmt.Errorf("the step %q is no number from 1", stepText)
			}
		}
		first, last, err := f.span(span, stepped)
		if err != nil {
			return 0, err
		}
		for n := first; n <= last; n += step {
			if f.name == cronFields[fieldWeekday].name {
				m |= 1 << (n % 7) // 7 is Sunday too
			} else {
				m |= 1 << n
			}
		}
	}
	return m, nil
}

// span reads *, a number, or a range; a number with a step continues to the end.
func (f cronField) span(text string, stepped bool) (first, last int, err error) {
	if text == "*" {
		return f.min, f.max, nil
	}
	from, to, ranged := strings.Cut(text, "-")
	if first, err = f.number(from); err != nil {
		return 0, 0, err
	}
	switch {
	case !ranged && stepped:
		return first, max(first, f.max), nil
	case !ranged:
		return first, first, nil
	}
	if last, err = f.number(to); err != nil {
		return 0, 0, err
	}
	if last < first {
		return 0, 0, fmt.Errorf("the range runs backwards: write it as two")
	}
	return first, last, nil
}

func (f cronField) number(text string) (int, error) {
	top := f.max
	if f.name == cronFields[fieldWeekday].name {
		top = 7
	}
	if n, err := strconv.Atoi(text); err == nil {
		if n < f.min || n > top {
			return 0, fmt.Errorf("%d is not within %d to %d", n, f.min, top)
		}
		return n, nil
	}
	for i, name := range f.names {
		if len(text) >= 3 && strings.HasPrefix(name, strings.ToLower(text)) {
			return f.min + i, nil
		}
	}
	return 0, fmt.Errorf("%q is no number and no name", text)
}

func (f cronField) full() mask { return (1<<(f.max+1) - 1) &^ (1<<f.min - 1) }

// ranges writes a set as Temporal has it: evenly spaced as one range with a step, else as runs.
func (m mask) ranges() (all []client.ScheduleRange) {
	ns := m.numbers()
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

// maskOf reads what ranges wrote.
func maskOf(all []client.ScheduleRange) (m mask) {
	for _, r := range all {
		for n := r.Start; n <= max(r.Start, r.End) && n < 64; n += max(r.Step, 1) {
			m |= 1 << n
		}
	}
	return m
}

// text writes a set as a field of a cron expression.
func (f cronField) text(m mask) string {
	if m == f.full() {
		return "*"
	}
	var parts []string
	for _, r := range m.ranges() {
		switch {
		case r.Start == r.End:
			parts = append(parts, strconv.Itoa(r.Start))
		case r.Step == 1:
			parts = append(parts, fmt.Sprintf("%d-%d", r.Start, r.End))
		case r.Start == f.min && r.End+r.Step > f.max:
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
	for i, f := range cronFields {
		parts[i] = f.text(c[i])
	}
	return strings.Join(parts, " ")
}

// spec is the calendar as Temporal has it.
func (c calendar) spec() client.ScheduleCalendarSpec {
	return client.ScheduleCalendarSpec{
		Second: []client.ScheduleRange{{}}, Minute: c[fieldMinute].ranges(), Hour: c[fieldHour].ranges(), DayOfMonth: c[fieldDay].ranges(),
		Month: c[fieldMonth].ranges(), DayOfWeek: c[fieldWeekday].ranges(),
	}
}

// calendarOf reads a calendar back; ok is false if five fields cannot express it.
func calendarOf(s client.ScheduleCalendarSpec) (c calendar, ok bool) {
	c = calendar{maskOf(s.Minute), maskOf(s.Hour), maskOf(s.DayOfMonth), maskOf(s.Month), maskOf(s.DayOfWeek)}
	return c, maskOf(s.Second) == 1 && len(s.Year) == 0
}

// day reports whether the calendar matches at any time of t's day.
func (c calendar) day(t time.Time) bool {
	return c[fieldMonth].has(int(t.Month())) && c[fieldDay].has(t.Day()) && c[fieldWeekday].has(int(t.Weekday()))
}

// lastYear bounds the search for the next time: Temporal looks no further.
const lastYear = 2100

// next returns the first time after t, in t's zone, that the calendar matches; the zero time for never. As
// in Temporal, a time in an hour that the zone skips is left out, and one in an hour that it repeats comes
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
		for _, hour := range c[fieldHour].numbers() {
			for _, minute := range c[fieldMinute].numbers() {
				at := time.Date(year, month, d, hour, minute, 0, 0, t.Location())
				if at.After(t) && at.Hour() == hour {
					return at
				}
			}
		}
	}
}
