package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// view is a result in every form it can be printed in.
type view struct {
	value any          // for -o json and yaml
	msg   string       // the log line of --json alone
	attrs []any        // and its keys
	table func(*table) // for people
}

// show prints a result on stdout in the requested format.
func (a *app) show(v view) error {
	switch {
	case a.flags.habit():
		a.log.Info(v.msg, v.attrs...)
		return nil
	case a.flags.output == formatTable:
		t := &table{width: a.width()}
		v.table(t)
		err := t.flush(a.Stdout)
		if t.missing && !a.toldCut {
			a.toldCut = true
			a.notice("cut to fit the terminal: -o json shows all, and so does a pipe, such as | less -S")
		}
		return err
	}
	b, err := json.MarshalIndent(v.value, "", "  ")
	b = shown.JSON(b)
	if err == nil && a.flags.output == formatYAML {
		// YAML would decode the escapes again, so they are written as text with a backslash.
		b, err = yaml.JSONToYAML(shown.Literal(b))
	}
	if err != nil {
		return fmt.Errorf("write the result as %s: %w", a.flags.output, err)
	}
	_, err = fmt.Fprintln(a.Stdout, strings.TrimRight(string(b), "\n"))
	return err
}

// notice prints a message for the user on stderr.
func (a *app) notice(format string, args ...any) {
	fmt.Fprintln(a.Stderr, clean(fmt.Sprintf(format, args...)))
}

// table collects sections of rows with aligned columns. Every cell is cleaned, because names come from
// vCenter and from everybody who may send a request.
type table struct {
	sections []section
	width    int  // of the terminal; 0: no limit
	missing  bool // something was left out so that it fits
}

// section is a block of columns.
type section struct {
	rows   [][]string
	headed bool     // its first row is a heading: it is made to fit
	spare  []string // headings of columns that are left out first where there is no room
}

// section begins a new block of columns, with a heading unless it is empty.
func (t *table) section(heading ...string) *table {
	t.sections = append(t.sections, section{headed: len(heading) > 0})
	if len(heading) > 0 {
		t.row(heading...)
	}
	return t
}

// spare names columns of the section that are left out first, in this order, where the terminal has no room for all.
func (t *table) spare(headings ...string) {
	t.sections[len(t.sections)-1].spare = headings
}

func (t *table) row(cells ...string) {
	if len(t.sections) == 0 {
		t.section()
	}
	last := &t.sections[len(t.sections)-1]
	last.rows = append(last.rows, cells)
}

// field adds a row of name and value, unless the value is empty.
func (t *table) field(name, value string) {
	if value != "" {
		t.row(name, value)
	}
}

func (t *table) flush(w io.Writer) error {
	for i, part := range t.sections {
		if i > 0 {
			fmt.Fprintln(w)
		}
		rows := part.rows
		if part.headed {
			var missing bool
			rows, missing = shown.Fit(rows, t.width, part.spare...)
			t.missing = t.missing || missing
		}
		if err := shown.Columns(w, rows); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
	}
	return nil
}

// clean escapes characters that could move the cursor, change colours or reverse text in the terminal, and hides the
// secrets of addresses.
func clean(s string) string { return shown.Plain(shown.Redact(s)) }

// timestamp writes a time for people; the zero time is empty.
func timestamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// orDash keeps an empty cell visible.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
