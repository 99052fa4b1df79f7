package console

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// few is how many rows of a table are shown at first.
const few = 50

// nowView is the page of how everything stands.
type nowView struct {
	record.Now
	Alarms []standing `json:"standing"` // the alarms that stand
	All    bool       `json:"-"`        // show every row
	Query  string     `json:"-"`
}

// standing is an alarm that stands.
type standing struct {
	Alarm  string    `json:"alarm"`
	On     string    `json:"on"` // the object in alarm
	Scope  string    `json:"scope,omitempty"`
	Colour string    `json:"colour,omitempty"` // "": unknown
	Since  time.Time `json:"since"`
	Intake string    `json:"intake,omitempty"` // workflow that acts on it; "": no rule does
	For    string    `json:"for,omitempty"`    // for whom room is kept
}

func (c *Console) nowPage(ctx context.Context, req *http.Request) (look, error) {
	now, _ := c.state(ctx) // a banner says why it is old
	v := nowView{Now: now, Alarms: standingOf(now), All: req.URL.Query().Get("all") != ""}
	return look{title: "Now", nav: "now", live: true, name: "now.html", data: v, lines: statusOfNow(v)}, nil
}

// statusOfNow says in sentences what stands. They hold no times that pass, so that they change when something happens.
func statusOfNow(v nowView) (lines []string) {
	for _, e := range v.Open {
		if e.Kind == record.Round {
			lines = append(lines, fmt.Sprintf("Round on %s: %s, %s.", scopeWords(e), stateWords(e.State), vmWords(e)))
		}
	}
	if len(lines) == 0 {
		lines = append(lines, "No round is under way.")
	}
	if n := len(v.Off); n > 0 {
		lines = append(lines, shown.Count(n, "VM")+" off because of us.")
	}
	return lines
}

// vmWords counts what became of the VMs of an entry.
func vmWords(e record.Entry) string {
	counts := map[record.Done]int{}
	for _, vm := range e.VMs {
		counts[vm.Done]++
	}
	var parts []string
	for _, one := range []struct {
		done record.Done
		what string
	}{
		{record.Waiting, "to go"},
		{record.TurnedOff, "off"},
		{record.Throttled, "throttled"},
		{record.Returned, "back"},
		{record.FailedToDo, "failed"},
		{record.Spared, "spared"},
		{record.LeftOff, "left off"},
		{record.Remedied, "changed"},
	} {
		if n := counts[one.done]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, one.what))
		}
	}
	if len(parts) == 0 {
		return "no VM"
	}
	return strings.Join(parts, ", ")
}

// standingOf collects the alarms that stand: what the watch saw, and what the ledger and the intakes hold.
func standingOf(now record.Now) []standing {
	all := []standing{}
	at := map[string]int{}
	put := func(s standing) {
		key := s.Alarm + "\n" + s.On
		if i, ok := at[key]; ok {
			all[i].Intake, all[i].Colour = cmp.Or(all[i].Intake, s.Intake), cmp.Or(all[i].Colour, s.Colour)
			return
		}
		at[key] = len(all)
		all = append(all, s)
	}
	covered := map[string]bool{}
	for _, in := range now.Intakes {
		for _, l := range in.Levels {
			if l.Colour != "green" {
				put(standing{Alarm: l.Alarm, On: l.Entity, Scope: l.Scope, Colour: l.Colour, Since: l.Time, Intake: in.ID})
				covered[l.Alarm+"\n"+l.Scope] = true
			}
		}
	}
	if w := now.Watch.State; w != nil {
		for _, l := range w.Checkpoint.Levels {
			name := l.Entity.Type + ":" + l.Entity.Value
			put(standing{Alarm: l.Alarm.Name, On: name, Scope: l.Scope.Name, Colour: l.Colour, Since: l.Time})
			covered[l.Alarm.Name+"\n"+l.Scope.Type+":"+l.Scope.Value] = true
			if i := at[l.Alarm.Name+"\n"+name]; l.Entity.Name != "" {
				all[i].On, all[i].Scope = l.Entity.Name, l.Scope.Name
			}
		}
	}
	for _, a := range now.Ledger.Alarms {
		if a.Alarm != "" && !covered[a.Alarm+"\n"+a.Scope] || a.For != "" {
			all = append(all, standing{Alarm: a.Alarm, On: cmp.Or(a.Scope, "everything"), Since: a.Since, Intake: a.Owner, For: a.For})
		}
	}
	names := map[string]string{}
	for _, c := range now.Clusters {
		names[c.Scope.String()] = c.Name
	}
	for i := range all {
		all[i].On, all[i].Scope = cmp.Or(names[all[i].On], all[i].On), cmp.Or(names[all[i].Scope], all[i].Scope)
	}
	slices.SortStableFunc(all, func(a, b standing) int { return a.Since.Compare(b.Since) })
	return all
}
