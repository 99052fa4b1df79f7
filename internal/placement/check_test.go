package placement_test

import (
	"strings"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestSettingsThatARuleLeavesOutAreFilledInByItsAlarm(t *testing.T) {
	half := clock.Duration(30 * time.Minute)
	cases := map[string]struct {
		alarm string
		rule  placement.Resize
		want  placement.Resize
	}{
		"vSphere's CPU alarm recommends steps": {
			alarm: placement.AlarmCPU,
			want:  placement.Resize{Resource: placement.CPU, Mode: placement.ModeRecommend, Sizing: placement.SizingSteps, Max: 16, Cooldown: half},
		},
		"vSphere's memory alarm recommends steps": {
			alarm: placement.AlarmMemory,
			want:  placement.Resize{Resource: placement.Memory, Mode: placement.ModeRecommend, Sizing: placement.SizingSteps, Max: 65536, Cooldown: half},
		},
		"the original CPU alarm does what the original did": {
			alarm: placement.AlarmOriginalCPU,
			want:  placement.Resize{Resource: placement.CPU, Mode: placement.ModeTag, Sizing: placement.SizingOriginal, Max: 4, Cooldown: half},
		},
		"the original memory alarm does what the original did": {
			alarm: placement.AlarmOriginalMemory,
			want:  placement.Resize{Resource: placement.Memory, Mode: placement.ModeTag, Sizing: placement.SizingOriginal, Max: 8192, Cooldown: half},
		},
		"an alarm of one's own names no resource": {
			alarm: "mine", want: placement.Resize{Mode: placement.ModeRecommend, Sizing: placement.SizingSteps, Cooldown: half},
		},
		"what the rule says stays": {
			alarm: placement.AlarmOriginalCPU,
			rule:  placement.Resize{Resource: placement.Memory, Mode: placement.ModeHotAdd, Sizing: placement.SizingSteps, Cooldown: clock.Duration(time.Hour)},
			want:  placement.Resize{Resource: placement.Memory, Mode: placement.ModeHotAdd, Sizing: placement.SizingSteps, Max: 65536, Cooldown: clock.Duration(time.Hour)},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := tc.rule.WithDefaults(tc.alarm); got != tc.want {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
		})
	}
	want := placement.Move{TargetUsage: 75, OverCommit: 150, Cooldown: clock.Duration(24 * time.Hour)}
	if got := (placement.Move{}).WithDefaults(); got != want {
		t.Errorf("a move: got %+v, want %+v", got, want)
	}
}

func TestImpossibleSettingsAreToldInWords(t *testing.T) {
	resize := func(change func(*placement.Resize)) error {
		s := placement.Resize{}.WithDefaults(placement.AlarmCPU)
		change(&s)
		return s.Check()
	}
	move := func(change func(*placement.Move)) error {
		m := placement.Move{}.WithDefaults()
		change(&m)
		return m.Check()
	}
	window := func(s *placement.Resize) {
		s.Mode, s.Window, s.Duration, s.TimeZone = placement.ModePowerCycle, "0 2 * * SUN", clock.Duration(4*time.Hour), "Europe/Berlin"
	}
	cases := map[string]struct {
		err  error
		want string // empty: nothing is wrong
	}{
		"the defaults of a resize are right": {err: resize(func(*placement.Resize) {})},
		"the defaults of a move are right":   {err: move(func(*placement.Move) {})},
		"the defaults of an unknown alarm lack the resource": {
			err: placement.Resize{}.WithDefaults("mine").Check(), want: `resource: "" is not one of cpu, memory`,
		},
		"a resize may not be off":   {err: resize(func(s *placement.Resize) { s.Mode = placement.ModeOff }), want: `mode: "off" is not one of recommend, tag,`},
		"an unknown sizing":         {err: resize(func(s *placement.Resize) { s.Sizing = "double" }), want: `sizing: "double" is not one of steps, original`},
		"too many CPUs":             {err: resize(func(s *placement.Resize) { s.Max = 769 }), want: "max: 769 is not within 1 to 768"},
		"no CPUs":                   {err: resize(func(s *placement.Resize) { s.Max = -1 }), want: "max: -1 is not within 1 to 768"},
		"the most CPUs":             {err: resize(func(s *placement.Resize) { s.Max = 768 })},
		"the most memory":           {err: resize(func(s *placement.Resize) { s.Resource, s.Max = placement.Memory, 25165824 })},
		"too much memory":           {err: resize(func(s *placement.Resize) { s.Resource, s.Max = placement.Memory, 25165828 }), want: "max: 25165828 is not within 4 to 25165824"},
		"a cooldown of 31 days":     {err: resize(func(s *placement.Resize) { s.Cooldown = clock.Duration(31 * 24 * time.Hour) }), want: "cooldown: 744h0m0s is not within"},
		"a power cycle in a window": {err: resize(window)},
		"a window for those that a tag opts in": {err: resize(func(s *placement.Resize) {
			window(s)
			s.Mode = placement.ModeRecommend
		})},
		"a power cycle at any time": {err: resize(func(s *placement.Resize) { s.Mode = placement.ModePowerCycle }), want: "mode: powerCycleInWindow needs a window and its duration"},
		"a window without an end": {err: resize(func(s *placement.Resize) {
			window(s)
			s.Duration = 0
		}), want: "duration: 0s is not within 1m to 168h"},
		"a window that is no cron expression": {err: resize(func(s *placement.Resize) {
			window(s)
			s.Window = "at night"
		}), want: `window: "at night": it has 2 of 5 fields`},
		"a time zone that nobody knows": {err: resize(func(s *placement.Resize) {
			window(s)
			s.TimeZone = "Europe/Gotham"
		}), want: `timeZone: "Europe/Gotham" is no time zone`},
		"a target above what destinations may have": {err: move(func(m *placement.Move) { m.TargetUsage = 81 }), want: "targetUsage: 81 is not within 20 to 80"},
		"a target of nearly nothing":                {err: move(func(m *placement.Move) { m.TargetUsage = 19 }), want: "targetUsage: 19 is not within 20 to 80"},
		"less provisioned than there is":            {err: move(func(m *placement.Move) { m.OverCommit = 99 }), want: "overCommit: 99 is not within 100 to 1000"},
		"a move in a mode of resizes":               {err: move(func(m *placement.Move) { m.Mode = placement.ModeTag }), want: `mode: "tag" is not recommend; leave it out to act`},
		"a move that only tells":                    {err: move(func(m *placement.Move) { m.Mode = placement.ModeRecommend })},
		"a negative cooldown of moves":              {err: move(func(m *placement.Move) { m.Cooldown = -1 }), want: "cooldown: -1ns is not within"},
		"a reconfiguration that acts":               {err: placement.Reconfigure{}.Check()},
		"a reconfiguration that only tells":         {err: placement.Reconfigure{Mode: placement.ModeRecommend}.Check()},
		"a reconfiguration in an unknown mode":      {err: placement.Reconfigure{Mode: "later"}.Check(), want: `mode: "later" is not recommend; leave it out to act`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			switch {
			case tc.want == "" && tc.err != nil:
				t.Errorf("refused: %v", tc.err)
			case tc.want != "" && (tc.err == nil || !strings.Contains(tc.err.Error(), tc.want)):
				t.Errorf("got %v, want %s", tc.err, tc.want)
			}
		})
	}
}

func TestAPowerCycleWaitsForItsWindow(t *testing.T) {
	const layout = "Mon 2006-01-02 15:04"
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		cron     string
		duration time.Duration
		now      string
		until    string // open until; empty: closed
		next     string // the next start; empty: never
	}{
		"before it":                          {"0 2 * * SUN", 4 * time.Hour, "Sat 2026-11-21 12:00", "", "Sun 2026-11-22 02:00"},
		"in its first minute":                {"0 2 * * SUN", 4 * time.Hour, "Sun 2026-11-22 02:00", "Sun 2026-11-22 06:00", "Sun 2026-11-29 02:00"},
		"at its end":                         {"0 2 * * SUN", 4 * time.Hour, "Sun 2026-11-22 06:00", "", "Sun 2026-11-29 02:00"},
		"the night the clock skips it":       {"30 2 * * *", time.Hour, "Sun 2026-03-29 01:00", "", "Sun 2026-03-29 03:00"},
		"the night the clock shows it twice": {"30 2 * * *", time.Hour, "Sat 2026-10-24 12:00", "", "Sun 2026-10-25 02:30"},
		"within the hour of another window":  {"*/20 * * * *", 10 * time.Minute, "Sun 2026-11-22 12:05", "Sun 2026-11-22 12:10", "Sun 2026-11-22 12:20"},
		"in a leap year":                     {"0 0 29 2 *", time.Hour, "Sun 2026-11-22 12:05", "", "Tue 2028-02-29 00:00"},
		"on a day that does not exist":       {"0 0 30 2 *", time.Hour, "Sun 2026-11-22 12:05", "", ""},
		"one that cannot be read":            {"whenever", time.Hour, "Sun 2026-11-22 12:05", "", ""},
		"one that lasts no time":             {"* * * * *", 0, "Sun 2026-11-22 12:05", "", ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			now, err := time.ParseInLocation(layout, tc.now, berlin)
			if err != nil {
				t.Fatal(err)
			}
			w := placement.Resize{Window: tc.cron, Duration: clock.Duration(tc.duration), TimeZone: "Europe/Berlin"}.PowerCycle()
			opened := ""
			if until, ok := w.Open(now); ok {
				opened = until.Format(layout)
			}
			if opened != tc.until {
				t.Errorf("open until %q, want %q", opened, tc.until)
			}
			from, until, err := w.Next(now)
			if tc.next == "" {
				if err == nil {
					t.Errorf("opens at %s, want never", from)
				}
				return
			}
			if err != nil || from.Format(layout) != tc.next || until.Sub(from) != tc.duration {
				t.Errorf("opens at %s until %s (%v), want %s for %s", from, until, err, tc.next, tc.duration)
			}
		})
	}
}

func TestTheDefaultTaskQueueIsNotPartOfWorkflowIDs(t *testing.T) {
	vm := vsphere.Ref{Type: vsphere.TypeVM, Value: "vm-42"}
	for queue, want := range map[string]string{
		"": "resize@vm-42", preemption.DefaultTaskQueue: "resize@vm-42", "site-b": "resize@vm-42@site-b",
	} {
		if got := placement.WorkflowID(placement.KindResize, vm, queue); got != want {
			t.Errorf("queue %q: id %q, want %q", queue, got, want)
		}
	}
}
