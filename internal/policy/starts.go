package policy

import (
	"fmt"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/cron"
)

// starts are the minutes at which something starts. As everywhere in cron, where both kinds of day are limited, one of
// them suffices.
type starts cron.Expression

func parseStarts(text string) (starts, error) {
	e, err := cron.Parse(text)
	if err != nil {
		return starts{}, fmt.Errorf("%q: %w", text, err)
	}
	return starts(e), nil
}

// matches reports whether it starts in the minute of t, by the clock of t's time zone.
func (c starts) matches(t time.Time) bool {
	if !c.Sets[cron.Minute].Has(t.Minute()) || !c.Sets[cron.Hour].Has(t.Hour()) || !c.Sets[cron.Month].Has(int(t.Month())) {
		return false
	}
	day, weekday := c.Sets[cron.DayOfMonth].Has(t.Day()), c.Sets[cron.Weekday].Has(int(t.Weekday()))
	if c.BothDays {
		return day || weekday
	}
	return day && weekday
}

// started returns the latest start at which a window of this duration still lasts at now; ok is false where
// there is none. A start that a clock change skips takes place when the clock jumps; one that the clock
// shows twice takes place twice.
func (c starts) started(now time.Time, duration time.Duration, zone *time.Location) (start time.Time, ok bool) {
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
