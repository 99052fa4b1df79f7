package round

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
)

// tellNotice tells people who will go, while a person can still stop it.
func (r *round) tellNotice(open []*notified, deadline time.Time) {
	vms := make([]tell.VM, 0, len(open))
	for _, w := range open {
		vms = append(vms, tell.VM{Ref: w.Ref.String(), Name: w.Name})
	}
	m := r.message(tell.Notice, "will be "+done(r.treatment().Action))
	if r.in.Demand.NoticeOnly {
		m.What = "would be " + done(r.treatment().Action) + "; this is a rehearsal, nothing is done"
	}
	m.Deadline, m.Stop = deadline.UTC(), r.command("cancel")
	r.out.Send(r.ctx, r.in.Timing.Tell, m.With(vms))
}

// tellEnd tells people how the round ends: who went, who stays after all, and what failed.
func (r *round) tellEnd(final preemptapi.RoundState) {
	if r.in.Demand.DryRun || final == preemptapi.RoundRehearsed {
		return
	}
	went := r.some(func(o preemptapi.VMOutcome) bool { return o.Outcome.Ours() })
	spared := r.some(func(o preemptapi.VMOutcome) bool { return o.Outcome == action.Spared })
	failed := r.some(func(o preemptapi.VMOutcome) bool { return o.Outcome == action.Failed })
	send := func(e tell.Event, what string, vms []tell.VM) {
		r.out.Send(r.ctx, r.in.Timing.Tell, r.message(e, what).With(vms))
	}
	if final == preemptapi.RoundObserved {
		if would := r.some(func(preemptapi.VMOutcome) bool { return true }); len(would) > 0 {
			send(tell.Preempted, "would be "+done(r.treatment().Action)+"; the policy only observes", would)
		}
		return
	}
	if len(went) > 0 {
		send(tell.Preempted, "gave way", went)
	}
	switch {
	case final == preemptapi.RoundFailed || len(failed) > 0 || r.replanError != "":
		send(tell.Failed, "could not be preempted as planned", failed)
	case final == preemptapi.RoundWithdrawn && (len(spared) > 0 || len(went) > 0):
		send(tell.Withdrawn, "stay on: the round was withdrawn", spared)
	}
}

// some are the targets with such an outcome, with what became of them.
func (r *round) some(is func(preemptapi.VMOutcome) bool) (vms []tell.VM) {
	for _, o := range r.result.Targets {
		if is(o) {
			vm := tell.VM{Ref: o.Ref.String(), Name: o.Name, Note: o.Outcome.Words()}
			if o.Outcome == action.Failed {
				vm.Note = cmp.Or(o.Reason.String(), vm.Note)
			}
			vms = append(vms, vm)
		}
	}
	return vms
}

// tellFailure tells people that the round could not be carried out.
func (r *round) tellFailure(reason string) {
	if r.in.Demand.DryRun {
		return
	}
	m := r.message(tell.Failed, "a round could not be carried out")
	m.Why = reason
	r.out.Send(r.ctx, r.in.Timing.Tell, m)
}

// message is what all messages of the round have in common.
func (r *round) message(e tell.Event, what string) tell.Message {
	m := tell.Message{
		Event: e, What: what, Cluster: r.result.ScopeName, Alarm: r.result.Alarm, Why: r.why(), Usage: usageWords(r.result.Usage), Look: r.command("status"),
	}
	if e != tell.Notice && r.result.Reason != "" {
		m.Why += "; " + r.result.Reason
	}
	if !r.result.Scope.Zero() {
		m.ClusterRef = r.result.Scope.String()
	}
	return m
}

// command is a command line about the round.
func (r *round) command(what string) string {
	info := workflow.GetInfo(r.ctx)
	return tell.Command(info.Namespace, info.TaskQueueName, "workflow", what, "--workflow-id", r.result.RoundID)
}

// usageWords says how the scopes stood, such as "CPU 91 % (target 70 %), memory 40 %".
func usageWords(all []policy.Usage) string {
	var parts []string
	for _, u := range all {
		var loads []string
		for _, l := range []struct {
			name string
			policy.Load
		}{{"CPU", u.CPU}, {"memory", u.Memory}} {
			if l.Capacity <= 0 {
				continue
			}
			text := fmt.Sprintf("%s %d %%", l.name, 100*l.Used/l.Capacity)
			if l.Target > 0 {
				text += fmt.Sprintf(" (target %d %%)", l.Target)
			}
			loads = append(loads, text)
		}
		parts = append(parts, strings.TrimSpace(u.Name+" "+strings.Join(loads, ", ")))
	}
	return strings.Join(parts, "; ")
}

// done is what becomes of a VM by an action, as after "will be".
func done(a action.Action) string {
	switch a {
	case action.PowerOff:
		return "powered off"
	case action.ShutdownGuest:
		return "shut down"
	case action.Suspend:
		return "suspended"
	case action.Throttle:
		return "throttled"
	}
	return "preempted (" + a.Words() + ")"
}
