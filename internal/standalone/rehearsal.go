package standalone

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/api/workflowservice/v1"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

const (
	rehearsalStart = 2 * time.Minute        // from the alarm to its round or refusal
	rehearsalLooks = 250 * time.Millisecond // at all VMs
	namesShown     = 20
)

// rehearsal is what can be tried on a saved inventory: at most one alarm.
type rehearsal struct {
	*scenario
	told bool
}

// place is a host or cluster.
type place struct {
	ref  types.ManagedObjectReference
	name string
}

func newRehearsal(s *stack, meddle func(*stack)) *rehearsal {
	return &rehearsal{scenario: newScenario(s, meddle)}
}

// play tells what is there, raises the alarm if there is one to raise, and follows what that starts.
func (r *rehearsal) play(ctx context.Context) error {
	r.describe()
	for _, tag := range r.tags() {
		r.carriers(tag)
	}
	if r.alarm == "" {
		r.next("")
		return nil
	}
	p, err := r.rule()
	if err != nil {
		return err
	}
	at, err := r.find(r.on)
	if err != nil {
		return err
	}
	r.seen = newObserver(r.vcenter, r.out)
	defer r.seen.watch(rehearsalLooks)()
	before, usage := states(r.vcenter), r.usage()
	if _, err := r.vcenter.PostAlarm(ctx, simulation.AlarmChange{Name: r.alarm, Entity: at.ref, From: "green", To: r.colour()}); err != nil {
		return err
	}
	r.out.say("alarm", "%s on %s: green to %s", r.alarm, at.name, r.colour())
	if p.Criticality(r.colour()) == trigger.None {
		r.out.say("left", "the rule does nothing at %s", r.colour())
		return nil
	}
	id, round, err := r.round(ctx, at)
	if err != nil || round == "" {
		return err
	}
	result, err := r.follow(ctx, round, r.tell)
	if err != nil {
		return err
	}
	r.out.block("Result", resultTable(result))
	r.out.block("Usage", usageTables(usage, r.usage()))
	if len(sparedBy(result)) > 0 {
		r.out.block("Why the others stay", reasonTable(result))
	}
	if r.meddle != nil {
		r.meddle(r.stack)
	}
	a := &act{scenario: r.scenario, before: before}
	if err = a.check(result); err == nil {
		r.score.rounds, r.score.preempted = 1, len(result.Preempted())
	}
	r.next(id)
	return err
}

// rule is what the first rule on the alarm does.
func (r *rehearsal) rule() (trigger.Preempt, error) {
	rule, ok := r.options.rule(r.vcenter.Alarm(r.alarm).Value)
	if !ok {
		return trigger.Preempt{}, fmt.Errorf("no rule of %s is on the alarm %q", cmp.Or(r.set.Path, "the environment"), r.alarm)
	}
	p, ok := rule.Action.(trigger.Preempt)
	if !ok {
		return p, fmt.Errorf("rule %s is on the alarm %q and preempts nothing: only a preemption can be rehearsed", rule.Name(), r.alarm)
	}
	return p, nil
}

func (r *rehearsal) describe() {
	left := r.vcenter.LeftOut()
	for _, text := range left {
		r.out.say("left out", "%s", text)
	}
	for _, c := range r.vcenter.Inventory().Clusters {
		on := 0
		for _, vm := range c.VMs {
			if r.vcenter.PowerState(vm.Ref) == types.VirtualMachinePowerStatePoweredOn {
				on++
			}
		}
		if c.Ref.Value == "" {
			r.out.say("vCenter", "on no host that was saved: %s", shown.Count(len(c.VMs), "VM"))
			continue
		}
		cpu, mem := r.vcenter.UsageOf(c.Ref)
		r.out.say("vCenter", "%s (%s): %s, %s of which %d are on, %.0f %% CPU, %.0f %% memory",
			plain(c.Name), c.Ref.Value, shown.Count(len(c.Hosts), "host"), shown.Count(len(c.VMs), "VM"), on, cpu, mem)
	}
}

// carriers tells which VMs carry the tag.
func (r *rehearsal) carriers(tag string) {
	var names []string
	vms := r.vcenter.Carrying(tag)
	for _, vm := range vms {
		names = append(names, plain(vm.Name))
	}
	r.out.say("tagged", "%d of %d VMs carry %s%s", len(vms), len(r.vcenter.VMs()), tag, listed(names))
	if len(vms) == 0 {
		r.out.say("tagged", "tags are read from %s of the folder; --tagged 'GLOB' tags VMs by name, for a try", simulation.TagsFile)
	}
}

// listed writes some names after a colon, the first of many.
func listed(names []string) string {
	switch {
	case len(names) == 0:
		return ""
	case len(names) <= namesShown:
		return ": " + strings.Join(names, ", ")
	}
	return fmt.Sprintf(": %s and %d more", strings.Join(names[:namesShown], ", "), len(names)-namesShown)
}

// plain undoes vSphere's writing of / \ and % in names, and escapes what would harm a terminal.
func plain(name string) string {
	if text, err := url.PathUnescape(name); err == nil {
		name = text
	}
	return shown.Plain(name)
}

// find looks a host or cluster up by its name or MoRef.
func (r *rehearsal) find(wanted string) (place, error) {
	var found, all []place
	for _, c := range r.vcenter.Inventory().Clusters {
		if c.Ref.Type == "ClusterComputeResource" { // a host alone has the name of its compute resource
			all = append(all, place{c.Ref, plain(c.Name)})
		}
		for _, h := range c.Hosts {
			all = append(all, place{h.Ref, plain(h.Name)})
		}
	}
	var names []string
	for _, p := range all {
		if wanted == p.name || wanted == p.ref.Value || plain(wanted) == p.name {
			found = append(found, p)
		}
		names = append(names, p.name+" ("+p.ref.Value+")")
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return place{}, fmt.Errorf("--on %q: there is no such host or cluster%s", wanted, listed(names))
	}
	return place{}, fmt.Errorf("--on %q: %d hosts and clusters have that name; give the MoRef%s", wanted, len(found), listed(names))
}

// usage is that of all clusters, by name.
func (r *rehearsal) usage() map[string]usage {
	out := map[string]usage{}
	for _, c := range r.vcenter.Inventory().Clusters {
		if c.Ref.Value != "" {
			cpu, mem := r.vcenter.UsageOf(c.Ref)
			out[plain(c.Name)+" ("+c.Ref.Value+")"] = usage{cpu, mem}
		}
	}
	return out
}

func usageTables(before, after map[string]usage) string {
	percent := func(p float64) string { return fmt.Sprintf("%.1f %%", p) }
	rows := [][]string{{"", "CPU BEFORE", "AFTER", "MEMORY BEFORE", "AFTER"}}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		b, a := before[name], after[name]
		rows = append(rows, []string{name, percent(b.cpu), percent(a.cpu), percent(b.memory), percent(a.memory)})
	}
	return table(rows)
}

// round waits until an intake has started a round for the alarm, or has said why not: then the round's id is empty.
func (r *rehearsal) round(ctx context.Context, at place) (id, round string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, rehearsalStart,
		fmt.Errorf("nothing came of the alarm within %s: look at the workflows with preemptctl, or set DEBUG=true", rehearsalStart))
	defer cancel()
	err = poll(ctx, "look for what the alarm starts", func() (bool, error) {
		var answer preemptapi.Response
		var found bool
		id, answer, found, err = r.intake(ctx, at)
		switch d := answer.LastDecision; {
		case err != nil || !found:
			return false, err
		case answer.RoundID != "":
			round = answer.RoundID
			r.out.say("request", "%s %q: %s, VMs tagged %s", preemption.WorkflowName, id, answer.Criticality, answer.Tag)
			return true, nil
		case len(answer.Rejections) > 0:
			r.out.say("left", "workflow %s rejected the alarm: %s", id, answer.Rejections[0].Reason)
			return true, nil
		case d != nil && d.Verdict != preemptapi.Started:
			r.out.say("left", "workflow %s did not start a round: %s %s", id, d.Verdict, d.Reason)
			return true, nil
		}
		return false, nil
	})
	return id, round, err
}

// intake finds the workflow that knows of the alarm on that entity.
func (r *rehearsal) intake(ctx context.Context, at place) (id string, answer preemptapi.Response, found bool, err error) {
	list, err := r.client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: r.temporal.Namespace(), Query: "ExecutionStatus = 'Running' AND WorkflowType = '" + preemption.WorkflowName + "'",
	})
	if err != nil {
		return "", answer, false, err
	}
	for _, w := range list.GetExecutions() {
		id = w.GetExecution().GetWorkflowId()
		answer, queried := r.ask(ctx, id, w.GetExecution().GetRunId())
		if err = errors.Join(err, queried); queried == nil && concerns(answer, r.alarm, at) {
			return id, answer, true, nil
		}
	}
	return "", preemptapi.Response{}, false, err
}

func concerns(answer preemptapi.Response, alarm string, at place) bool {
	return len(answer.Rejections) > 0 || slices.ContainsFunc(answer.Levels, func(l preemptapi.Level) bool {
		return l.Alarm == alarm && strings.HasSuffix(l.Entity, at.ref.Value)
	})
}

func (r *rehearsal) ask(ctx context.Context, id, run string) (answer preemptapi.Response, err error) {
	v, err := r.client.QueryWorkflow(ctx, id, run, preemption.WorkFlowQueryType)
	if err != nil {
		return answer, err
	}
	var text string
	if err := v.Get(&text); err != nil {
		return answer, err
	}
	return answer, json.Unmarshal([]byte(text), &answer)
}

// tell shows the plan once it is known: who goes, and by reason who stays.
func (r *rehearsal) tell(result preemptapi.RoundResult) {
	a := &act{scenario: r.scenario}
	targets, spared := a.chosen(result), sparedBy(result)
	stay := 0
	for _, s := range spared {
		stay += s.n
	}
	if r.told || len(targets)+stay == 0 {
		return
	}
	r.told = true
	r.out.say("found", "%s tagged %s: %d chosen, %d left as they are", shown.Count(len(targets)+stay, "VM"), result.Tag, len(targets), stay)
	for i, name := range targets {
		r.out.say("chosen", "%s  %d of %d", plain(name), i+1, len(targets))
	}
	for _, s := range spared {
		r.out.say("left", "%d %s (%s)%s", s.n, s.reason.Explain(), s.reason, listed(s.names))
	}
}

// spared are the VMs that stay for one reason.
type spared struct {
	reason policy.Reason
	n      int
	names  []string
}

// sparedBy groups the VMs that stay, the largest group first. A large round counts more than it names.
func sparedBy(result preemptapi.RoundResult) []spared {
	by := map[policy.Reason]*spared{}
	for _, s := range result.Spared {
		if by[s.Reason] == nil {
			by[s.Reason] = &spared{reason: s.Reason}
		}
		by[s.Reason].n++
		by[s.Reason].names = append(by[s.Reason].names, plain(s.Name))
	}
	for reason, n := range result.SparedCount {
		if by[reason] == nil {
			by[reason] = &spared{reason: reason}
		}
		by[reason].n = max(n, by[reason].n)
	}
	var out []spared
	for _, s := range by {
		slices.Sort(s.names)
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b spared) int { return cmp.Or(b.n-a.n, strings.Compare(string(a.reason), string(b.reason))) })
	return out
}

func reasonTable(result preemptapi.RoundResult) string {
	rows := [][]string{{"VMS", "REASON", "MEANS"}}
	for _, s := range sparedBy(result) {
		rows = append(rows, []string{strconv.Itoa(s.n), string(s.reason), s.reason.Explain()})
	}
	return table(rows)
}

// next prints what can be tried from a second terminal; id is the workflow of the alarm, if one was raised.
func (r *rehearsal) next(id string) {
	if r.once {
		return
	}
	tries := []try{{"workflow plan -t '" + r.tags()[0] + "'", "who would go now, and why the others stay; nothing is touched"}}
	if id != "" {
		tries = append([]try{{"workflow status -w '" + id + "'", "the preemption you have just seen"}}, tries...)
	}
	r.out.block("What to try next, from a second terminal in this folder", r.commands(tries))
	r.out.say("serving", "until Ctrl-C; what happens to the VMs of the twin is shown here")
}
