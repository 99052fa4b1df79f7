package shown

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func tableOf(t *testing.T, rows [][]string, width int, spare ...string) (string, bool) {
	t.Helper()
	fitted, missing := Fit(rows, width, spare...)
	var b strings.Builder
	if err := Columns(&b, fitted); err != nil {
		t.Fatal(err)
	}
	return b.String(), missing
}

func TestATableFitsTheTerminal(t *testing.T) {
	rows := [][]string{
		{"WORKFLOW", "RUN", "STATE", "REASON"},
		{"cluster-cpu-above-80@domain-c7", "0199c1de-7d5c-7000-8000-000000000001", "running", strings.Repeat("because ", 20)},
		{"db\x1b[2J", "0199c1de-7d5c-7000-8000-000000000002", "completed", "Grüße"},
	}
	for width, want := range map[int]struct {
		has, lacks []string
		missing    bool
	}{
		0:   {has: []string{"000000000001", strings.TrimSpace(rows[1][3])}},
		300: {has: []string{"000000000001", strings.TrimSpace(rows[1][3])}},
		120: {has: []string{"000000000001", "because bec…"}, missing: true},
		70:  {has: []string{"domain-c7", "running"}, lacks: []string{"RUN", "000000000001"}, missing: true},
		40:  {has: []string{"WORKFLOW", "STATE", "…"}, lacks: []string{"RUN "}, missing: true},
	} {
		got, missing := tableOf(t, rows, width, "RUN")
		if missing != want.missing {
			t.Errorf("width %d: missing %v", width, missing)
		}
		for _, text := range want.has {
			if !strings.Contains(got, text) {
				t.Errorf("width %d lacks %q:\n%s", width, text, got)
			}
		}
		for _, text := range want.lacks {
			if strings.Contains(got, text) {
				t.Errorf("width %d shows %q:\n%s", width, text, got)
			}
		}
		for line := range strings.Lines(got) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, " \n")); width > 0 && n > width {
				t.Errorf("width %d: a line of %d:\n%s", width, n, got)
			}
		}
		if strings.Contains(got, "\x1b") {
			t.Errorf("width %d: a control character", width)
		}
	}
}

func TestWhyIsWrappedAndNotCut(t *testing.T) {
	why := "it is protected by the tag prod of category preemption-protect, and " + strings.Repeat("x", 50)
	got, missing := tableOf(t, [][]string{{"SPARED", "MOREF", "WHY"}, {"web-1", "vm-1", why}, {"web-2", "vm-2", "-"}}, 60)
	if missing || strings.Contains(got, "…") {
		t.Errorf("something is missing:\n%s", got)
	}
	if joined := strings.Join(strings.Fields(got), " "); !strings.Contains(joined, "protected by the tag prod of category preemption-protect, and xxx") {
		t.Errorf("the words are not all there:\n%s", got)
	}
	for line := range strings.Lines(got) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, " \n")); n > 60 {
			t.Errorf("a line of %d:\n%s", n, got)
		}
	}
}

func FuzzFit(f *testing.F) {
	f.Add("WHY", "a long reason for it", "web-1", 20)
	f.Fuzz(func(t *testing.T, heading, cell, name string, width int) {
		fitted, _ := Fit([][]string{{"VM", heading}, {name, cell}, {name}}, width, heading)
		if len(fitted) < 3 {
			t.Errorf("rows are missing: %q", fitted)
		}
		var b strings.Builder
		if err := Columns(&b, fitted); err != nil {
			t.Fatal(err)
		}
	})
}
