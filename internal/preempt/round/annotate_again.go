package round

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// AnnotateInput asks to write the attributes of VMs that this round turned off, which vCenter refused before.
type AnnotateInput struct {
	RoundID   string                 `json:"roundID"`
	VMs       []preemptapi.VMOutcome `json:"vms"`
	Attribute preempt.Attribute      `json:"attribute"`
	Asked     time.Time              `json:"asked,omitzero"` // when the round began, for the figures
}

// AnnotateResult is what became of them.
type AnnotateResult struct {
	Outcomes []preemptapi.VMOutcome `json:"outcomes"`
	Again    bool                   `json:"again,omitempty"` // another try may write what is still missing
}

// AnnotateVMs writes the attribute of each VM that is still off. It may be repeated.
func (a *Activities) AnnotateVMs(ctx context.Context, in AnnotateInput) (AnnotateResult, error) {
	stop := a.Beat(ctx)
	defer stop()
	refs := make([]vsphere.Ref, 0, len(in.VMs))
	for _, o := range in.VMs {
		refs = append(refs, o.Ref)
	}
	now, err := a.VCenter.State(ctx, "", refs)
	if err != nil {
		return AnnotateResult{}, step.Typed(err)
	}
	out := AnnotateResult{Outcomes: slices.Clone(in.VMs)}
	var again atomic.Bool
	var group sync.WaitGroup
	for i, o := range in.VMs {
		if vm, there := now[o.Ref]; !there || vm.PowerState == vsphere.PoweredOn {
			continue // a restore has nothing to bring back
		}
		group.Go(func() {
			var err error
			out.Outcomes[i], err = a.writeAttribute(ctx, o, in.Attribute, in.Asked)
			if vcenter.KindOf(err).Retryable() {
				again.Store(true)
			}
		})
	}
	group.Wait()
	out.Again = again.Load()
	return out, nil
}

// versionAnnotate marks the rounds that write refused attributes again.
const versionAnnotate = "annotate-again"

// annotateAgain writes the attributes that vCenter refused: no restore brings back a VM that is off without its attribute. It
// tries for about a minute, as long as the round can hold its scope for it.
func (r *round) annotateAgain() {
	if r.unannotated() == 0 || workflow.GetVersion(r.ctx, versionAnnotate, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return
	}
	for _, pause := range r.in.Timing.RecordPauses() {
		// Its error is that of a context which is never cancelled.
		_ = workflow.Sleep(r.ctx, pause)
		in := AnnotateInput{RoundID: r.result.RoundID, Attribute: r.attribute(), Asked: r.result.StartedAt}
		for _, t := range r.result.Targets {
			if t.Outcome.Ours() && !t.Annotated && len(in.VMs) < maxPart {
				in.VMs = append(in.VMs, t)
			}
		}
		var a *Activities
		var res AnnotateResult
		ctx := r.in.Timing.WithOptions(r.ctx, r.in.Timing.Outage, fmt.Sprintf("write the attributes of %d VMs again", len(in.VMs)))
		if err := workflow.ExecuteActivity(ctx, a.AnnotateVMs, in).Get(r.ctx, &res); err != nil {
			workflow.GetLogger(r.ctx).Error("attributes could not be written again", "vms", len(in.VMs), "error", err)
			return
		}
		for _, o := range res.Outcomes {
			r.targets.decide(o)
		}
		r.relist()
		if !res.Again && len(in.VMs) < maxPart {
			return
		}
	}
}
