package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// table is what a benchmark found.
type table struct {
	Name    string     `json:"name"` // of the benchmark
	Title   string     `json:"title"`
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
	Load    string     `json:"load"` // of the machine, when it began and when it ended
}

// row adds a row; each cell is written as fmt does.
func (t *table) row(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = fmt.Sprint(c)
	}
	t.Rows = append(t.Rows, row)
}

// markdown writes the table.
func (t *table) markdown(w io.Writer) {
	fmt.Fprintf(w, "\n### %s: %s\n\n", t.Name, t.Title)
	line := func(cells []string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }
	line(t.Columns)
	line(slices.Repeat([]string{"---"}, len(t.Columns)))
	for _, row := range t.Rows {
		line(row)
	}
	fmt.Fprintf(w, "\nLoad of the machine: %s.\n", t.Load)
}

// report is the whole output as JSON.
type report struct {
	Command string   `json:"command"`
	Machine machine  `json:"machine"`
	Tables  []*table `json:"tables"`
}

func (r report) write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// samples are measured times.
type samples []time.Duration

func (s samples) median() time.Duration {
	sorted := slices.Sorted(slices.Values(s))
	return sorted[len(sorted)/2]
}

// String is the median, and where there are several the least and the greatest.
func (s samples) String() string {
	if len(s) == 1 {
		return rounded(s[0])
	}
	return fmt.Sprintf("%s; %s to %s", rounded(s.median()), rounded(slices.Min(s)), rounded(slices.Max(s)))
}

// rounded writes a duration with three digits or so.
func rounded(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// ratio is how a time stands to another.
func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

// met says whether a bar is met.
func met(yes bool) string {
	if yes {
		return "yes"
	}
	return "**no**"
}

func mib(bytes int64) string { return fmt.Sprintf("%.1f", float64(bytes)/(1<<20)) }

// spread returns the median, the least and the greatest.
func spread[T int | int64 | float64](all []T) (middle, least, most T) {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2], sorted[0], sorted[len(sorted)-1]
}
