package remediate

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Resize is the workflow that scales up one VM in alarm: it adds hot where the VM takes that, or leaves the wanted
// size as a tag for the next power-off, or turns the VM off and on within a window. It never makes a VM smaller. It
// fails only with its Report as the error's details.
func Resize(ctx workflow.Context, in remediateapi.Input) (remediateapi.Report, error) {
	return serve(ctx, in, placement.KindResize, (*remediation).resize)
}

func (d *remediation) resize(req placement.Request) {
	dec := d.open(req)
	dec.Resource = req.Resize.Resource
	plan, ok := d.planResize(dec, req)
	if !ok {
		return
	}
	t, waited := d.take(dec, ledger.RemedyRequest{What: dec.Resource, Cooldown: req.Resize.Cooldown.D()}, req, false)
	if t != takenOK {
		return
	}
	if waited { // others had the VM
		if plan, ok = d.planResize(dec, req); !ok {
			d.release(dec, dec.Resource, false)
			return
		}
	}
	state, reason, acted := d.enlarge(dec, req, plan)
	d.release(dec, dec.Resource, acted)
	if state == remediateapi.Deferred && dec.Mode == placement.ModePowerCycle && plan.VM.PowerState == vsphere.PoweredOn {
		d.cycle(dec, req)
		return
	}
	d.conclude(dec, req, state, reason)
}

// planResize decides what to do; ok is false where that was nothing, and is told.
func (d *remediation) planResize(dec *remediateapi.Decision, req placement.Request) (plan ResizePlan, ok bool) {
	in := PlanInput{Request: bare(req), By: d.by(dec)}
	if err := workflow.ExecuteActivity(d.options(5*time.Minute, "plan"), steps.PlanResize, in).Get(d.ctx, &plan); err != nil {
		d.failed(dec, "plan the resize", err, req)
		return plan, false
	}
	vm := plan.VM
	dec.VM, dec.Name, dec.Cluster, dec.Mode, dec.Until, dec.Bad = vm.Ref, vm.Name, vm.Cluster, plan.Sized.Mode, plan.Until, plan.Sized.Bad
	if plan.Before != nil {
		dec.Before, dec.After = plan.Before, plan.After
	}
	return plan, d.goesOn(dec, req, plan.Verdict)
}

// goesOn tells whether a plan leaves something to do; else it is told.
func (d *remediation) goesOn(dec *remediateapi.Decision, req placement.Request, v Verdict) bool {
	switch {
	case v.State == "":
		return true
	case v.Quiet:
		d.end(dec, v.State, v.Reason)
	default:
		d.conclude(dec, req, v.State, v.Reason)
	}
	return false
}

// by names one asking of the ledger, the same at each attempt of it.
func (d *remediation) by(dec *remediateapi.Decision) string {
	return d.info.WorkflowExecution.RunID + dec.StartedAt.Format("/20060102T150405.000000000")
}

// enlarge carries a plan out.
func (d *remediation) enlarge(dec *remediateapi.Decision, req placement.Request, plan ResizePlan) (state remediateapi.State, reason string, acted bool) {
	if plan.Do == doHot {
		res, err := d.reconfigureVM(dec, ReconfigureInput{VM: plan.VM.Ref, Resource: dec.Resource, Size: plan.Sized.Next})
		switch {
		case err != nil:
			return remediateapi.Failed, "add " + dec.Resource + " hot: " + cause(err), true // what was done is not known
		case res.Refused == "":
			dec.Hot, dec.After = true, &res.After
			if res.After == *dec.Before {
				return remediateapi.Skipped, "somebody else made it larger meanwhile", false
			}
			if plan.Sized.Pending > 0 && plan.Sized.Pending < plan.Sized.Next {
				// Left as it is, the wish would make the VM smaller at its next power-off.
				if err := d.wish(dec, plan); err != nil {
					return remediateapi.Applied, "the former wish still stands as a tag, and could not be replaced: " + cause(err), true
				}
			}
			return remediateapi.Applied, plan.Sized.Reason, true
		case dec.Mode == placement.ModeHotAdd:
			return remediateapi.Infeasible, "vCenter refuses to add it hot: " + res.Refused, false
		}
		plan.Sized.WhyNot = "vCenter refuses to add it hot: " + res.Refused
		dec.After = dec.Before
	}
	if err := d.wish(dec, plan); err != nil {
		return remediateapi.Failed, "leave the wish as a tag: " + cause(err), true
	}
	reason = plan.Sized.Reason + "; wanted as tag " + dec.Tag + ", for the next power-off"
	if plan.Sized.WhyNot != "" && dec.Mode != placement.ModeTag {
		reason += ": " + plan.Sized.WhyNot
	}
	return remediateapi.Deferred, reason, true
}

// wish leaves the wanted size as a tag.
func (d *remediation) wish(dec *remediateapi.Decision, plan ResizePlan) error {
	in := WishInput{VM: dec.VM, Category: placement.CategoryCPUs, Value: fmt.Sprint(plan.Sized.Next)}
	if dec.Resource == placement.Memory {
		in.Category = placement.CategoryMemory
	}
	err := workflow.ExecuteActivity(d.options(5*time.Minute, "tag "+in.Category+"="+in.Value), steps.SetWish, in).Get(d.ctx, nil)
	if err == nil {
		dec.Tag = in.Category + "=" + in.Value
	}
	return err
}

func (d *remediation) reconfigureVM(dec *remediateapi.Decision, in ReconfigureInput) (res ReconfigureResult, err error) {
	summary := fmt.Sprintf("reconfigure %s", dec.Name)
	err = workflow.ExecuteActivity(d.options(d.setup.Timing.Task, summary), steps.ReconfigureVM, in).Get(d.ctx, &res)
	return res, err
}

// cycle waits for the window, and shuts the VM down, applies its tags and powers it on again. A guest that does not
// shut down is left on.
func (d *remediation) cycle(dec *remediateapi.Decision, req placement.Request) {
	var w WindowResult
	in := WindowInput{Resize: *req.Resize, Now: workflow.Now(d.ctx)}
	if err := workflow.ExecuteLocalActivity(d.local(), steps.FindWindow, in).Get(d.ctx, &w); err != nil {
		d.failed(dec, "find the next window", err, req)
		return
	}
	dec.State, dec.Until = remediateapi.Working, w.From.UTC()
	dec.Reason = "waits for the window at " + w.From.UTC().Format(time.RFC3339) + "; wanted as tag " + dec.Tag
	d.show(dec)
	if left := w.From.Sub(workflow.Now(d.ctx)); left > 0 && workflow.Sleep(d.asked, left) != nil {
		d.conclude(dec, req, remediateapi.Deferred, "cancelled while it waited for the window; wanted as tag "+dec.Tag+", for the next power-off")
		return
	}
	dec.Until = time.Time{}
	if t, _ := d.take(dec, ledger.RemedyRequest{What: placement.KindReconfigure}, req, false); t != takenOK {
		return
	}
	var v Verdict
	look := PlanInput{Request: bare(req), By: d.by(dec)}
	if err := workflow.ExecuteActivity(d.options(5*time.Minute, "look again"), steps.PlanCycle, look).Get(d.ctx, &v); err != nil {
		d.release(dec, placement.KindReconfigure, false)
		d.failed(dec, "look at the VM when the window was open", err, req)
		return
	}
	if !d.goesOn(dec, req, v) {
		d.release(dec, placement.KindReconfigure, false)
		return
	}
	state, reason := d.cycled(dec, w)
	d.release(dec, placement.KindReconfigure, state == remediateapi.Applied || state == remediateapi.Failed)
	d.conclude(dec, req, state, reason)
}

// cycled turns the VM off and on; whatever fails between, a VM that was turned off here is powered on.
func (d *remediation) cycled(dec *remediateapi.Decision, w WindowResult) (state remediateapi.State, reason string) {
	now := workflow.Now(d.ctx)
	if !now.Before(w.Until) {
		return remediateapi.Deferred, "the window was over before the VM was free; wanted as tag " + dec.Tag + ", for the next power-off"
	}
	var down ShutDownResult
	off := ShutDownInput{VM: dec.VM, Since: now, Until: w.Until}
	if err := workflow.ExecuteActivity(d.options(w.Until.Sub(now)+time.Minute, "shut down "+dec.Name), steps.ShutDownVM, off).Get(d.ctx, &down); err != nil {
		return remediateapi.Failed, "shut the VM down: " + cause(err) + "; look whether it is on"
	}
	if !down.Off {
		return remediateapi.Deferred, down.Reason + "; wanted as tag " + dec.Tag + ", for the next power-off"
	}
	res, err := d.reconfigureVM(dec, ReconfigureInput{VM: dec.VM, FromTags: true})
	state, reason = remediateapi.Applied, "turned off and on within the window"
	switch {
	case err != nil:
		state, reason = remediateapi.Failed, "reconfigure it while it was off: "+cause(err)
	case res.Refused != "":
		state, reason = remediateapi.Infeasible, "vCenter refuses the settings of its tags: "+res.Refused
	default:
		dec.After, dec.Bad = &res.After, res.Bad
	}
	if !down.Ours {
		return state, reason + "; somebody else turned it off: it stays off"
	}
	if err := workflow.ExecuteActivity(d.options(d.setup.Timing.Task, "power on "+dec.Name), steps.PowerOnVM, dec.VM).Get(d.ctx, nil); err != nil {
		return remediateapi.Failed, reason + "; it was turned off and does not power on, look at it: " + cause(err)
	}
	return state, reason
}
