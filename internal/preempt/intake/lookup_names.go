package intake

import (
	"context"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// namesTime is how long a look-up of names may take: a person waits, and while vCenter is away the request is taken all
// the same.
const namesTime = 5 * time.Second

// longestAnswer bounds what is said about one name: with what to do about it.
const longestAnswer = 600

// Names is the workflow by which a command asks, before anything starts, whether vCenter knows what a person named.
func Names(ctx workflow.Context, in preemptapi.NamesInput) (out preemptapi.NamesResult, err error) {
	var a *Activities
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ScheduleToCloseTimeout: namesTime, StartToCloseTimeout: namesTime,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 2},
	})
	err = workflow.ExecuteActivity(ctx, a.LookUpNames, in).Get(ctx, &out)
	return out, err
}

// LookUpNames looks up tag, scope and VMs in vCenter. The result names what vCenter does not know, or knows several
// times. An error says that they could not be looked up.
func (a *Activities) LookUpNames(ctx context.Context, in preemptapi.NamesInput) (out preemptapi.NamesResult, err error) {
	look := func(err error) error {
		switch vcenter.KindOf(err) {
		case vcenter.TagNotFound, vcenter.ScopeNotFound, vcenter.NotFound:
			out.Unknown = append(out.Unknown, shown.Clip(err.Error(), longestAnswer))
		case vcenter.TagAmbiguous, vcenter.Ambiguous:
			out.Ambiguous = append(out.Ambiguous, shown.Clip(err.Error(), longestAnswer))
		default:
			return err
		}
		return nil
	}
	if in.Tag != "" || !in.Scope.Zero() {
		_, err := a.VCenter.Candidates(ctx, in.Tag, vcenter.Scope{Ref: in.Scope})
		if err := look(err); err != nil {
			return out, err
		}
	}
	if in.Cluster != "" {
		ref, _, err := a.VCenter.FindCluster(ctx, in.Cluster)
		if err := look(err); err != nil {
			return out, err
		}
		out.Cluster = ref
	}
	if len(in.Event) > 0 {
		var err error
		if out.Ours, err = a.isOurs(ctx, in.Event); err != nil {
			return out, err
		}
	}
	for _, vm := range in.VMs[:min(len(in.VMs), preempt.MaxNamed)] {
		ref, err := a.VCenter.FindVM(ctx, vm)
		if err := look(err); err != nil {
			return out, err
		}
		out.VMs = append(out.VMs, ref)
	}
	return out, nil
}
