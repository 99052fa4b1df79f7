package remediate

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Reconcile is the workflow that applies the tags of VMs whose power-off nobody told us of: it looks at all that
// carry configuration tags. It fails only with its ReconcileResult as the error's details.
func Reconcile(ctx workflow.Context, in remediateapi.ReconcileInput) (remediateapi.ReconcileResult, error) {
	d := newRemediation(ctx, placement.KindReconfigure, nil)
	res := remediateapi.ReconcileResult{State: remediateapi.Applied, Decisions: []remediateapi.Decision{}}
	if in.Earlier != nil {
		res = *in.Earlier
	}
	if err := workflow.SetQueryHandler(ctx, remediateapi.StateQuery, func() (remediateapi.Report, error) { return d.report(), nil }); err != nil {
		return res, err
	}
	fail := func(what string, err error) (remediateapi.ReconcileResult, error) {
		res.State, res.Reason = remediateapi.Failed, what+": "+cause(err)
		return res, temporal.NewNonRetryableApplicationError(res.Reason, remediateapi.ErrRemediation, err, res)
	}
	req := placement.Request{Kind: placement.KindReconfigure, Cause: placement.Cause{Event: cmp.Or(in.By, placement.ByReconciler)}, DryRun: in.DryRun}
	var a Accepted
	probe := req
	probe.Target = "all"
	if err := workflow.ExecuteLocalActivity(d.local(), steps.AcceptRemediation, AcceptInput{Kind: d.kind, Request: &probe}).Get(d.ctx, &a); err != nil {
		return fail("begin", err)
	}
	d.setup, req.Reconfigure = a.Setup, a.Request.Reconfigure
	rest := in.Rest
	if in.Earlier == nil {
		var found Unapplied
		if err := workflow.ExecuteActivity(d.options(15*time.Minute, "find VMs"), steps.FindUnapplied).Get(d.ctx, &found); err != nil {
			return fail("find the VMs that carry configuration tags", err)
		}
		res.Looked, res.On, rest = found.Looked, found.On, found.VMs
		if in.DryRun {
			res.State = remediateapi.Planned
		}
	}
	for i, vm := range rest {
		if ctx.Err() != nil {
			res.State, res.Reason = remediateapi.Failed, fmt.Sprintf("cancelled: %d VMs were not looked at", len(rest)-i)
			return res, temporal.NewNonRetryableApplicationError(res.Reason, remediateapi.ErrRemediation, nil, res)
		}
		if d.info.GetContinueAsNewSuggested() {
			in.Earlier, in.Rest = &res, rest[i:]
			return res, workflow.NewContinueAsNewError(ctx, remediateapi.ReconcileType, in)
		}
		req.VM = vm
		d.reconfigure(req)
		d.finishTelling()
		res.Add(*d.made[len(d.made)-1])
	}
	if res.State == remediateapi.Failed {
		return res, temporal.NewNonRetryableApplicationError(res.Reason, remediateapi.ErrRemediation, nil, res)
	}
	return res, nil
}

// Unapplied are the VMs that are off and differ from their tags, or carry some that cannot be applied.
type Unapplied struct {
	Looked int           `json:"looked"`
	On     int           `json:"on"`
	VMs    []vsphere.Ref `json:"vms"`
}

// lookAtOnce is how many VMs are read in one call.
const lookAtOnce = 500

// FindUnapplied looks at all VMs that carry configuration tags.
func (a *Activities) FindUnapplied(ctx context.Context) (out Unapplied, err error) {
	defer a.beat(ctx)()
	var refs []vsphere.Ref
	if err := a.attempt(ctx, func() (err error) {
		refs, err = a.VCenter.WithTags(ctx, placement.Settings())
		return err
	}); err != nil {
		return out, step.Typed(err)
	}
	out.Looked = len(refs)
	for len(refs) > 0 {
		n := min(len(refs), lookAtOnce)
		var vms map[vsphere.Ref]placement.VM
		if err := a.attempt(ctx, func() (err error) {
			vms, err = a.VCenter.Hardware(ctx, refs[:n])
			return err
		}); err != nil {
			return out, step.Typed(err)
		}
		for _, ref := range refs[:n] {
			vm, ok := vms[ref]
			if !ok || a.decline(vm) != "" {
				continue
			}
			if vm.PowerState != vsphere.PoweredOff {
				out.On++
				continue
			}
			if change, bad := placement.Difference(vm); !change.Empty() || len(bad) > 0 {
				out.VMs = append(out.VMs, ref)
			}
		}
		refs = refs[n:]
	}
	return out, nil
}
