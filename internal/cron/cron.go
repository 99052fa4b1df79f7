// Package cron reads cron expressions of five fields. Which days match where both kinds of day are limited is for the
// caller to decide: cron itself takes either, Temporal takes both.
package cron

import (
	"fmt"
	"strconv"
	"strings"
)

// Set is a set of small numbers: bit n stands for n.
type Set uint64

// Has reports whether n is in the set.
func (s Set) Has(n int) bool { return s>>n&1 == 1 }

// Numbers returns the set in rising order.
func (s Set) Numbers() (all []int) {
	for n := range 64 {
		if s.Has(n) {
			all = append(all, n)
		}
	}
	return all
}

// Field is one of the five fields, by its place in the expression.
type Field int

// The fields.
const (
	Minute Field = iota
	Hour
	DayOfMonth
	Month
	Weekday
)

// fields says what each field may hold; names stand for the numbers from low on.
var fields = [5]struct {
	name      string
	low, high int
	names     []string
}{
	Minute:     {name: "minute", high: 59},
	Hour:       {name: "hour", high: 23},
	DayOfMonth: {name: "day of month", low: 1, high: 31},
	Month: {name: "month", low: 1, high: 12, names: []string{
		"JANUARY", "FEBRUARY", "MARCH", "APRIL", "MAY", "JUNE", "JULY", "AUGUST", "SEPTEMBER", "OCTOBER", "NOVEMBER", "DECEMBER",
	}},
	Weekday: {name: "weekday", high: 6, names: []string{"SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY"}},
}

// Range returns the lowest and the highest number of a field. Of weekdays, Sunday is the lowest.
func (f Field) Range() (low, high int) { return fields[f].low, fields[f].high }

// Full is the set of all numbers of a field.
func (f Field) Full() Set {
	low, high := f.Range()
	return (1<<(high+1) - 1) &^ (1<<low - 1)
}

// most is the highest number that may be written: 7 is Sunday too.
func (f Field) most() int {
	if f == Weekday {
		return 7
	}
	return fields[f].high
}

// Expression is a cron expression that was read: the numbers of each field.
type Expression struct {
	Sets [5]Set
	// BothDays says that the day of the month and the weekday are both limited: neither begins with *.
	BothDays bool
}

// Parse reads an expression such as "0 8 * * MON-FRI". Each field is *, a number, a name, a range or a list of them,
// each with a step behind / where wanted. A name may be cut to three letters or more.
func Parse(text string) (e Expression, err error) {
	parts := strings.Fields(text)
	if len(parts) != len(fields) {
		return e, fmt.Errorf("it has %d of 5 fields; write minute hour day month weekday, such as \"0 8 * * MON-FRI\"", len(parts))
	}
	for f := range e.Sets {
		if e.Sets[f], err = Field(f).parse(parts[f]); err != nil {
			return e, err
		}
	}
	e.BothDays = !strings.HasPrefix(parts[DayOfMonth], "*") && !strings.HasPrefix(parts[Weekday], "*")
	return e, nil
}

// parse reads one field.
func (f Field) parse(text string) (set Set, err error) {
	for item := range strings.SplitSeq(text, ",") {
		span, step, stepped := strings.Cut(item, "/")
		first, last, err := f.span(span, stepped)
		if err != nil {
			return 0, err
		}
		every := 1
		if stepped {
			if every, err = strconv.Atoi(step); err != nil || every < 1 {
				return 0, fmt.Errorf("%q is no step of the %s", step, fields[f].name)
			}
		}
		for n := first; n <= last; n += every {
			set |= 1 << n
		}
	}
	if f == Weekday && set.Has(7) {
		set = set&^(1<<7) | 1
	}
	return set, nil
}

// span reads *, a number or a range. A number with a step goes on to the end.
func (f Field) span(text string, stepped bool) (first, last int, err error) {
	if text == "*" {
		return fields[f].low, f.most(), nil
	}
	from, to, ranged := strings.Cut(text, "-")
	if first, err = f.number(from); err != nil {
		return 0, 0, err
	}
	switch {
	case !ranged && stepped:
		return first, f.most(), nil
	case !ranged:
		return first, first, nil
	}
	if last, err = f.number(to); err != nil {
		return 0, 0, err
	}
	if last < first {
		return 0, 0, fmt.Errorf("%q of the %s ends before it begins; write two ranges", text, fields[f].name)
	}
	return first, last, nil
}

// number reads a number or a name.
func (f Field) number(text string) (int, error) {
	low, high := fields[f].low, f.most()
	for i, name := range fields[f].names {
		if len(text) >= 3 && strings.HasPrefix(name, strings.ToUpper(text)) {
			return i + low, nil
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%q is no %s; it is %d to %d%s", text, fields[f].name, low, high, f.hint())
	}
	return n, nil
}

// hint lists the names of a field, as an error does.
func (f Field) hint() string {
	var short []string
	for _, name := range fields[f].names {
		short = append(short, name[:3])
	}
	if len(short) == 0 {
		return ""
	}
	return " or one of " + strings.Join(short, ", ")
}
