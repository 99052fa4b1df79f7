package policy

import (
	"strings"
	"testing"
	"time"
)

func at(t *testing.T, text, zone string) time.Time {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	v, err := time.ParseInLocation("Mon 2006-01-02 15:04:05", text, loc)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestAWindowLastsFromItsStartForItsDuration(t *testing.T) {
	const berlin = "Europe/Berlin"
	cases := map[string]struct {
		expr     string
		duration time.Duration
		zone     string
		now      string
		want     string // the start; empty: it does not last
	}{
		"at its start":                                {"0 8 * * MON-FRI", 10 * time.Hour, berlin, "Mon 2026-11-23 08:00:00", "Mon 2026-11-23 08:00:00"},
		"in its last second":                          {"0 8 * * MON-FRI", 10 * time.Hour, berlin, "Mon 2026-11-23 17:59:59", "Mon 2026-11-23 08:00:00"},
		"at its end":                                  {"0 8 * * MON-FRI", 10 * time.Hour, berlin, "Mon 2026-11-23 18:00:00", ""},
		"a second early":                              {"0 8 * * MON-FRI", 10 * time.Hour, berlin, "Mon 2026-11-23 07:59:59", ""},
		"on a Sunday":                                 {"0 8 * * MON-FRI", 10 * time.Hour, berlin, "Sun 2026-11-22 12:00:00", ""},
		"over midnight":                               {"0 22 * * 5", 8 * time.Hour, berlin, "Sat 2026-11-21 05:00:00", "Fri 2026-11-20 22:00:00"},
		"Sunday is 0":                                 {"0 0 * * 0", 24 * time.Hour, berlin, "Sun 2026-11-22 12:00:00", "Sun 2026-11-22 00:00:00"},
		"Sunday is 7":                                 {"0 0 * * 7", 24 * time.Hour, berlin, "Sun 2026-11-22 12:00:00", "Sun 2026-11-22 00:00:00"},
		"Saturday to Sunday is 6-7":                   {"0 0 * * 6-7", 24 * time.Hour, berlin, "Sun 2026-11-22 12:00:00", "Sun 2026-11-22 00:00:00"},
		"every twenty minutes":                        {"*/20 * * * *", 10 * time.Minute, berlin, "Sun 2026-11-22 12:45:00", "Sun 2026-11-22 12:40:00"},
		"between every twenty minutes":                {"*/20 * * * *", 10 * time.Minute, berlin, "Sun 2026-11-22 12:55:00", ""},
		"from a start, every so often":                {"5/20 * * * *", time.Minute, berlin, "Sun 2026-11-22 12:25:00", "Sun 2026-11-22 12:25:00"},
		"a list of ranges":                            {"0 1-3,12,20-22/2 * nov *", time.Hour, berlin, "Sun 2026-11-22 22:30:00", "Sun 2026-11-22 22:00:00"},
		"not in a list of ranges":                     {"0 1-3,12,20-22/2 * nov *", time.Hour, berlin, "Sun 2026-11-22 21:30:00", ""},
		"either kind of day suffices":                 {"0 0 1 * SUN", 24 * time.Hour, berlin, "Sun 2026-11-22 12:00:00", "Sun 2026-11-22 00:00:00"},
		"one kind of day is limited":                  {"0 0 1 * *", 24 * time.Hour, berlin, "Sun 2026-11-22 12:00:00", ""},
		"the clock skips the start":                   {"30 2 * * *", time.Hour, berlin, "Sun 2026-03-29 03:10:00", "Sun 2026-03-29 03:00:00"},
		"the clock does not skip the start next day":  {"30 2 * * *", time.Hour, berlin, "Mon 2026-03-30 02:29:00", ""},
		"a half hour is skipped":                      {"15 2 * * *", time.Hour, "Australia/Lord_Howe", "Sun 2026-10-04 02:40:00", "Sun 2026-10-04 02:30:00"},
		"an empty zone is UTC":                        {"0 8 * * *", time.Hour, "", "Sun 2026-11-22 08:30:00", "Sun 2026-11-22 08:00:00"},
		"a week":                                      {"0 0 * * SUN", 7 * 24 * time.Hour, "", "Sat 2026-11-28 23:59:00", "Sun 2026-11-22 00:00:00"},
		"a date that does not exist this year passes": {"0 0 29 2 *", 24 * time.Hour, "", "Sun 2026-03-01 00:00:00", ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c, err := parseStarts(tc.expr)
			if err != nil {
				t.Fatal(err)
			}
			moment := at(t, tc.now, tc.zone)
			start, ok := c.started(moment.UTC(), tc.duration, moment.Location())
			if ok != (tc.want != "") || ok && !start.Equal(at(t, tc.want, tc.zone)) {
				t.Errorf("it started %v, %v; want %q", start.In(moment.Location()), ok, tc.want)
			}
		})
	}
}

func TestAStartThatTheClockShowsTwiceTakesPlaceTwice(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseStarts("30 2 * * *")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"2026-10-25T00:30:00Z": true, "2026-10-25T00:50:00Z": false, "2026-10-25T01:30:00Z": true, "2026-10-25T01:50:00Z": false,
	} {
		moment, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := c.started(moment, 15*time.Minute, zone); ok != want {
			t.Errorf("at %s it lasts: %v, want %v", text, ok, want)
		}
	}
}

func TestAWindowThatCannotBeReadSaysWhy(t *testing.T) {
	for expr, want := range map[string]string{
		"0 8 * *":    `"0 8 * *": it has 4 of 5 fields; write minute hour day month weekday`,
		"@daily":     `"@daily": it has 1 of 5 fields`,
		"60 * * * *": `"60 * * * *": "60" is no minute; it is 0 to 59`,
	} {
		if _, err := parseStarts(expr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", expr, err, want)
		}
	}
}

func FuzzStarts(f *testing.F) {
	for _, seed := range []string{"0 8 * * MON-FRI", "*/5 1-3,5 1 JAN 7", "59 23 31 12 6-7/2", "? ? ? ? ?"} {
		f.Add(seed, int64(1_790_000_000))
	}
	f.Fuzz(func(t *testing.T, expr string, unix int64) {
		c, err := parseStarts(expr)
		if err != nil {
			return
		}
		moment := time.Unix(unix%4_000_000_000, 0)
		if start, ok := c.started(moment, time.Hour, time.UTC); ok && (start.After(moment) || moment.Sub(start) >= time.Hour || !c.matches(start.UTC())) {
			t.Errorf("%q started %v before %v", expr, start, moment)
		}
	})
}
