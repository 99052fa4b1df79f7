package console

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"html/template"
	"net/url"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// functions are what templates may call.
var functions = template.FuncMap{
	"utc": utc, "rfc": rfc, "ago": sinceWords, "left": leftWords, "duration": durationWords, "scope": scopeWords, "kind": kindWords, "state": stateWords,
	"counts": vmWords, "ghz": ghz, "gib": gib, "percent": percent, "tone": tone, "path": url.PathEscape, "link": link, "vmlink": vmLink,
	"first": first, "more": more, "fixed": fixed, "chart": chartOf, "share": shareOf, "refname": refName, "add": func(a, b int) int { return a + b },
	"or2": func(a, b string) string { return cmp.Or(a, b) }, "round": func(k record.Kind) bool { return k == record.Round }, "copy": copyable, "undo": undo, "indented": indented,
	"table": func(vms []record.VM, all bool) map[string]any { return map[string]any{"VMs": vms, "All": all} },
	"rows":  func(what string, rows []record.Row) map[string]any { return map[string]any{"What": what, "Rows": rows} },
}

// copyable is a command to copy, with its name for a screen reader.
func copyable(what, command string) map[string]string {
	return map[string]string{"What": what, "Command": command}
}

func compare(a, b string) int { return strings.Compare(a, b) }

// rfc writes a time for machines, "" for none.
func rfc(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// utc writes a time for people.
func utc(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// longestJSON is how many bytes of an event are shown.
const longestJSON = 16 << 10

// indented writes JSON for people, at most the first longestJSON bytes of it.
func indented(raw json.RawMessage) string {
	var out bytes.Buffer
	if json.Indent(&out, raw, "", "  ") != nil {
		out.Reset()
		out.Write(raw)
	}
	return shown.Clip(out.String(), longestJSON)
}

// sinceWords says how long ago something was.
func sinceWords(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := now.Sub(t)
	if d < time.Second {
		return "just now"
	}
	return durationWords(d) + " ago"
}

// leftWords says how long it is until then.
func leftWords(now, t time.Time) string {
	if d := t.Sub(now); d > 0 {
		return durationWords(d)
	}
	return "over"
}

// durationWords writes a duration in its two largest units.
func durationWords(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %02d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d d %d h", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// scopeWords names what an entry is about.
func scopeWords(e record.Entry) string {
	if e.ScopeName != "" {
		return e.ScopeName
	}
	if !e.Scope.Zero() {
		return e.Scope.Value
	}
	if e.Kind == record.Remediation && len(e.VMs) > 0 {
		return e.VMs[len(e.VMs)-1].Called()
	}
	return "everything tagged"
}

func refName(name string, ref vsphere.Ref) string {
	if ref.Zero() {
		return "everything"
	}
	return cmp.Or(name, ref.Value)
}

func kindWords(k record.Kind) string {
	switch k {
	case record.Round:
		return "Round"
	case record.Restore:
		return "Restore"
	case record.Room:
		return "Room"
	}
	return "Remediation"
}

// stateWords writes a state as people read it.
func stateWords(state string) string {
	switch state {
	case "notified":
		return "notice given"
	case "":
		return "unknown"
	}
	return strings.ReplaceAll(state, "_", " ")
}

// tone is how a state is coloured.
func tone(state string) string {
	switch strings.ToLower(state) {
	case "failed", "partial", "red", "rejected", record.StateUnread:
		return "bad"
	case "notified", "waiting", "acting", "planning", "between_steps", "yellow", "warning", "settling", "restoring", "making", "working", "deferred":
		return "warn"
	case "completed", "applied", "returned", "ok", "green", "made", "running":
		return "good"
	}
	return "calm"
}

func ghz(mhz int64) string { return fmt.Sprintf("%.1f GHz", float64(mhz)/1000) }
func gib(mb int64) string  { return fmt.Sprintf("%.1f GiB", float64(mb)/1024) }

// fixed writes a number of hours of capacity.
func fixed(x float64) string {
	if x < 10 {
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.1f", x)
}

// percent is a part of a capacity in whole percent, 0 to 100.
func percent(part, capacity int64) int64 {
	if capacity <= 0 {
		return 0
	}
	return min(max(part*100/capacity, 0), 100)
}

// share is one resource of a scope as a bar shows it.
type share struct {
	Name                string
	Used, After, Target int64 // percent
	Text                string
}

func shareOf(name string, l policy.Load) share {
	write := ghz
	if name == "Memory" {
		write = gib
	}
	s := share{Name: name, Used: percent(l.Used, l.Capacity), After: percent(l.After, l.Capacity), Target: int64(l.Target)}
	s.Text = fmt.Sprintf("%d %% of %s", s.Used, write(l.Capacity))
	if l.Target > 0 {
		s.Text += fmt.Sprintf(", target %d %%", l.Target)
	}
	return s
}

// mostNamed is how many VMs one command names.
const mostNamed = 30

// undo is the command that brings back what a round took.
func undo(t Target, e record.Entry) string {
	args := []string{"restore"}
	for _, vm := range e.VMs {
		if vm.Done == record.TurnedOff || vm.Done == record.Throttled {
			args = append(args, vm.Ref.Value)
		}
	}
	if len(args) > mostNamed+1 {
		args = []string{"restore"}
		if e.Cluster.Value != "" {
			args = append(args, "--cluster", e.Cluster.Value)
		}
	}
	return t.Command(append(args, "--wait")...)
}

// link is the address of an entry's page.
func link(e record.Entry) string {
	if e.Kind == record.Round {
		return "/rounds/" + url.PathEscape(e.ID)
	}
	return "/work/" + url.PathEscape(e.ID) + "?run=" + url.QueryEscape(e.RunID)
}

// vmLink is the address of a VM's page. MoRefs are unique, names are not.
func vmLink(ref vsphere.Ref) string { return "/vms/" + url.PathEscape(ref.Value) }

// first keeps the first rows of a list, or all.
func first(all bool, list any) any {
	switch l := list.(type) {
	case []record.VM:
		if !all {
			return l[:min(len(l), few)]
		}
	case []record.Off:
		if !all {
			return l[:min(len(l), few)]
		}
	case []policy.Spared:
		if !all {
			return l[:min(len(l), few)]
		}
	case []record.Row:
		return l[:min(len(l), 20)]
	case []standing:
		if !all {
			return l[:min(len(l), few)]
		}
	}
	return list
}

// more reports whether rows are left out.
func more(all bool, n int) bool { return !all && n > few }

// chartOf writes the days of a sum as a chart's data.
func chartOf(what string, days []record.Row) (string, error) {
	type series struct {
		Label  string     `json:"label"`
		Values []*float64 `json:"values"` // null: there is none
	}
	out := struct {
		Days   []int64  `json:"days"` // Unix time, seconds
		Series []series `json:"series"`
	}{Days: []int64{}}
	pick := map[string][]struct {
		label string
		value func(record.Row) float64
	}{
		"vms": {{"VMs preempted", func(r record.Row) float64 { return float64(r.Preemptions) }}},
		"capacity": {
			{"GHz·h reclaimed", func(r record.Row) float64 { return r.GHzHours }},
			{"GiB·h reclaimed", func(r record.Row) float64 { return r.GiBHours }},
		},
		"reclaim": {
			{"median, seconds", func(r record.Row) float64 { return r.Reclaim.Seconds() }},
			{"longest, seconds", func(r record.Row) float64 { return r.ReclaimMost.Seconds() }},
		},
	}[what]
	for _, p := range pick {
		s := series{Label: p.label, Values: []*float64{}}
		for _, d := range days {
			value := p.value(d)
			if what == "reclaim" && value == 0 {
				s.Values = append(s.Values, nil)
				continue
			}
			s.Values = append(s.Values, &value)
		}
		out.Series = append(out.Series, s)
	}
	for _, d := range days {
		at, err := time.Parse(time.DateOnly, d.Key)
		if err != nil {
			return "", fmt.Errorf("day %q: %w", d.Key, err)
		}
		out.Days = append(out.Days, at.Unix())
	}
	b, err := json.Marshal(out)
	return string(b), err
}
