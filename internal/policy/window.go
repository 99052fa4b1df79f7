package policy

import (
	"errors"
	"fmt"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/cron"
)

// Window is a recurring time, such as each Sunday night.
type Window struct {
	Cron     string         `json:"window"`             // of the start: minute hour day month weekday
	Duration clock.Duration `json:"duration"`           // 1 minute to a week
	TimeZone string         `json:"timeZone,omitempty"` // as the tz database names it; empty: UTC
}

// furthest is how far ahead to search for a start: 29 February may be eight years away.
const furthest = 8*366*24*time.Hour + time.Hour

// Check returns an error for every impossible value, with its key.
func (w Window) Check() error {
	var c check
	if _, err := parseStarts(w.Cron); err != nil {
		c.add("window", "%w", err)
	}
	c.lasts("duration", w.Duration, time.Minute, week)
	if _, err := (Budget{TimeZone: w.TimeZone}).location(); err != nil {
		c.add("timeZone", "%q is no time zone; use a name such as Europe/Berlin, or UTC", w.TimeZone)
	}
	return errors.Join(c...)
}

// Open reports whether the window is open at now, and until when. A window that cannot be read is never open.
func (w Window) Open(now time.Time) (until time.Time, ok bool) {
	c, zone, err := w.read()
	if err != nil {
		return time.Time{}, false
	}
	start, ok := c.started(now, w.Duration.D(), zone)
	if !ok {
		return time.Time{}, false
	}
	return start.Add(w.Duration.D()).In(zone), true
}

// Next returns when the window opens for the first time after now, and when it closes then. It fails if the
// window cannot be read or never opens.
func (w Window) Next(now time.Time) (from, until time.Time, err error) {
	c, zone, err := w.read()
	if err != nil {
		return time.Time{}, time.Time{}, err
	}
	dates := c // at any time of its days
	dates.Sets[cron.Minute], dates.Sets[cron.Hour] = cron.Minute.Full(), cron.Hour.Full()
	for t := now.Truncate(time.Minute).Add(time.Minute); t.Sub(now) < furthest; {
		if start, ok := c.started(t, time.Minute, zone); ok {
			return start.In(zone), start.Add(w.Duration.D()).In(zone), nil
		}
		local, later := t.In(zone), t.Add(time.Hour).In(zone)
		_, offset := local.Zone()
		if _, after := later.Zone(); offset == after && !dates.matches(local) && !dates.matches(later) {
			t = t.Add(time.Hour)
		} else {
			t = t.Add(time.Minute)
		}
	}
	return time.Time{}, time.Time{}, fmt.Errorf("window: %q never comes", w.Cron)
}

// read returns the starts and the time zone.
func (w Window) read() (starts, *time.Location, error) {
	if err := w.Check(); err != nil {
		return starts{}, nil, err
	}
	c, err := parseStarts(w.Cron)
	if err != nil {
		return starts{}, nil, err
	}
	zone, err := (Budget{TimeZone: w.TimeZone}).location()
	return c, zone, err
}
