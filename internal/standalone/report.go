package standalone

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// nameWidth is the width of the simulated VMs' names.
const nameWidth = len("cluster-a-batch-00")

// tell shows the plan, once it is known: who was found, who goes and who stays, and why.
func (a *act) tell(r preemptapi.RoundResult) {
	targets := a.chosen(r)
	if a.told || len(targets)+len(r.Spared) == 0 {
		return
	}
	a.told = true
	if r.Shortfall.CPUMHz > 0 {
		a.out.say("shortfall", "%s is %.1f GHz above its target: the fewest VMs that free so much are chosen", a.cluster, float64(r.Shortfall.CPUMHz)/1000)
	}
	a.out.say("found", "%s tagged %s: %d chosen, %d left as they are", shown.Count(len(targets)+len(r.Spared), "VM"), r.Tag, len(targets), len(r.Spared))
	for i, name := range targets {
		a.out.say("chosen", "%-*s  %d of %d: on, tagged, in %s", nameWidth, name, i+1, len(targets), a.cluster)
	}
	for _, c := range r.Spared {
		a.out.say("left", "%-*s  %s (%s)", nameWidth, c.Name, c.Reason.Explain(), c.Reason)
	}
}

// chosen names the targets of a round, in whatever state it is.
func (a *act) chosen(r preemptapi.RoundResult) (names []string) {
	for _, t := range r.Targets {
		names = append(names, t.Name)
	}
	for _, ref := range r.Waiting {
		names = append(names, a.name(ref))
	}
	return names
}

func (s *scenario) name(ref vsphere.Ref) string {
	if n := s.names[ref.Value]; n != "" {
		return n
	}
	return ref.Value
}

// report shows what became of the round: a table, the usage, and the record on one VM.
func (a *act) report(r preemptapi.RoundResult) {
	a.out.block("Result", resultTable(r))
	now := a.measure()
	a.out.block("Usage of "+a.cluster, usageTable(a.usage, now))
	if a.cluster != contended {
		return // one attribute says it all
	}
	for _, vm := range r.Preempted() {
		for _, state := range states(a.vcenter) {
			if ref(state.Ref) == vm && state.Attribute != "" {
				a.out.block("Custom attribute "+preemption.AttributeKey+" of "+state.Name, indented(state.Attribute))
				return
			}
		}
	}
}

func resultTable(r preemptapi.RoundResult) string {
	freed := func(mhz int64) string { return fmt.Sprintf("%9d", mhz) }
	rows := [][]string{{"VM", "OUTCOME", "FORCED", "ANNOTATED", "MHZ FREED"}}
	for _, t := range r.Targets {
		mhz := int64(0)
		if t.Outcome.Ours() {
			mhz = t.CPUMHz
		}
		rows = append(rows, []string{t.Name, strings.TrimSpace(string(t.Outcome) + " " + t.Reason.String()), yes(t.Forced), yes(t.Annotated), freed(mhz)})
	}
	return table(append(rows, []string{"total", fmt.Sprintf("%d of %d", len(r.Preempted()), len(r.Targets)), "", "", freed(r.FreedCPUMHz)}))
}

func usageTable(before, after usage) string {
	percent := func(p float64) string { return fmt.Sprintf("%5.1f %%", p) }
	return table([][]string{
		{"", "BEFORE", "AFTER"},
		{"CPU", percent(before.cpu), percent(after.cpu)},
		{"memory", percent(before.memory), percent(after.memory)},
	})
}

func table(rows [][]string) string {
	var b strings.Builder
	_ = shown.Columns(&b, rows) // into memory: it cannot fail
	return b.String()
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

// indented sets JSON out for reading; what is no JSON stays as it is.
func indented(text string) string {
	var b bytes.Buffer
	if json.Indent(&b, []byte(text), "", "  ") != nil {
		return text
	}
	return b.String()
}

// suggest prints what can be tried from a second terminal, as it can be typed there. It mentions a cooldown under way.
func (s *scenario) suggest(cooldown time.Time) {
	text := s.commands([]try{
		{"workflow status -w " + alarmName + "@" + s.vcenter.Cluster(contended).Ref.Value, "the preemption you have just seen"},
		{"watch status", "the watch of vCenter's alarms"},
		{"workflow list", "every preemption workflow"},
		{"workflow plan", "which VMs would be turned off now, and why the others stay on; nothing is touched"},
		{"evict cluster-a-batch-01 --notice-only", "give one VM the notice, and withdraw it"},
		{"evict cluster-a-batch-01", "evict it: notice, guest shutdown, record"},
		{"restore --dry-run", "which VMs would be restored"},
		{"demo load 95" + s.knobs.flag(), "let the VMs of a cluster ask for more: an alarm, and a round"},
		{"demo worker kill" + s.knobs.flag(), "kill the worker; another one goes on"},
		{"demo status" + s.knobs.flag(), "how the demo stands"},
	})
	if !cooldown.IsZero() {
		text += "\nA run is refused until " + cooldown.Format(time.TimeOnly) + ": the policy's cooldown lasts until then.\n"
	}
	if url := s.temporal.UIURL(); url != "" {
		text += "\nEvery step is in the Temporal web UI: " + url + "/namespaces/" + s.temporal.Namespace() + "/workflows\n"
	}
	s.out.block("What to try next, from a second terminal in this folder", text)
}

// serving says that the demo goes on, and how its knobs are reached.
func (s *stack) serving() {
	s.out.say("knobs", "preemptctl demo status%s shows how it stands; alarm, load, worker kill and vcenter cut change it: see docs/demo.md", s.knobs.flag())
	s.out.say("serving", "until Ctrl-C; what happens to the simulated VMs is shown here")
}

// try is a command for preemptctl, and what it shows.
type try struct{ command, what string }

// commands lists what can be typed in a second terminal.
func (s *scenario) commands(tries []try) string {
	ctl := "go run ./cmd/preemptctl -s " + s.temporal.HostPort()
	if ns := s.temporal.Namespace(); ns != preemption.DefaultNamespace {
		ctl += " -n " + ns
	}
	if q := s.queue(); q != preemption.DefaultTaskQueue {
		ctl += " -q " + q
	}
	var rows [][]string
	for _, t := range tries {
		rows = append(rows, []string{ctl + " " + t.command, "# " + t.what})
	}
	return table(rows)
}
