package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
)

// longest is how long a name or id in an address may be.
const longest = 300

// named reads a name from the address.
func named(req *http.Request, key string) (string, error) {
	name := req.PathValue(key)
	if name == "" || len(name) > longest {
		return "", badRequest{fmt.Errorf("the name in the address has %d bytes: 1 to %d are taken", len(name), longest)}
	}
	return name, nil
}

// roundView is the page of a round.
type roundView struct {
	record.RoundDetail
	Timeline []moment       `json:"timeline"` // what happened, in order
	Reasons  []reasonCount  `json:"reasons"`  // of the spared, the most frequent first
	Usage    []policy.Usage `json:"-"`
	All      bool           `json:"-"`
}

// moment is one thing that happened in a round.
type moment struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
	VM   string    `json:"vm,omitempty"` // MoRef
}

type reasonCount struct {
	Reason string `json:"reason"`
	Words  string `json:"words"`
	Count  int    `json:"count"`
}

func (c *Console) roundPage(ctx context.Context, req *http.Request) (look, error) {
	id, err := named(req, "id")
	if err != nil {
		return look{}, err
	}
	d, ok, err := c.cfg.Record.Round(ctx, id)
	if err != nil {
		if d.Entry, ok = c.known(id); !ok {
			return look{}, fmt.Errorf("ask Temporal for round %s: %w", id, err)
		}
		d.Entry.Error = "Temporal does not answer: this is what was read before: " + err.Error()
	} else if !ok {
		return look{}, notFound{fmt.Errorf("no round %s is kept: it never was, or is older than what Temporal keeps", id)}
	}
	v := roundView{RoundDetail: d, Timeline: timeline(d), Reasons: reasons(d), Usage: d.Entry.Usage, All: req.URL.Query().Get("all") != ""}
	l := look{title: "Round on " + scopeWords(d.Entry), nav: "", live: d.Entry.Open, name: "round.html", data: v}
	l.lines = []string{fmt.Sprintf("The round is %s: %s.", stateWords(d.Entry.State), vmWords(d.Entry))}
	return l, nil
}

// known returns the entry of a workflow that was read before.
func (c *Console) known(id string) (record.Entry, bool) {
	entries, _ := c.cfg.Record.Known(record.Filter{})
	i := slices.IndexFunc(entries, func(e record.Entry) bool { return e.ID == id })
	if i < 0 {
		return record.Entry{}, false
	}
	return entries[i], true
}

// timeline orders what happened in a round.
func timeline(d record.RoundDetail) []moment {
	e := d.Entry
	all := []moment{{At: e.StartedAt, Text: "The round began"}}
	if !e.Deadline.IsZero() {
		text := "The notice ended, at the latest"
		if e.Open && e.Deadline.After(e.At) {
			text = "The notice ends, at the latest"
		}
		all = append(all, moment{At: e.Deadline, Text: text})
	}
	for _, vm := range e.VMs {
		if !vm.OffAt.IsZero() {
			text := vm.Called() + ": " + vm.Words
			if vm.Annotated {
				text += ", and recorded on it"
			}
			all = append(all, moment{At: vm.OffAt, Text: text, VM: vm.Ref.Value})
		}
	}
	if !e.EndedAt.IsZero() {
		all = append(all, moment{At: e.EndedAt, Text: "The round ended: " + stateWords(e.State)})
	}
	slices.SortStableFunc(all, func(a, b moment) int { return a.At.Compare(b.At) })
	return all
}

func reasons(d record.RoundDetail) []reasonCount {
	all := []reasonCount{}
	if d.Result == nil {
		return all
	}
	counts := d.Result.SparedCount
	if len(counts) == 0 {
		counts = map[policy.Reason]int{}
		for _, s := range d.Result.Spared {
			counts[s.Reason]++
		}
	}
	for reason, n := range counts {
		all = append(all, reasonCount{Reason: string(reason), Words: reason.Explain(), Count: n})
	}
	slices.SortFunc(all, func(a, b reasonCount) int {
		if a.Count != b.Count {
			return b.Count - a.Count
		}
		return compare(a.Words, b.Words)
	})
	return all
}

// workView is the page of a restore, a room or a remediation.
type workView struct {
	Entry record.Entry `json:"entry"`
	All   bool         `json:"-"`
}

func (c *Console) workPage(_ context.Context, req *http.Request) (look, error) {
	id, err := named(req, "id")
	if err != nil {
		return look{}, err
	}
	entries, reach := c.cfg.Record.Known(record.Filter{})
	run := req.URL.Query().Get("run")
	i := slices.IndexFunc(entries, func(e record.Entry) bool { return e.ID == id && (run == "" || e.RunID == run) })
	if _, other := c.known(id); i < 0 && other {
		return look{}, notFound{fmt.Errorf("%s has no run %q that is known: leave run out of the address to see the last one", id, run)}
	}
	if i < 0 {
		why := reach.Cut
		if why == "" {
			why = "all that is kept was read"
		}
		return look{}, notFound{fmt.Errorf("no restore, room or remediation %s is known (%s)", id, why)}
	}
	e := entries[i]
	return look{
		title: kindWords(e.Kind) + " on " + scopeWords(e), live: e.Open, name: "work.html", data: workView{Entry: e, All: req.URL.Query().Get("all") != ""},
		lines: []string{fmt.Sprintf("It is %s: %s.", stateWords(e.State), vmWords(e))},
	}, nil
}

// vmView is the page of a VM.
type vmView struct {
	record.VMRecord
	Named string                `json:"named"`          // as it was asked for
	Now   *answer               `json:"now,omitempty"`  // what a worker said of it; nil: nothing yet
	Last  *record.SparedVerdict `json:"last,omitempty"` // what the last round that considered and spared it said
	Reach record.Reach          `json:"reach"`
	All   bool                  `json:"-"`
	Asks  bool                  `json:"-"` // a worker is asked about it
}

func (c *Console) vmPage(ctx context.Context, req *http.Request) (look, error) {
	name, err := named(req, "name")
	if err != nil {
		return look{}, err
	}
	rec, reach, ok := c.cfg.Record.KnownVM(name, time.Time{})
	v := vmView{VMRecord: rec, Named: name, Reach: reach, All: req.URL.Query().Get("all") != ""}
	if last, found := c.cfg.Record.LastSpared(ctx, name); found {
		v.Last = &last
		if !ok {
			v.Ref, v.Name, ok = last.Spared.Ref, last.Spared.Name, true
		}
	}
	if err := c.askAbout(ctx, req, &v); err != nil {
		return look{}, err
	}
	if !ok && !v.Asks {
		return look{}, notFound{errors.New("nothing is known of a VM called " + name + ": no round, restore or remediation that is kept names it")}
	}
	l := look{title: v.Called(), live: true, name: "vm.html", data: v}
	if v.Pending == nil && (v.Now != nil || !v.Asks) {
		l.every = "10s" // it reads the results of rounds
	}
	if v.Off != nil {
		l.lines = append(l.lines, "It is off because of us.")
	}
	if v.Now != nil && v.Now.Verdict != nil {
		l.lines = append(l.lines, "By a plan, "+v.Now.Verdict.Words+".")
	}
	return l, nil
}

// askAbout asks a worker about a VM, if one is there. Its error is that neither vCenter nor the record knows the VM, or that the
// record does not and vCenter cannot be asked. A page waits for the first answer; the API says that there is none yet.
func (c *Console) askAbout(ctx context.Context, req *http.Request, v *vmView) error {
	now, err := c.state(ctx)
	if err != nil || !now.Workers.Polled || fromElsewhere(req) {
		return nil
	}
	entries, _ := c.cfg.Record.Known(record.Filter{})
	v.Asks, v.Now = true, c.questions.about(ctx, v.Named, v.Ref, entries)
	unheard := "no round, restore or remediation that is kept names a VM called " + v.Named
	switch {
	case !v.Ref.Zero(), v.Now == nil && !strings.HasPrefix(req.URL.Path, apiPath):
		return nil
	case v.Now == nil:
		return notNow{errors.New(unheard + ", and a worker that was asked for it in vCenter has not answered yet: ask again in a moment")}
	case v.Now.unknown != nil:
		return notFound{fmt.Errorf("%s, and %w", unheard, v.Now.unknown)}
	case v.Now.vm.Zero():
		return notNow{fmt.Errorf("%s, and whether vCenter has one is not known now: %s", unheard, v.Now.Error)}
	}
	if v.Ref = v.Now.vm; v.Now.Verdict != nil {
		v.Name = v.Now.Verdict.Name
	}
	return nil
}

// Called returns the VM's name, its MoRef, or how it was asked for.
func (v vmView) Called() string { return cmp.Or(v.Name, v.Ref.Value, v.Named) }
