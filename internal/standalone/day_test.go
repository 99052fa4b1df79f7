package standalone

import (
	"math"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/demoapi"
)

func TestTheDaysRiseAboveTheAlarmAndFallAgain(t *testing.T) {
	for name, c := range map[string]struct {
		day     day
		highest float64 // threshold that the peak passes
	}{contended: {workingDay, alarmRed}, other: {eveningDay, alarmYellow}} {
		lowest, highest := 100.0, 0.0
		for hour := 0.0; hour < 24; hour += 0.1 {
			at := c.day.at(hour, name)
			lowest, highest = min(lowest, at), max(highest, at)
			if again := c.day.at(hour, name); again != at {
				t.Errorf("%s at %.1f: %v and %v", name, hour, at, again)
			}
			if off := math.Abs(at - c.day.course(hour)); off > wobble {
				t.Errorf("%s at %.1f is %.1f off its course", name, hour, off)
			}
		}
		if lowest < demoapi.LeastLoad || lowest > 50 || highest <= c.highest || highest > demoapi.MostLoad {
			t.Errorf("%s: %.0f %% to %.0f %%", name, lowest, highest)
		}
	}
}

func TestTheCourseOfADayIsWithoutAGap(t *testing.T) {
	d := day{{6, 40}, {18, 80}}
	for hour, want := range map[float64]float64{6: 40, 9: 50, 12: 60, 18: 80, 21: 70, 0: 60, 3: 50, 23.999: 60} {
		if got := d.course(hour); math.Abs(got-want) > 0.01 {
			t.Errorf("at %v: %v, want %v", hour, got, want)
		}
	}
}

func TestTheSpeedMakesTheDayShorter(t *testing.T) {
	for name, c := range map[string]struct {
		passed time.Duration
		speed  float64
		want   string
	}{
		"at the start":        {0, 1, "08:15"},
		"an hour":             {hourLasts, 1, "09:15"},
		"a day":               {dayLasts, 1, "08:15"},
		"past midnight":       {dayLasts - 8*hourLasts, 1, "00:15"},
		"ten times as fast":   {dayLasts / 240, 10, "09:15"},
		"a tenth of the pace": {10 * hourLasts, 0.1, "09:15"},
	} {
		if got := timeOfDay(hourAfter(c.passed, c.speed) + 1e-9); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
