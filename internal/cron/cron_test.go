package cron

import (
	"slices"
	"strings"
	"testing"
)

func TestEachFieldIsReadAsItsNumbers(t *testing.T) {
	for name, c := range map[string]struct {
		expr  string
		field Field
		want  []int
	}{
		"a number":                         {"5 * * * *", Minute, []int{5}},
		"a list of ranges and steps":       {"0 1-3,12,20-23/2 * * *", Hour, []int{1, 2, 3, 12, 20, 22}},
		"every so often":                   {"*/25 * * * *", Minute, []int{0, 25, 50}},
		"from a number on, every so often": {"5/25 * * * *", Minute, []int{5, 30, 55}},
		"a month by name":                  {"0 0 * nov,March *", Month, []int{3, 11}},
		"weekdays by name":                 {"0 0 * * MON-Friday", Weekday, []int{1, 2, 3, 4, 5}},
		"Sunday as 7":                      {"0 0 * * 7", Weekday, []int{0}},
		"until Sunday as 7":                {"0 0 * * 5-7", Weekday, []int{0, 5, 6}},
		"every other weekday up to Sunday": {"0 0 * * 1/2", Weekday, []int{0, 1, 3, 5}},
		"every weekday":                    {"0 0 * * *", Weekday, Weekday.Full().Numbers()},
		"every day of the month":           {"0 0 * * *", DayOfMonth, DayOfMonth.Full().Numbers()},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := Parse(c.expr)
			if got := e.Sets[c.field].Numbers(); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %v, %v; want %v", got, err, c.want)
			}
		})
	}
}

func TestBothDaysAreLimitedWhereNeitherBeginsWithAStar(t *testing.T) {
	for expr, want := range map[string]bool{"0 0 1 * SUN": true, "0 0 1 * *": false, "0 0 * * SUN": false, "0 0 */2 * SUN": false} {
		if e, err := Parse(expr); err != nil || e.BothDays != want {
			t.Errorf("%q: got %v, %v; want %v", expr, e.BothDays, err, want)
		}
	}
}

func TestAnExpressionThatCannotBeReadSaysWhy(t *testing.T) {
	for expr, want := range map[string]string{
		"":                 "it has 0 of 5 fields; write minute hour day month weekday",
		"0 0 8 * * MON":    "it has 6 of 5 fields",
		"60 * * * *":       `"60" is no minute; it is 0 to 59`,
		"0 0 0 * *":        `"0" is no day of month; it is 1 to 31`,
		"0 0 * 13 *":       `"13" is no month; it is 1 to 12 or one of JAN, FEB`,
		"0 0 * * MON-FUN":  `"FUN" is no weekday; it is 0 to 7 or one of SUN, MON`,
		"0 0 * * FRI-MON":  `"FRI-MON" of the weekday ends before it begins; write two ranges`,
		"0 0 * * mo":       `"mo" is no weekday`,
		"*/0 * * * *":      `"0" is no step of the minute`,
		"*/x * * * *":      `"x" is no step of the minute`,
		"1,,2 * * * *":     `"" is no minute`,
		"-1 * * * *":       `"" is no minute`,
		"TZ=UTC 0 8 * * *": "it has 6 of 5 fields",
		"? * * * *":        `"?" is no minute`,
	} {
		if _, err := Parse(expr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", expr, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"0 8 * * MON-FRI", "*/5 1-3,5 1 JAN 7", "59 23 31 12 6-7/2", "? ? ? ? ?"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		e, err := Parse(expr)
		if err != nil {
			return
		}
		for field, set := range e.Sets {
			if set == 0 || set&^Field(field).Full() != 0 {
				t.Errorf("%q: field %d holds %v", expr, field, set.Numbers())
			}
		}
	})
}
