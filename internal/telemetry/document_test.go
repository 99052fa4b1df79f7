package telemetry

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/metrics.md anew")

const page = "../../docs/metrics.md"

// table writes the metrics whose names begin so as a table of Markdown.
func table(prefix string) string {
	var b strings.Builder
	b.WriteString("| name | type | labels | of | meaning |\n| --- | --- | --- | --- | --- |\n")
	for _, d := range definitions() {
		if !strings.HasPrefix(d.exported(), prefix) {
			continue
		}
		labels := strings.Join(d.labels, "`, `")
		if labels != "" {
			labels = "`" + labels + "`"
		}
		var of []string
		for _, p := range d.parts {
			of = append(of, string(p))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", d.exported(), d.kind, labels, strings.Join(of, ", "), d.help)
	}
	return b.String()
}

func TestThePageListsEveryMetric(t *testing.T) {
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	want := got
	for _, prefix := range []string{"preemption", "temporal"} {
		begin, end := []byte("<!-- "+prefix+": written by go test ./internal/telemetry -update -->\n"), []byte("<!-- end of "+prefix+" -->\n")
		before, rest, ok := bytes.Cut(want, begin)
		_, after, closed := bytes.Cut(rest, end)
		if !ok || !closed {
			t.Fatalf("docs/metrics.md lacks the marks of the table of %s", prefix)
		}
		want = bytes.Join([][]byte{before, begin, []byte(table(prefix)), end, after}, nil)
	}
	if bytes.Equal(got, want) {
		return
	}
	if !*update {
		t.Fatal("docs/metrics.md does not list the metrics as they are defined: run go test ./internal/telemetry -update")
	}
	if err := os.WriteFile(page, want, 0o644); err != nil {
		t.Fatal(err)
	}
}
