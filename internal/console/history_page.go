package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
)

// Limits of a history page.
const (
	perPage   = 50
	mostPages = 1000
)

// asked is what a request for the history asks for.
type asked struct {
	record.Filter
	since  string // as it was written
	number int    // of the page, from 1
}

// historyView is the page of what happened.
type historyView struct {
	Entries []record.Entry    `json:"entries"`
	Count   int               `json:"count"` // of all pages
	Page    int               `json:"page"`
	Pages   int               `json:"pages"`
	Reach   record.Reach      `json:"reach"`
	Sums    record.Sums       `json:"sums"` // over all pages
	Filter  map[string]string `json:"-"`
	Kinds   []record.Kind     `json:"-"`
	Prev    string            `json:"-"`
	Next    string            `json:"-"`
}

// readAsked reads the filter of a request.
func readAsked(req *http.Request, now time.Time) (a asked, err error) {
	q := req.URL.Query()
	for key := range q {
		if len(q.Get(key)) > longest {
			return a, badRequest{fmt.Errorf("%.20q is longer than %d bytes", key, longest)}
		}
	}
	text := func(key string) string { return strings.TrimSpace(q.Get(key)) }
	a.VM, a.Cluster, a.Alarm, a.State = text("vm"), text("cluster"), text("alarm"), text("state")
	if a.Kind = record.Kind(text("kind")); a.Kind != "" && !known(a.Kind) {
		return a, badRequest{fmt.Errorf("kind %q is not one of %v", a.Kind, record.Kinds())}
	}
	if a.State != "" && !slices.ContainsFunc(record.States(), func(s string) bool { return strings.EqualFold(s, a.State) }) {
		return a, badRequest{fmt.Errorf("state %q is not one of %s", a.State, strings.Join(record.States(), ", "))}
	}
	if a.since = text("since"); a.since == "" {
		a.since = "7d"
	}
	if a.Since, err = readSince(a.since, now); err != nil {
		return a, err
	}
	a.number = 1
	if p := text("page"); p != "" {
		if a.number, err = strconv.Atoi(p); err != nil || a.number < 1 || a.number > mostPages {
			return a, badRequest{fmt.Errorf("page %q is not within 1 to %d", p, mostPages)}
		}
	}
	return a, nil
}

func known(k record.Kind) bool {
	for _, one := range record.Kinds() {
		if one == k {
			return true
		}
	}
	return false
}

// readSince reads how far back, as 24h or 7d, or a time as 2026-01-31 or in RFC 3339.
func readSince(text string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 1 && n <= 3660 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 && d < 3660*24*time.Hour {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil && t.Year() > 1970 && !t.After(now) {
			return t, nil
		}
	}
	return time.Time{}, badRequest{errors.New("since is no time: write 24h, 7d, 2026-01-31, or a time as in RFC 3339")}
}

func (c *Console) historyPage(_ context.Context, req *http.Request) (look, error) {
	now := c.cfg.Clock().UTC()
	a, err := readAsked(req, now)
	if err != nil {
		return look{}, err
	}
	entries, reach := c.cfg.Record.Known(a.Filter)
	v := historyView{
		Count: len(entries), Page: a.number, Pages: max((len(entries)+perPage-1)/perPage, 1), Reach: reach, Kinds: record.Kinds(),
		Filter: map[string]string{
			"since": a.since, "vm": a.VM, "cluster": a.Cluster, "alarm": a.Alarm, "state": a.State, "kind": string(a.Kind),
		},
		Sums: c.summed(a, now),
	}
	from := min((a.number-1)*perPage, len(entries))
	v.Entries = entries[from:min(from+perPage, len(entries))]
	if a.number > 1 {
		v.Prev = otherPage(req.URL, a.number-1)
	}
	if a.number < v.Pages {
		v.Next = otherPage(req.URL, a.number+1)
	}
	return look{title: "History", nav: "history", name: "history.html", data: v}, nil
}

// summed adds up what happened. All entries are needed to know when VMs were back; of them those rows count that are
// asked for.
func (c *Console) summed(a asked, now time.Time) record.Sums {
	all, _ := c.cfg.Record.Known(record.Filter{})
	var chosen []record.Entry
	for _, e := range all {
		if e.Kind == record.Round && !a.chooses(e) {
			continue
		}
		chosen = append(chosen, e)
	}
	if a.VM != "" {
		chosen = ofVM(chosen, a.VM)
	}
	return record.Summed(chosen, a.Since, now, time.UTC)
}

// chooses reports whether a round's VMs are summed: whatever its time, for hours that pass after it count.
func (a asked) chooses(e record.Entry) bool {
	f := a.Filter
	f.Since, f.Kind, f.State = time.Time{}, "", ""
	return f.Matches(e)
}

// ofVM keeps of each entry one VM.
func ofVM(entries []record.Entry, name string) []record.Entry {
	out := make([]record.Entry, 0, len(entries))
	for _, e := range entries {
		var vms []record.VM
		for _, vm := range e.VMs {
			if vm.Is(name) {
				vms = append(vms, vm)
			}
		}
		e.VMs = vms
		out = append(out, e)
	}
	return out
}

func otherPage(u *url.URL, n int) string {
	q := u.Query()
	q.Set("page", strconv.Itoa(n))
	return "/history?" + q.Encode()
}

// sums answers with the sums alone.
func (c *Console) sums(_ context.Context, req *http.Request) (look, error) {
	now := c.cfg.Clock().UTC()
	a, err := readAsked(req, now)
	return look{data: c.summed(a, now)}, err
}

// remediationView is the page of what was resized, reconfigured and moved.
type remediationView struct {
	Open  []record.Entry `json:"open"`
	Ended []record.Entry `json:"ended"` // newest first, the last few
	Count int            `json:"count"`
	Reach record.Reach   `json:"reach"`
	All   bool           `json:"-"`
}

func (c *Console) remediationPage(_ context.Context, req *http.Request) (look, error) {
	entries, reach := c.cfg.Record.Known(record.Filter{Kind: record.Remediation})
	v := remediationView{Open: []record.Entry{}, Ended: []record.Entry{}, Count: len(entries), Reach: reach, All: req.URL.Query().Get("all") != ""}
	for _, e := range entries {
		switch {
		case e.Open:
			v.Open = append(v.Open, e)
		case v.All || len(v.Ended) < few:
			v.Ended = append(v.Ended, e)
		}
	}
	return look{
		title: "Remediation", nav: "remediation", live: true, name: "remediation.html", data: v,
		lines: []string{fmt.Sprintf("%d under way.", len(v.Open))},
	}, nil
}
