package policy

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// cron is a standard cron expression of five fields: the minutes, hours, days of the month, months and
// weekdays at which something starts, as bit sets. As in other cron implementations, if both
// kinds of day are limited, one of them suffices.
type cron struct {
	minutes, hours, days, months, weekdays uint64
	eitherDay                              bool
}

// cronField is the range of a field, and the names that stand for its numbers.
type cronField struct {
	name      string
	low, high int
	names     string
}

var cronFields = [5]cronField{
	{"minute", 0, 59, ""},
	{"hour", 0, 23, ""},
	{"day of month", 1, 31, ""},
	{"month", 1, 12, "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC"},
	{"weekday", 0, 7, "SUN MON TUE WED THU FRI SAT"},
}

// parseCron reads an expression such as "0 8 * * MON-FRI". Each field is *, a number, a name, a range or a
// list of them, each with an optional step after a slash.
func parseCron(expr string) (c cron, err error) {
	parts := strings.Fields(expr)
	if len(parts) != len(cronFields) {
		return c, fmt.Errorf("%q has %d fields; write minute hour day month weekday, such as \"0 8 * * MON-FRI\"", expr, len(parts))
	}
	var sets [5]uint64
	for i, f := range cronFields {
		if sets[i], err = f.set(parts[i]); err != nil {
			return c, fmt.Errorf("%q: %w", expr, err)
		}
	}
	c = cron{minutes: sets[0], hours: sets[1], days: sets[2], months: sets[3], weekdays: sets[4]}
	c.weekdays |= c.weekdays >> 7 & 1 // 7 is Sunday too
	c.eitherDay = !strings.HasPrefix(parts[2], "*") && !strings.HasPrefix(parts[4], "*")
	return c, nil
}

// set reads one field.
func (f cronField) set(text string) (set uint64, err error) {
	for item := range strings.SplitSeq(text, ",") {
		span, step, stepped := strings.Cut(item, "/")
		from, to, ranged := strings.Cut(span, "-")
		low, high, every := f.low, f.high, 1
		if span != "*" {
			if low, err = f.number(from); err != nil {
				return 0, err
			}
			if high = low; ranged {
				if high, err = f.number(to); err != nil {
					return 0, err
				}
			} else if stepped {
				high = f.high
			}
		}
		if stepped {
			if every, err = strconv.Atoi(step); err != nil || every < 1 {
				return 0, fmt.Errorf("%q is no step of the %s", step, f.name)
			}
		}
		if low > high {
			return 0, fmt.Errorf("%q of the %s ends before it begins; write two ranges", span, f.name)
		}
		for n := low; n <= high; n += every {
			set |= 1 << n
		}
	}
	return set, nil
}

func (f cronField) number(text string) (int, error) {
	for i, name := range strings.Fields(f.names) {
		if strings.EqualFold(name, text) {
			return min(i+f.low, f.high), nil
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < f.low || n > f.high {
		hint := ""
		if f.names != "" {
			hint = " or one of " + strings.ReplaceAll(f.names, " ", ", ")
		}
		return 0, fmt.Errorf("%q is no %s; it is %d to %d%s", text, f.name, f.low, f.high, hint)
	}
	return n, nil
}

// matches reports whether a start is in the minute of t, by the clock of t's time zone.
func (c cron) matches(t time.Time) bool {
	has := func(set uint64, n int) bool { return set>>n&1 == 1 }
	if !has(c.minutes, t.Minute()) || !has(c.hours, t.Hour()) || !has(c.months, int(t.Month())) {
		return false
	}
	day, weekday := has(c.days, t.Day()), has(c.weekdays, int(t.Weekday()))
	if c.eitherDay {
		return day || weekday
	}
	return day && weekday
}

// started returns the latest start at which a window of this duration still lasts at now; ok is false if
// there is none. A start that a clock change skips takes place when the clock jumps. A start that the clock
// shows twice takes place twice.
func (c cron) started(now time.Time, duration time.Duration, zone *time.Location) (start time.Time, ok bool) {
	for t := now.Truncate(time.Minute); now.Sub(t) < duration; t = t.Add(-time.Minute) {
		local := t.In(zone)
		if c.matches(local) {
			return t, true
		}
		_, offset := local.Zone()
		_, before := t.Add(-time.Minute).In(zone).Zone()
		for skipped := offset - before; skipped > 0; skipped -= 60 {
			if c.matches(local.Add(-time.Duration(skipped) * time.Second).In(time.FixedZone("", offset))) {
				return t, true
			}
		}
	}
	return time.Time{}, false
}
