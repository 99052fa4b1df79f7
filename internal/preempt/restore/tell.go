package restore

import (
	"fmt"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
)

// tellBack tells people who came back, each VM once, and who was to and did not.
func (r *restore) tellBack() {
	if r.in.DryRun {
		return
	}
	var back, not []tell.VM
	for _, vm := range r.result.VMs {
		ref := vm.Ref.String()
		if r.told[ref] {
			continue
		}
		switch vm.Outcome {
		case preemptapi.OutcomeRestored:
			r.told[ref] = true
			back = append(back, tell.VM{Ref: ref, Name: vm.Name})
		case preemptapi.OutcomeNotRestored:
			r.told[ref] = true
			not = append(not, tell.VM{Ref: ref, Name: vm.Name, Note: vm.Reason.String()})
		}
	}
	if len(back) > 0 {
		r.out.Send(r.ctx, r.setup.Timing.Tell, r.message(tell.Restored, "came back").With(back))
	}
	if len(not) > 0 {
		r.out.Send(r.ctx, r.setup.Timing.Tell, r.message(tell.Failed, "could not be brought back").With(not))
	}
}

// tellFailure tells people that the restore ended before its time.
func (r *restore) tellFailure(reason string) {
	if r.in.DryRun {
		return
	}
	m := r.message(tell.Failed, "a restore could not be carried out")
	m.Why = reason
	r.out.Send(r.ctx, r.setup.Timing.Tell, m)
}

func (r *restore) message(e tell.Event, what string) tell.Message {
	m := tell.Message{
		Event: e, What: what, Cluster: r.result.ScopeName, Why: r.result.Reason,
		Look: tell.Command(r.info.Namespace, r.info.TaskQueueName, "workflow", "status", "--workflow-id", r.result.RestoreID),
	}
	if r.in.By != "" {
		m.Why = fmt.Sprintf("asked for by %s", r.in.By)
		if r.result.Reason != "" {
			m.Why += "; " + r.result.Reason
		}
	}
	if !r.in.Scope.Zero() {
		m.ClusterRef = r.in.Scope.String()
	}
	return m
}
