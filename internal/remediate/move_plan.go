package remediate

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// MovePlan is what to move, as things are now.
type MovePlan struct {
	Verdict
	Moves     placement.Moves `json:"moves"`               // at most 100 of the moves, and of those that stay
	StayCount map[string]int  `json:"stayCount,omitempty"` // by reason, where more stay
	Version   int64           `json:"version"`             // of the moves under way that were counted
	VM        vsphere.Ref     `json:"vm,omitzero"`         // the one in alarm
	Name      string          `json:"name,omitempty"`
	// Held are VMs that stay only because another workflow has them at the moment.
	Held int `json:"held,omitempty"`
	// Cooling are VMs that stay only until their cooldown is over, which is soon enough to wait for.
	Cooling int `json:"cooling,omitempty"`
}

// inUse is why a VM stays that another workflow took between plan and move.
const inUse = "another workflow has it"

// PlanMove measures the datastores, asks the ledger for the moves under way, and chooses. It changes nothing.
func (a *Activities) PlanMove(ctx context.Context, in PlanInput) (plan MovePlan, err error) {
	defer a.beat(ctx)()
	req := in.Request
	l := look{Activities: a, in: in, what: placement.KindMove, cooldown: req.Move.Cooldown.D()}
	if plan.Verdict, err = a.foreign(ctx, req.Cause); err != nil || plan.State != "" {
		return plan, err
	}
	source, vm, err := l.place(ctx)
	if err != nil {
		return plan, err
	}
	plan.VM = vm
	var st placement.Storage
	err = a.attempt(ctx, func() (err error) {
		st, err = a.VCenter.Storage(ctx, source, vm)
		return err
	})
	switch kind := vcenter.KindOf(err); {
	case kind == vcenter.NotFound || kind == vcenter.ScopeNotFound:
		plan.Verdict = Verdict{State: remediateapi.Infeasible, Reason: err.Error()}
		return plan, nil
	case err != nil:
		return plan, step.Typed(err)
	}
	if err := l.ask(ctx); err != nil {
		return plan, err
	}
	if err := l.leftovers(ctx); err != nil {
		return plan, err
	}
	if plan.Version = l.facts.Version; l.facts.Duplicate {
		plan.Verdict = Verdict{State: remediateapi.Skipped, Reason: "the same event was dealt with before", Quiet: true}
		return plan, nil
	}
	d := placement.Demand{Source: source, VM: vm, Flights: l.facts.Flights}
	d.Excluded = l.excluded(st, &plan)
	plan.Moves = placement.ChooseMoves(st, d, *req.Move)
	for _, s := range st.VMs {
		if s.Ref == vm {
			plan.Name = s.Name
		}
	}
	plan.Verdict = l.judge(plan.Moves)
	plan.Moves.Stay, plan.StayCount = stays(plan.Moves.Stay)
	plan.Moves.Moves = plan.Moves.Moves[:min(len(plan.Moves.Moves), maxTold)]
	if plan.State == "" && len(plan.Moves.Moves) > 0 {
		err = l.recommended(ctx, st, d, &plan.Moves.Moves[0])
	}
	return plan, step.Typed(err)
}

// stays are the first VMs that are not moved, and how many there are by reason if there are more.
func stays(all []placement.Stay) ([]placement.Stay, map[string]int) {
	if len(all) <= maxTold {
		return all, nil
	}
	count := map[string]int{}
	for _, s := range all {
		count[s.Reason]++
	}
	return all[:maxTold], count
}

// leftovers gives back what an earlier run of this workflow held when it was terminated: one that plans holds
// nothing.
func (l *look) leftovers(ctx context.Context) error {
	id, found := activity.GetInfo(ctx).WorkflowExecution.ID, false
	for vm, owner := range l.facts.Reserved {
		if owner != id {
			continue
		}
		found = true
		if err := l.Ledger.Remedied(ctx, ledger.RemediedRequest{Owner: id, VM: vm, What: placement.KindMove, Acted: true}); err != nil {
			return fmt.Errorf("give back %s, which an earlier run held: %w", vm, err)
		}
	}
	if !found {
		return nil
	}
	return l.ask(ctx)
}

// place is what is to be moved off, or which VM is to be moved.
func (l *look) place(ctx context.Context) (source, vm vsphere.Ref, err error) {
	req := l.in.Request
	if !req.Source.Zero() || !req.VM.Zero() {
		return req.Source, req.VM, nil
	}
	if req.TargetType != vsphere.TypeDatastore {
		vm, err = l.resolve(ctx)
		return source, vm, err
	}
	err = l.attempt(ctx, func() (err error) {
		source, err = l.VCenter.Datastore(ctx, req.Target)
		return err
	})
	return source, vm, step.Typed(err)
}

// excluded tells of each VM that must stay why: others have it, it moved a short time ago, or it is out of bounds. It counts
// in the plan those that could be moved later.
func (l *look) excluded(st placement.Storage, plan *MovePlan) map[string]string {
	out := map[string]string{}
	for i := range st.VMs {
		vm := &st.VMs[i]
		key := vm.Ref.String()
		last := l.facts.Last[key+"|"+placement.KindMove]
		switch until := last.Add(l.cooldown); {
		case l.notOurs(vm.VM) != "":
			out[key] = l.notOurs(vm.VM)
		case l.in.Without[key] != "":
			if out[key] = l.in.Without[key]; out[key] == inUse {
				plan.Held++
			}
		case !last.IsZero() && until.After(l.facts.Now):
			if out[key] = cooling(until); l.in.Request.VM.Zero() && until.Sub(l.facts.Now) <= l.Settings.Timing.Patience {
				plan.Cooling++
			}
		case l.facts.Reserved[key] != "" && l.in.Request.VM.Zero():
			out[key] = l.facts.Reserved[key] + " has it"
			plan.Held++
		}
	}
	return out
}

// judge tells whether a choice is only told.
func (l *look) judge(m placement.Moves) Verdict {
	req := l.in.Request
	if len(m.Moves) == 0 {
		return Verdict{}
	}
	reason := fmt.Sprintf("%s to move, %s first", shown.Count(len(m.Moves), "VM"), m.Moves[0].Name)
	switch {
	case req.DryRun:
		return Verdict{State: remediateapi.Planned, Reason: reason}
	case m.RecommendOnly != "":
		return Verdict{State: remediateapi.Planned, Reason: reason + "; " + m.RecommendOnly}
	case req.Move.Mode == placement.ModeRecommend:
		return Verdict{State: remediateapi.Planned, Reason: reason + "; the mode is recommend"}
	}
	return l.held(l.facts, reason)
}

// recommended asks Storage DRS where the source is in a datastore cluster that it automates, and takes its word if
// it stands up to our own bounds.
func (l *look) recommended(ctx context.Context, st placement.Storage, d placement.Demand, m *placement.Relocation) error {
	if m.Pod.Zero() {
		return nil
	}
	to, ok, err := l.VCenter.RecommendDatastore(ctx, m.VM, m.Pod)
	switch kind := vcenter.KindOf(err); {
	case kind.Outage():
		return err
	case err != nil || !ok || to == m.Destination:
		return nil // our own choice holds
	}
	for _, vm := range st.VMs {
		if vm.Ref != m.VM {
			continue
		}
		if d.Source.Zero() {
			d.Source = m.Source
		}
		if theirs, reason := placement.Destination(st, vm, to, d, *l.in.Request.Move); reason == "" {
			theirs.Why = "Storage DRS recommends it"
			*m = theirs
		}
	}
	return nil
}

// RelocateVM moves a VM and waits until it is there; it returns where. It may be repeated after a crash at any
// instant: a relocation that is under way is waited for, one that is done is not done again.
func (a *Activities) RelocateVM(ctx context.Context, m placement.Relocation) (vsphere.Ref, error) {
	defer a.beat(ctx)()
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.Settings.Timing.Move)
	defer cancel()
	if activity.GetInfo(ctx).Attempt > 1 {
		if err := a.resume(own, m.VM, "VirtualMachine.relocate"); err != nil {
			return vsphere.Ref{}, step.Typed(err)
		}
	}
	for pause := a.Settings.Timing.Retry; ; pause = min(2*pause, time.Minute) {
		err := a.relocateOnce(own, m)
		switch kind := vcenter.KindOf(err); {
		case err == nil:
			// Free space is measured again for the next plan; vCenter does so itself too, a while later.
			if err := a.VCenter.RefreshDatastore(own, m.Source); err != nil {
				a.logger(ctx).Info("the datastore was not refreshed", "datastore", m.SourceName, "reason", err)
			}
			return m.Destination, nil
		case kind == vcenter.Busy && clock.Sleep(own, pause):
		default:
			return vsphere.Ref{}, step.Typed(err)
		}
	}
}

func (a *Activities) relocateOnce(ctx context.Context, m placement.Relocation) error {
	there, err := a.leftFor(ctx, m)
	if err != nil || there {
		return err
	}
	task, err := a.VCenter.Relocate(ctx, m.VM, m.Source, m.Destination)
	if err != nil {
		return err
	}
	err = a.VCenter.AwaitTask(ctx, task, nil)
	if vcenter.KindOf(err) != vcenter.NotFound {
		return err
	}
	// A vCenter that was started anew has forgotten the task.
	if there, look := a.leftFor(ctx, m); look != nil || there {
		return look
	}
	return err
}

// leftFor tells whether nothing of the VM is on the source any more.
func (a *Activities) leftFor(ctx context.Context, m placement.Relocation) (bool, error) {
	st, err := a.VCenter.Storage(ctx, vsphere.Ref{}, m.VM)
	if err != nil {
		return false, err
	}
	for _, vm := range st.VMs {
		if vm.Ref != m.VM {
			continue
		}
		on := vm.Home == m.Source
		for _, disk := range vm.Disks {
			on = on || disk.Datastore == m.Source
		}
		return !on, nil
	}
	return false, &vcenter.Error{Op: "move", Object: m.VM.Value, Kind: vcenter.NotFound, Err: errGone}
}
