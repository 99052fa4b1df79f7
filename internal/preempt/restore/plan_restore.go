package restore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// PlanInput asks who may come back.
type PlanInput struct {
	RestoreID string          `json:"restoreID"`
	Scope     vsphere.Ref     `json:"scope,omitzero"`
	ScopeName string          `json:"scopeName,omitempty"`
	Tag       string          `json:"tag"`
	Policy    policy.Policy   `json:"policy"`
	Reserve   bool            `json:"reserve"`          // the first wave; false: only look
	Person    bool            `json:"person,omitempty"` // wants it although an alarm is active
	VMs       []string        `json:"vms,omitempty"`    // named by a person
	Named     []vsphere.Ref   `json:"named,omitempty"`  // the same, once they were found
	Done      []vsphere.Ref   `json:"done,omitempty"`
	Warming   []policy.Return `json:"warming,omitempty"`
}

// PlanResult is who comes back.
type PlanResult struct {
	policy.Returns
	ScopeName    string        `json:"scopeName,omitempty"`
	Named        []vsphere.Ref `json:"named,omitempty"`
	ActiveRounds []string      `json:"active,omitempty"` // rounds under way in the scope: nobody comes back
	// ActiveAlarms are alarms that are active in the scope, in words: nobody comes back.
	ActiveAlarms []string  `json:"standing,omitempty"`
	PlannedAt    time.Time `json:"plannedAt"`        // by the worker's clock
	Beyond       int       `json:"beyond,omitempty"` // VMs of later waves that are not named, where there are many
	// MoreLimits says that more limits are to be taken back than are named.
	MoreLimits bool `json:"moreLimits,omitempty"`
}

// PlanRestore reads which VMs carry our record, what became of them since, and how the hosts stand, chooses
// who may come back, and reserves the first wave in the ledger. The number of its calls to vCenter does not
// depend on the number of VMs, except for one for each VM that a person names and that we do not own. It acts on nothing, and may be
// repeated.
func (a *Activities) PlanRestore(ctx context.Context, in PlanInput) (PlanResult, error) {
	stop := a.Beat(ctx)
	defer stop()
	p := &planning{Activities: a, in: in}
	if err := p.read(ctx); err != nil {
		return PlanResult{}, preempt.WhenEnded(ctx, err)
	}
	out, err := p.reserve(ctx)
	if err != nil {
		return PlanResult{}, preempt.WhenEnded(ctx, err)
	}
	a.Logger(ctx).Info("planned a restore", "cluster", in.Scope.String(), "returns", len(out.Returns.Returns), "left", len(out.Left))
	for _, s := range out.Left {
		if s.Reason == policy.NoEvidence {
			a.Logger(ctx).Warn("a VM that was preempted stays off", "vm", s.Name, "moref", s.Ref.Value, "reason", s.Reason, "detail", s.Detail)
		}
	}
	out.Left = out.Left[:min(len(out.Left), preempt.MaxSparedInFull)]
	if in.Reserve {
		out = firstWaves(out)
	}
	return out, nil
}

// planning is one plan of a restore in the making.
type planning struct {
	*Activities
	in           PlanInput
	snap         vsphere.Snapshot
	owned        []policy.Owned
	named        []vsphere.Ref
	facts        ledger.Facts
	conflicts    []vsphere.Ref
	activeAlarms []string
}

// read reads vCenter and the ledger.
func (p *planning) read(ctx context.Context) error {
	var err error
	req := ledger.FactsRequest{Owner: p.in.RestoreID, Scope: p.in.Scope.String(), Restore: true, Within: p.Within(ctx, p.VCenter, p.in.Scope)}
	if p.facts, err = p.Ledger.Facts(ctx, req); err != nil {
		return fmt.Errorf("ask the ledger for %s: %w", p.in.RestoreID, err)
	}
	p.activeAlarms = p.Activities.activeAlarms(ctx, p.facts.ActiveAlarms)
	var owned []vcenter.Owned
	err = p.Attempt(ctx, func() (err error) {
		if owned, err = p.VCenter.Owned(ctx, preemption.AttributeKey); err != nil {
			return err
		}
		p.snap, err = p.VCenter.Candidates(ctx, p.in.Tag, vcenter.Scope{Ref: p.in.Scope, Detail: true})
		return err
	})
	if err == nil {
		err = p.findNamed(ctx, owned)
	}
	if err != nil {
		return step.Typed(err)
	}
	for _, o := range owned {
		if record, preempted := preempt.RecordOf(o.Value); preempted {
			p.owned = append(p.owned, policy.Owned{
				Ref: o.Ref, Name: o.Name, PowerState: o.PowerState, InstanceUUID: o.InstanceUUID, Record: record,
			})
		}
	}
	return step.Typed(p.Attempt(ctx, func() error { return p.readEvents(ctx) }))
}

// findNamed looks up the VMs that a person names; those that carry our record cost no call.
func (p *planning) findNamed(ctx context.Context, owned []vcenter.Owned) error {
	p.named = p.in.Named
	if len(p.named) > 0 {
		return nil
	}
	for _, name := range p.in.VMs {
		var found []vsphere.Ref
		for _, o := range owned {
			if name == o.Name || name == o.Ref.Value || name == o.Ref.String() {
				found = append(found, o.Ref)
			}
		}
		if len(found) != 1 { // a path, a VM without our record, or several of the name
			ref, err := p.VCenter.FindVM(ctx, name)
			if err != nil {
				return err
			}
			found = []vsphere.Ref{ref}
		}
		p.named = append(p.named, found...)
	}
	return nil
}

// readEvents asks vCenter how the VMs went off and who touched them since. It looks back no further than to the
// oldest that may still come back.
func (p *planning) readEvents(ctx context.Context) error {
	oldest, margin := time.Now(), traceMargin(p.in.Policy)
	var refs []vsphere.Ref
	for _, o := range p.owned {
		limit := p.in.Policy.Restore.GiveUp.D()
		if o.Record == nil || limit > 0 && time.Since(o.Record.At) > limit+margin {
			continue
		}
		refs = append(refs, o.Ref)
		if o.Record.At.Before(oldest) {
			oldest = o.Record.At
		}
	}
	if err := p.awaitLatestEvents(ctx); err != nil {
		return err
	}
	off, err := p.VCenter.PowerOffEvidence(ctx, refs, oldest.Add(-margin))
	if err != nil {
		return err
	}
	touched, err := p.VCenter.TouchedSince(ctx, refs, oldest.Add(-margin))
	if err != nil {
		return err
	}
	for i := range p.owned {
		o := &p.owned[i]
		if ev := off[o.Ref]; ev.Event != "" {
			o.Off = &policy.Trace{Time: ev.Time, Event: ev.Event, User: preempt.Clip(ev.User), Ours: ev.Ours, Asked: ev.Asked, Before: ev.Before}
		}
		switch t, ok := touched[o.Ref]; {
		case ok && !t.Ours:
			o.Touched = &policy.Trace{Time: t.Time, Event: t.Event, User: preempt.Clip(t.User)}
		case ok && slices.Contains(poweredOnEvents, t.Event):
			o.Back = &policy.Trace{Time: t.Time, Event: t.Event, User: preempt.Clip(t.User), Ours: true}
		}
	}
	return nil
}

// awaitLatestEvents waits for the events of the VMs that went off a moment ago, which may come after the state.
func (p *planning) awaitLatestEvents(ctx context.Context) error {
	since := time.Now()
	var latest []vsphere.Ref
	for _, o := range p.owned {
		if !o.TurnedOff() || !p.VCenter.EventsLag(o.Record.At) {
			continue
		}
		latest = append(latest, o.Ref)
		if o.Record.At.Before(since) {
			since = o.Record.At
		}
	}
	if len(latest) == 0 {
		return nil
	}
	_, err := p.VCenter.AwaitEvidence(ctx, latest, since.Add(-clockMargin))
	return err
}

// traceMargin is how long before we saw a VM off its events may begin: our request to shut down came the grace period
// and the late watch before that, and vCenter's clock may differ from ours. The default's times count as well, for a
// person's restore may be under another policy than the preemption was.
func traceMargin(p policy.Policy) time.Duration {
	longest := time.Duration(0)
	for _, q := range []policy.Policy{p, policy.Default()} {
		for _, t := range q.Criticality.All() {
			longest = max(longest, t.GracePeriod.D()+q.LateWatch.D())
		}
	}
	return longest + clockMargin
}

// clockMargin is how much vCenter's clock may differ from ours.
const clockMargin = 2 * time.Hour

// choose computes the plan.
func (p *planning) choose() PlanResult {
	d := policy.ReturnDemand{
		Tag: p.in.Tag, Scope: p.in.Scope, Only: p.named, Done: p.in.Done, Self: p.Settings.Self,
		Reserved: slices.Clone(p.conflicts), Preempted: p.facts.Preempted, Warming: p.in.Warming,
	}
	for _, vm := range p.facts.Reserved {
		if ref, ok := vsphere.ParseRef(vm); ok {
			d.Reserved = append(d.Reserved, ref)
		}
	}
	return PlanResult{
		Returns: policy.ChooseReturns(p.snap, p.owned, d, p.in.Policy), ScopeName: p.snap.ScopeName, Named: p.named,
		ActiveRounds: p.facts.Active, ActiveAlarms: clipList(p.activeAlarms), PlannedAt: p.snap.Time,
	}
}

// maxLimits is how many limits are taken back at a time, so that what is handed over stays far below what one payload may hold.
const maxLimits = 500

// reserve chooses until the ledger grants the first wave.
func (p *planning) reserve(ctx context.Context) (PlanResult, error) {
	for range preempt.MaxReplans {
		out := p.choose()
		if len(out.Limits) > maxLimits && p.in.Reserve {
			out.Limits, out.MoreLimits = out.Limits[:maxLimits], true
		}
		if !p.in.Reserve || len(out.ActiveRounds) > 0 || len(out.ActiveAlarms) > 0 && !p.in.Person {
			return out, nil
		}
		req := ledger.ReserveRequest{Owner: p.in.RestoreID}
		for _, r := range out.Limits {
			req.VMs = append(req.VMs, r.Ref.String())
		}
		for _, r := range out.Returns.Returns {
			if r.Wave == 1 {
				req.VMs = append(req.VMs, r.Ref.String())
			}
		}
		slices.Sort(req.VMs)
		req.VMs = slices.Compact(req.VMs)
		got, err := p.Ledger.Reserve(ctx, req)
		if err != nil {
			return out, fmt.Errorf("reserve %d VMs for %s: %w", len(req.VMs), p.in.RestoreID, err)
		}
		if got.Granted {
			return out, nil
		}
		for _, c := range got.Conflicts {
			if ref, ok := vsphere.ParseRef(c); ok {
				p.conflicts = append(p.conflicts, ref)
			}
		}
	}
	return PlanResult{}, temporal.NewApplicationError(
		fmt.Sprintf("others reserved what %s was to restore %d times over; planning again", p.in.RestoreID, preempt.MaxReplans), preempt.ReservationFailed)
}

// ReleaseRestore gives back what a restore has reserved. It starts no cooldown.
func (a *Activities) ReleaseRestore(ctx context.Context, id string) error {
	_, err := a.Ledger.Reserve(ctx, ledger.ReserveRequest{Owner: id})
	return err
}
