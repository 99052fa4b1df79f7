package cli

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // for machines without a time zone database

	"github.com/spf13/cobra"
	"github.com/vsphere-preemption/vsphere-preemption/internal/cron"
	"go.temporal.io/sdk/client"
)

// Limits of an interval.
const (
	leastEvery = time.Minute
	mostEvery  = 366 * 24 * time.Hour
	aDay       = 24 * time.Hour
)

// whenFlags are the flags for the times of a schedule.
type whenFlags struct {
	cron, at, zone string
	every          time.Duration
}

func (f *whenFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.cron, "cron", "", "when, as five fields: minute, hour, day of month, month, day of week; or @daily and the like")
	flags.StringVar(&f.at, "at", "", "when, as time of the day: HH:MM; daily, or with --every the first time of the day")
	flags.DurationVar(&f.every, "every", 0, "how often, such as 12h; with --at a number of hours that divides a day; without it counted from midnight of 1970 UTC")
	flags.StringVar(&f.zone, "time-zone", "UTC", "time zone of --cron and --at, such as Europe/Berlin")
}

// timing is when a schedule runs: by a calendar in a zone, or at an interval.
type timing struct {
	calendar *calendar
	every    time.Duration
	zone     *time.Location
}

// timing checks the flags.
func (f whenFlags) timing(now time.Time) (t timing, err error) {
	if err := f.check(); err != nil {
		return t, err
	}
	if t.zone, err = time.LoadLocation(f.zone); err != nil || f.zone == "Local" || f.zone == "" {
		return t, usagef("--time-zone %q is not known: use a name of the time zone database, such as Europe/Berlin or UTC", f.zone)
	}
	switch {
	case f.cron != "":
		t.calendar, err = f.byCron()
	case f.at != "":
		t.calendar, err = f.byTime()
	default:
		t.every = f.every
		if f.zone != "UTC" {
			err = usagef("--time-zone has no effect on --every alone, which is counted in UTC: add --at, or leave it out")
		}
	}
	if err == nil && len(t.next(now, 1)) == 0 {
		err = usagef("--cron %q: there is no such day", f.cron)
	}
	return t, err
}

// check refuses flags that do not go together, and intervals that are too short or too long.
func (f whenFlags) check() error {
	switch {
	case f.cron == "" && f.at == "" && f.every == 0:
		return usagef("no time is given: use --cron, --at or --every")
	case f.cron != "" && (f.at != "" || f.every != 0):
		return usagef("--cron says when by itself: leave --at and --every out")
	case f.every != 0 && (f.every < leastEvery || f.every > mostEvery || f.every%time.Second != 0):
		return usagef("--every %s is not within %s to %s in whole seconds", f.every, span(leastEvery), span(mostEvery))
	}
	return nil
}

func (f whenFlags) byCron() (*calendar, error) {
	c, err := parseCron(f.cron)
	if err != nil {
		return nil, usagef("--cron %q: %w", f.cron, err)
	}
	return &c, nil
}

// byTime is every day at a time, and with an interval also at its multiples after that time.
func (f whenFlags) byTime() (*calendar, error) {
	at, err := time.Parse("15:04", f.at)
	if err != nil {
		return nil, usagef("--at %q is not a time of day: write it as HH:MM, such as 22:00", f.at)
	}
	every := cmp.Or(f.every, aDay)
	if every%time.Hour != 0 || every > aDay || aDay%every != 0 {
		return nil, usagef("--every %s with --at: a day must be a multiple of it, in hours; use 1h, 2h, 3h, 4h, 6h, 8h, 12h or 24h, or --cron", f.every)
	}
	c := calendar{
		cron.Minute: 1 << at.Minute(), cron.DayOfMonth: cron.DayOfMonth.Full(), cron.Month: cron.Month.Full(), cron.Weekday: cron.Weekday.Full(),
	}
	for passed := time.Duration(0); passed < aDay; passed += every {
		c[cron.Hour] |= 1 << at.Add(passed).Hour()
	}
	return &c, nil
}

// next returns the next n times after now, in the zone.
func (t timing) next(now time.Time, n int) (all []time.Time) {
	now = now.In(t.zone)
	for range n {
		if t.calendar != nil {
			now = t.calendar.next(now)
		} else {
			whole := int64(t.every / time.Second)
			now = time.Unix((now.Unix()/whole+1)*whole, 0).In(t.zone)
		}
		if now.IsZero() {
			break
		}
		all = append(all, now)
	}
	return all
}

// spec is the timing as Temporal has it. expr is what the person wrote, kept as a comment.
func (t timing) spec(expr string, jitter time.Duration) client.ScheduleSpec {
	s := client.ScheduleSpec{TimeZoneName: t.zone.String(), Jitter: jitter}
	if t.calendar == nil {
		s.Intervals = []client.ScheduleIntervalSpec{{Every: t.every}}
		return s
	}
	c := t.calendar.spec()
	if len(expr) <= 100 { // Temporal bounds the comment
		c.Comment = expr
	}
	s.Calendars = []client.ScheduleCalendarSpec{c}
	return s
}

// whenOf returns in words, and as cron or interval if possible, when a schedule runs. It reads what
// Temporal has, not what was requested: a schedule may have been changed elsewhere.
func whenOf(s *client.ScheduleSpec) (words, cron, every string) {
	var all []string
	for _, spec := range s.Calendars {
		c, ok := calendarOf(spec)
		if !ok {
			all = append(all, "by a calendar that was set elsewhere")
			continue
		}
		cron = c.String()
		all = append(all, c.words())
	}
	for _, i := range s.Intervals {
		every = span(i.Every)
		text := "every " + every
		if i.Offset > 0 {
			text += " from " + span(i.Offset)
		}
		all = append(all, text)
	}
	if len(all) > 1 {
		cron, every = "", ""
	}
	if len(s.Skip) > 0 {
		all = append(all, "with exceptions")
	}
	return strings.Join(all, "; "), cron, every
}

// words writes a calendar in words if few suffice, else as cron.
func (c calendar) words() string {
	hours, minutes := c[cron.Hour].Numbers(), c[cron.Minute].Numbers()
	days, monthly := c[cron.Weekday] != cron.Weekday.Full(), c[cron.DayOfMonth] != cron.DayOfMonth.Full()
	if len(minutes) != 1 || len(hours) > 4 || c[cron.Month] != cron.Month.Full() || days && monthly {
		return "cron " + c.String()
	}
	on := "every day"
	switch {
	case days:
		on = "on " + weekdays(c[cron.Weekday])
	case monthly:
		on = "on day " + fieldText(cron.DayOfMonth, c[cron.DayOfMonth]) + " of the month"
	}
	times := make([]string, len(hours))
	for i, h := range hours {
		times[i] = fmt.Sprintf("%02d:%02d", h, minutes[0])
	}
	return on + " at " + strings.Join(times, ", ")
}

// weekdays writes days of the week: Mon-Fri, or Mon, Thu.
func weekdays(m cron.Set) string {
	name := func(n int) string { return time.Weekday(n).String()[:3] }
	var parts []string
	for _, r := range ranges(m) {
		if r.Step == 1 && r.End > r.Start+1 {
			parts = append(parts, name(r.Start)+"-"+name(r.End))
			continue
		}
		for n := r.Start; n <= r.End; n += r.Step {
			parts = append(parts, name(n))
		}
	}
	return strings.Join(parts, ", ")
}

// span writes a duration without zero units: 10m, not 10m0s.
func span(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// inZone writes a time by the clock of its zone.
func inZone(t time.Time, zone string) string {
	if loc, err := time.LoadLocation(zone); err == nil {
		t = t.In(loc)
	}
	return t.Format("Mon 2006-01-02 15:04:05 MST")
}
