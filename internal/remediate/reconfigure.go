package remediate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Reconfigure is the workflow that applies a VM's configuration tags while it is off: all that can be applied, in
// one change, and only if nobody has changed the VM since it was looked at. It fails only with its Report as the
// error's details.
func Reconfigure(ctx workflow.Context, in remediateapi.Input) (remediateapi.Report, error) {
	return serve(ctx, in, placement.KindReconfigure, (*remediation).reconfigure)
}

func (d *remediation) reconfigure(req placement.Request) {
	dec := d.open(req)
	dec.Kind = placement.KindReconfigure
	if !d.planReconfigure(dec, req) {
		return
	}
	t, waited := d.take(dec, ledger.RemedyRequest{What: placement.KindReconfigure}, req, false)
	if t != takenOK {
		return
	}
	if waited && !d.planReconfigure(dec, req) { // a preemption, a restore or a resize had it
		d.release(dec, placement.KindReconfigure, false)
		return
	}
	state, reason, acted := d.apply(dec)
	d.release(dec, placement.KindReconfigure, acted)
	d.conclude(dec, req, state, reason)
}

func (d *remediation) planReconfigure(dec *remediateapi.Decision, req placement.Request) bool {
	var plan ReconfigurePlan
	in := PlanInput{Request: bare(req), By: d.by(dec)}
	if err := workflow.ExecuteActivity(d.options(5*time.Minute, "plan"), steps.PlanReconfigure, in).Get(d.ctx, &plan); err != nil {
		d.failed(dec, "plan the reconfiguration", err, req)
		return false
	}
	dec.VM, dec.Name, dec.Cluster, dec.Bad = plan.VM.Ref, plan.VM.Name, plan.VM.Cluster, plan.Bad
	if plan.Before != nil {
		dec.Before, dec.After = plan.Before, plan.After
	}
	return d.goesOn(dec, req, plan.Verdict)
}

func (d *remediation) apply(dec *remediateapi.Decision) (state remediateapi.State, reason string, acted bool) {
	res, err := d.reconfigureVM(dec, ReconfigureInput{VM: dec.VM, FromTags: true})
	switch {
	case err != nil:
		return remediateapi.Failed, "reconfigure it: " + cause(err), true
	case res.On:
		return remediateapi.Deferred, "it was powered on meanwhile: its tags stay for the next power-off", false
	case res.Refused != "":
		return remediateapi.Infeasible, "vCenter refuses the settings of its tags: " + res.Refused, false
	}
	dec.After, dec.Bad = &res.After, res.Bad
	if res.After == *dec.Before {
		return remediateapi.Skipped, "nothing is left to change", false
	}
	return remediateapi.Applied, "its tags were applied: " + changes(*dec.Before, res.After) + badWords(res.Bad), true
}

// changes tells in words what differs.
func changes(from, to placement.Hardware) string {
	var all []string
	add := func(what string, from, to any) {
		if from != to {
			all = append(all, fmt.Sprintf("%s %v → %v", what, from, to))
		}
	}
	add("CPUs", from.CPUs, to.CPUs)
	add("cores per socket", from.CoresPerSocket, to.CoresPerSocket)
	add("memory MB", from.MemoryMB, to.MemoryMB)
	add("CPU hot add", from.CPUHotAdd, to.CPUHotAdd)
	add("CPU hot remove", from.CPUHotRemove, to.CPUHotRemove)
	add("memory hot add", from.MemoryHotAdd, to.MemoryHotAdd)
	return strings.Join(all, ", ")
}

func badWords(bad []placement.BadTag) string {
	var all []string
	for _, b := range bad {
		all = append(all, fmt.Sprintf("%s=%s: %s", b.Category, b.Tag, b.Reason))
	}
	if len(all) == 0 {
		return ""
	}
	return "; not applied: " + strings.Join(all, "; ")
}

// ReconfigurePlan is what the tags of a VM ask for.
type ReconfigurePlan struct {
	Verdict
	VM     placement.VM        `json:"vm"`
	Before *placement.Hardware `json:"before,omitempty"`
	After  *placement.Hardware `json:"after,omitempty"`
	Bad    []placement.BadTag  `json:"bad,omitempty"`
}

// PlanReconfigure looks at the VM, its tags and the ledger. It changes nothing.
func (a *Activities) PlanReconfigure(ctx context.Context, in PlanInput) (plan ReconfigurePlan, err error) {
	defer a.beat(ctx)()
	l := look{Activities: a, in: in}
	plan.Verdict, err = l.vm(ctx)
	plan.VM = l.found
	if err != nil || plan.State != "" {
		// Most VMs that go off have no such tags.
		plan.Quiet = plan.Quiet || !wishes(l.found)
		return plan, err
	}
	plan.Verdict, plan.Before, plan.After, plan.Bad = a.differ(l.found, in.Request, l.facts)
	return plan, nil
}

// wishes tells whether a VM carries tags that are wanted settings.
func wishes(vm placement.VM) bool {
	return slices.ContainsFunc(placement.Settings(), func(category string) bool { return len(vm.Tags[category]) > 0 })
}

// differ tells what the tags of a VM change, and where nothing is to be done about it.
func (a *Activities) differ(vm placement.VM, req placement.Request, facts ledger.RemedyFacts) (v Verdict, before, after *placement.Hardware, bad []placement.BadTag) {
	if !wishes(vm) {
		return Verdict{State: remediateapi.Skipped, Reason: "it has no configuration tags", Quiet: true}, nil, nil, nil
	}
	change, bad := placement.Difference(vm)
	was, will := vm.Hardware, change.Apply(vm.Hardware)
	before, after = &was, &will
	what := changes(was, will) + badWords(bad)
	mode := placement.Mode(vm)
	switch {
	case change.Empty() && len(bad) > 0:
		v = Verdict{State: remediateapi.Infeasible, Reason: "none of its tags can be applied" + badWords(bad)}
	case change.Empty():
		v = Verdict{State: remediateapi.Skipped, Reason: "it is as its tags want it"}
	case vm.PowerState != vsphere.PoweredOff:
		v = Verdict{State: remediateapi.Deferred, Reason: "it is not powered off: its tags stay for the next power-off: " + what}
	case mode == placement.ModeOff:
		v = Verdict{State: remediateapi.Skipped, Reason: "its tag " + placement.CategoryMode + "=off keeps it out"}
	case req.DryRun:
		v = Verdict{State: remediateapi.Planned, Reason: what}
	case mode == placement.ModeRecommend, req.Reconfigure.Mode == placement.ModeRecommend:
		v = Verdict{State: remediateapi.Planned, Reason: what + "; the mode is recommend"}
	default:
		v = a.held(facts, what)
	}
	return v, before, after, bad
}

// ReconfigureInput is a VM to reconfigure.
type ReconfigureInput struct {
	VM vsphere.Ref `json:"vm"`
	// FromTags applies the VM's tags, if it is off.
	FromTags bool `json:"fromTags,omitempty"`
	// Resource and Size make it at least so large, on or off.
	Resource string `json:"resource,omitempty"`
	Size     int    `json:"size,omitempty"`
}

// ReconfigureResult is what became of it.
type ReconfigureResult struct {
	After   placement.Hardware `json:"after"`
	Bad     []placement.BadTag `json:"bad,omitempty"`
	On      bool               `json:"on,omitempty"`      // it was to be off and is not: nothing was done
	Refused string             `json:"refused,omitempty"` // vCenter's words: nothing was done, and trying again will not help
}

// maxConflicts is how often a reconfiguration is computed anew because somebody changed the VM meanwhile.
const maxConflicts = 3

// ReconfigureVM changes a VM in one step, if nobody has changed it since it was read; else it reads and computes
// again. It may be repeated after a crash at any instant.
func (a *Activities) ReconfigureVM(ctx context.Context, in ReconfigureInput) (res ReconfigureResult, err error) {
	defer a.beat(ctx)()
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.Settings.Timing.Task)
	defer cancel()
	if activity.GetInfo(ctx).Attempt > 1 {
		if err := a.resume(own, in.VM, "VirtualMachine.reconfigure"); err != nil {
			return res, step.Typed(err)
		}
	}
	refused := ""
	for conflicts, busy := 0, 0; ; {
		res, err := a.reconfigureOnce(own, in, refused)
		switch kind := vcenter.KindOf(err); {
		case err == nil:
			return res, nil
		case (kind == vcenter.Conflict || vcenter.TaskLost(err)) && conflicts < maxConflicts:
			conflicts++
			a.logger(ctx).Info("the VM is read again", "moref", in.VM.Value, "time", conflicts, "reason", err)
		case kind == vcenter.Busy && clock.Sleep(own, min(10*time.Second, a.Settings.Timing.Retry<<min(busy, 6))):
			busy++ // another operation is under way on it
		case refused == "" && (kind == vcenter.Invalid || kind == vcenter.InvalidState || kind == vcenter.NoRoom):
			refused = err.Error() // unless it is seen to have been powered on meanwhile
		default:
			return res, step.Typed(err)
		}
	}
}

// reconfigureOnce reads, computes and changes once. What vCenter has refused is not sent again.
func (a *Activities) reconfigureOnce(ctx context.Context, in ReconfigureInput, refused string) (res ReconfigureResult, err error) {
	vm, err := a.hardware(ctx, in.VM)
	if err != nil {
		return res, err
	}
	res.After = vm.Hardware
	var change placement.Change
	switch {
	case in.FromTags && vm.PowerState != vsphere.PoweredOff:
		res.On = true
		return res, nil
	case in.FromTags:
		change, res.Bad = placement.Difference(vm)
	case sizeOf(vm.Hardware, in.Resource) < in.Size:
		change = changeOf(in.Resource, in.Size)
	}
	if change.Empty() {
		return res, nil
	}
	if refused != "" {
		res.Refused = refused
		return res, nil
	}
	task, err := a.VCenter.Reconfigure(ctx, in.VM, change, vm.ChangeVersion)
	if err == nil {
		err = a.VCenter.AwaitTask(ctx, task, nil)
	}
	if err != nil {
		return res, err
	}
	after, err := a.hardware(ctx, in.VM)
	res.After = after.Hardware
	return res, err
}

func sizeOf(h placement.Hardware, resource string) int {
	if resource == placement.Memory {
		return h.MemoryMB
	}
	return h.CPUs
}

func (a *Activities) hardware(ctx context.Context, ref vsphere.Ref) (vm placement.VM, err error) {
	err = a.attempt(ctx, func() error {
		all, err := a.VCenter.Hardware(ctx, []vsphere.Ref{ref})
		if err != nil {
			return err
		}
		var ok bool
		if vm, ok = all[ref]; !ok {
			return &vcenter.Error{Op: "look at", Object: ref.Value, Kind: vcenter.NotFound, Err: errGone}
		}
		return nil
	})
	return vm, err
}

// resume waits for the operation that an attempt before this one began, if it is under way.
func (a *Activities) resume(ctx context.Context, ref vsphere.Ref, operation string) error {
	task, found, err := a.VCenter.RunningTask(ctx, ref, operation)
	if err != nil || !found {
		return err
	}
	if err := a.VCenter.AwaitTask(ctx, task, nil); vcenter.KindOf(err).Outage() {
		return err
	}
	return nil // how it ended shows in the VM
}
