package shown

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// gap is the space between two columns of a table.
const gap = 3

// Columns by their headings: wordy ones are shortened first, and those that were asked for are wrapped, not cut, where they come last.
var (
	wordy   = append([]string{"REASON", "NOTICE", "NOTE", "BECAME", "VMS", "FAILURE", "TEXT"}, wrapped...)
	wrapped = []string{"WHY", "WHY NOT", "CHOSEN AS", "WHY THE TAG IS BAD", "VALUE", "END IT", "COMES BACK", "LEFT TO ITS SUCCESSOR"}
)

// squeeze is one step of making columns narrower: which, and down to how many characters. Headings stay whole down to tiny ones.
type squeeze struct {
	which func(column int, heading string) bool
	least int
}

// tiny is the least width of a column.
const tiny = 5

var (
	notFirst = func(column int, _ string) bool { return column > 0 }
	all      = func(int, string) bool { return true }
	gentle   = []squeeze{
		{func(_ int, heading string) bool { return slices.Contains(wordy, heading) }, 24},
		{notFirst, 20}, // as wide as a time
		{all, 36},
	}
	harsh = append(slices.Clone(gentle), squeeze{notFirst, 10}, squeeze{all, 16}, squeeze{all, tiny})
)

// Fit makes a table, whose first row is its heading, at most width characters wide, and reports whether anything is missing
// from it. Cells lose their secrets and are escaped, as Columns does. Words go first, then the columns that are spare, in their
// order, then the ends of all cells; a cut is marked with …. A width of 0 or less is no limit.
func Fit(rows [][]string, width int, spare ...string) (fitted [][]string, missing bool) {
	rows = plain(rows)
	if width <= 0 || len(rows) == 0 || total(widths(rows)) <= width {
		return rows, false
	}
	for {
		if to := squeezed(widths(rows), rows[0], width, gentle); total(to) <= width {
			return cutTo(rows, to)
		}
		if len(spare) == 0 {
			break
		}
		rows, spare = without(rows, spare[0]), spare[1:]
	}
	cut, _ := cutTo(rows, squeezed(widths(rows), rows[0], width, harsh))
	return cut, true
}

func plain(rows [][]string) [][]string {
	out := make([][]string, len(rows))
	for i, row := range rows {
		for _, cell := range row {
			out[i] = append(out[i], Plain(Redact(cell)))
		}
	}
	return out
}

// widths returns how wide each column is.
func widths(rows [][]string) (all []int) {
	for _, row := range rows {
		for i, cell := range row {
			if i == len(all) {
				all = append(all, 0)
			}
			all[i] = max(all[i], utf8.RuneCountInString(cell))
		}
	}
	return all
}

func total(widths []int) int {
	sum := gap * max(len(widths)-1, 0)
	for _, w := range widths {
		sum += w
	}
	return sum
}

// squeezed makes columns narrower step by step, in each the widest first, until all fit or nothing can be done.
func squeezed(widths []int, heading []string, width int, steps []squeeze) []int {
	to := slices.Clone(widths)
	for _, step := range steps {
		for total(to) > width {
			widest := -1
			for i := range to {
				name := ""
				if i < len(heading) {
					name = heading[i]
				}
				least := step.least
				if least > tiny {
					least = max(least, utf8.RuneCountInString(name))
				}
				if step.which(i, name) && to[i] > least && (widest < 0 || to[i] > to[widest]) {
					widest = i
				}
			}
			if widest < 0 {
				break
			}
			to[widest]--
		}
	}
	return to
}

// without leaves a column out.
func without(rows [][]string, heading string) [][]string {
	at := slices.Index(rows[0], heading)
	if at < 0 {
		return rows
	}
	out := make([][]string, len(rows))
	for i, row := range rows {
		out[i] = slices.Clone(row)
		if at < len(row) {
			out[i] = slices.Delete(out[i], at, at+1)
		}
	}
	return out
}

// cutTo shortens each cell to its column's width, or wraps it, and reports whether any was cut.
func cutTo(rows [][]string, to []int) (out [][]string, cut bool) {
	last := len(to) - 1
	wraps := last >= 0 && len(rows[0]) == len(to) && slices.Contains(wrapped, rows[0][last])
	for _, row := range rows {
		short, more := slices.Clone(row), []string(nil)
		for i, cell := range row {
			if utf8.RuneCountInString(cell) <= to[i] {
				continue
			}
			if wraps && i == last {
				lines := wrap(cell, to[i])
				short[i], more = lines[0], lines[1:]
				continue
			}
			short[i], cut = string([]rune(cell)[:max(to[i]-1, 0)])+"…", true
		}
		out = append(out, short)
		for _, line := range more {
			under := make([]string, len(to))
			under[last] = line
			out = append(out, under)
		}
	}
	return out, cut
}

// wrap breaks a text into lines of at most width characters, between words where it can.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		for room := width; utf8.RuneCountInString(word) > room; {
			if line != "" {
				lines, line = append(lines, line), ""
			}
			letters := []rune(word)
			lines, word = append(lines, string(letters[:room])), string(letters[room:])
		}
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	if line != "" || len(lines) == 0 {
		lines = append(lines, line)
	}
	return lines
}
