package shown

import (
	"cmp"
	"slices"
	"strings"
)

// mostNear is how many names Near returns.
const mostNear = 3

// Near returns up to three of the names that were perhaps meant, the nearest first: those that differ by few letters, or of
// which one contains the other. Case does not matter.
func Near(name string, names []string) []string {
	type guess struct {
		name string
		far  int
	}
	var guesses []guess
	want := strings.ToLower(name)
	for _, n := range names {
		got := strings.ToLower(n)
		far := distance([]rune(want), []rune(got))
		if far <= max(2, len(want)/3) || want != "" && strings.Contains(got, want) || got != "" && strings.Contains(want, got) {
			guesses = append(guesses, guess{n, far})
		}
	}
	slices.SortFunc(guesses, func(a, b guess) int { return cmp.Or(cmp.Compare(a.far, b.far), cmp.Compare(a.name, b.name)) })
	var near []string
	for _, g := range guesses[:min(mostNear, len(guesses))] {
		near = append(near, g.name)
	}
	return near
}

// distance is how many letters must be changed, added or left out to make b of a.
func distance(a, b []rune) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i, x := range a {
		last := row[0]
		row[0] = i + 1
		for j, y := range b {
			change := last
			if x != y {
				change++
			}
			last = row[j+1]
			row[j+1] = min(change, row[j]+1, last+1)
		}
	}
	return row[len(b)]
}
