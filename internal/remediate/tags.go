package remediate

import (
	"context"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Tags is the workflow that makes categories and tags, or tells what those of a VM ask for. A person waits for it.
func Tags(ctx workflow.Context, in remediateapi.TagsInput) (res remediateapi.TagsResult, err error) {
	do := steps.MakeTags
	if in.VM != "" {
		do = steps.ShowTags
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 2 * time.Minute, ScheduleToCloseTimeout: 3 * time.Minute, HeartbeatTimeout: 10 * time.Second,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 1.5, MaximumInterval: 10 * time.Second},
	})
	err = workflow.ExecuteActivity(ctx, do, in).Get(ctx, &res)
	return res, err
}

// MakeTags creates what is missing. It may be repeated.
func (a *Activities) MakeTags(ctx context.Context, in remediateapi.TagsInput) (res remediateapi.TagsResult, err error) {
	defer a.beat(ctx)()
	values := in.Values
	if values == nil {
		values = remediateapi.DefaultTags()
	}
	if a.Settings.Observe && !in.DryRun {
		return res, temporal.NewNonRetryableApplicationError("the worker only observes (mode: observe): nothing is made", "Observing", nil)
	}
	err = a.attempt(ctx, func() error {
		created, existed, err := a.VCenter.EnsureTags(ctx, values, in.DryRun)
		res.Created, res.Existed = nil, nil
		for _, t := range created {
			res.Created = append(res.Created, remediateapi.Tag{Category: t.Category, Name: t.Name})
		}
		for _, t := range existed {
			res.Existed = append(res.Existed, remediateapi.Tag{Category: t.Category, Name: t.Name})
		}
		return err
	})
	return res, step.Typed(err)
}

// ShowTags tells what the tags of a VM ask for.
func (a *Activities) ShowTags(ctx context.Context, in remediateapi.TagsInput) (res remediateapi.TagsResult, err error) {
	defer a.beat(ctx)()
	var ref vsphere.Ref
	if err := a.attempt(ctx, func() (err error) {
		ref, err = a.VCenter.FindVM(ctx, in.VM)
		return err
	}); err != nil {
		return res, step.Typed(err)
	}
	vm, err := a.hardware(ctx, ref)
	if err != nil {
		return res, step.Typed(err)
	}
	var carried map[vsphere.Ref]map[string][]string
	if err := a.attempt(ctx, func() (err error) {
		carried, err = a.VCenter.TagsOf(ctx, []vsphere.Ref{ref})
		return err
	}); err != nil {
		return res, step.Typed(err)
	}
	change, bad := placement.Difference(vm)
	wanted := change.Apply(vm.Hardware)
	return remediateapi.TagsResult{
		VM: vm.Ref, Name: vm.Name, Power: vm.PowerState, Tags: vm.Tags, AllTags: carried[ref], Hardware: &vm.Hardware, Wanted: &wanted, Bad: bad,
	}, nil
}
