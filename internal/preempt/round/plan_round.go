package round

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// PlanInput asks for a round's plan.
type PlanInput struct {
	Demand  preemptapi.Demand `json:"demand"`
	RoundID string            `json:"roundID"`
	Reserve bool              `json:"reserve"` // false: only look
	// Held are the targets of an earlier plan of this round that it has decided about or acted on: they
	// are not chosen again. Already of them count towards the limit.
	Held    []vsphere.Ref `json:"held,omitempty"`
	Already int           `json:"already,omitempty"`
	Repeat  bool          `json:"repeat,omitempty"` // a repetition for an alarm that is still active: it measures first
	// Throttle says how far VMs are to be throttled; nil: they are to be turned off.
	Throttle *policy.Throttle `json:"throttle,omitempty"`
	// Climb says that this is a further step of a ladder: it is only taken if usage can be measured. Only are the VMs of the step
	// before, with which it goes on; empty: any.
	Climb bool          `json:"climb,omitempty"`
	Only  []vsphere.Ref `json:"only,omitempty"`
	// Going are those of them that this round has turned off or asked to shut down.
	Going []policy.Target `json:"going,omitempty"`
}

// PlanResult names the VMs to evict, and says why the others are spared.
type PlanResult struct {
	Targets     []policy.Target       `json:"targets"`
	Spared      []policy.Spared       `json:"spared"`
	SparedCount map[policy.Reason]int `json:"sparedCount,omitempty"`
	ScopeName   string                `json:"scopeName,omitempty"`
	PlannedAt   time.Time             `json:"plannedAt"`            // by the worker's clock
	Over        string                `json:"over,omitempty"`       // why there is no plan: the alarm has fallen
	Silenced    string                `json:"silenced,omitempty"`   // why there is no plan although the alarm is active
	Foreign     bool                  `json:"foreign,omitempty"`    // there is none, as the event is of another vCenter, see Over
	Unmeasured  bool                  `json:"unmeasured,omitempty"` // neither policy nor alarm says which usage is too high

	Usage     []policy.Usage    `json:"usage,omitempty"`
	Shortfall policy.Resources  `json:"shortfall,omitzero"`
	Covered   policy.Resources  `json:"covered,omitzero"`
	Partial   bool              `json:"partial,omitempty"`
	Next      []policy.Next     `json:"next,omitempty"`
	Pools     []int             `json:"pools,omitempty"` // see policy.Plan
	Rooms     []policy.RoomPlan `json:"rooms,omitempty"`
	// Basis is what the plan was made from, so that another policy can be tried on it later; nil where there
	// were too many candidates to keep.
	Basis *preemptapi.Basis `json:"basis,omitempty"`
	// Groups are the application groups of the targets, by MoRef; those of a target in none are left out.
	Groups map[string][]string `json:"groups,omitempty"`
}

const (
	maxBasis   = 300 // candidates kept with a plan
	manyTagged = 500 // of more VMs with the tag, only those in the scope are read
)

// PlanRound takes a snapshot of the candidates, chooses, and reserves the targets in the ledger. It acts
// on nothing, and may be repeated.
func (a *Activities) PlanRound(ctx context.Context, in PlanInput) (PlanResult, error) {
	stop := a.Beat(ctx)
	defer stop()
	d := in.Demand
	p := &planning{Activities: a, in: in}
	looked := p.read(ctx)
	if looked == nil {
		looked = p.readLimits(ctx)
	}
	if none, ok := p.nothingToDo(); ok {
		return none, nil
	}
	if looked != nil {
		return PlanResult{}, preempt.WhenEnded(ctx, looked)
	}
	if none, ok := p.unmeasured(); ok {
		return none, nil
	}
	plan, err := p.reserve(ctx)
	if err != nil {
		return PlanResult{}, preempt.WhenEnded(ctx, err)
	}
	held := make(map[vsphere.Ref]bool, len(in.Held))
	for _, ref := range in.Held {
		held[ref] = true
	}
	plan.Spared = slices.DeleteFunc(plan.Spared, func(s policy.Spared) bool { return held[s.Ref] })
	out := PlanResult{
		Targets: plan.Targets, ScopeName: p.snap.ScopeName, PlannedAt: p.snap.Time,
		Usage: plan.Usage, Shortfall: plan.Shortfall, Covered: plan.Covered, Partial: plan.Partial, Pools: plan.Pools, Rooms: plan.Rooms,
		Unmeasured: !p.policy().Target.Set() && !p.alarm.threshold.Set(),
	}
	out.Next = slices.DeleteFunc(plan.Next, func(n policy.Next) bool { return held[n.Ref] })
	out.Spared, out.SparedCount = bounded(plan.Spared)
	out.Groups = groupsOf(p.snap.VMs, plan.Targets)
	if len(p.snap.VMs)+len(p.snap.Elsewhere) <= maxBasis {
		out.Basis = &preemptapi.Basis{Snapshot: p.snap, Demand: p.demand()}
	}
	p.measure(ctx, plan)
	a.Logger(ctx).Info("planned", "alarm", d.Alarm(), "cluster", d.Scope.String(), "targets", len(plan.Targets),
		"spared", len(plan.Spared), "attempt", activity.GetInfo(ctx).Attempt)
	return Compact(out), nil
}

// planning is one plan in the making.
type planning struct {
	*Activities
	in        PlanInput
	snap      vsphere.Snapshot
	facts     ledger.Facts
	conflicts []vsphere.Ref
	only      vsphere.Ref // the one VM to evict; zero: any
	rooms     []policy.Room
	cluster   vsphere.Ref // of the VMs that rooms are for; zero: the demand's scope
	alarm     alarmState
}

// nothingToDo is the plan of a request that a person has paused, or whose alarm is outdated, silenced or of another vCenter. A round under way goes on, although somebody
// acknowledges its alarm.
func (p *planning) nothingToDo() (PlanResult, bool) {
	s := p.alarm
	none := PlanResult{Targets: []policy.Target{}, Spared: []policy.Spared{}, Over: s.outdated}
	paused := p.in.Reserve && p.facts.Paused != ""
	switch {
	case paused && len(p.in.Held) == 0:
		none.Over, none.Silenced = "", p.facts.Paused
	case paused: // what has begun is brought to its end
		none.Over = ""
	case s.foreign != "":
		none.Over, none.Foreign = s.foreign, true
	case s.outdated != "":
	case s.silenced != "" && p.in.Demand.Silenced != preemption.WhenSilencedAct && len(p.in.Held) == 0:
		none.Silenced = s.silenced
	default:
		return none, false
	}
	return none, true
}

// read reads vCenter and the ledger, side by side.
func (p *planning) read(ctx context.Context) error {
	d := p.in.Demand
	var facts, stands error
	var wg sync.WaitGroup
	wg.Go(func() { facts = p.readLedger(ctx) })
	wg.Go(func() {
		stands = p.Attempt(ctx, func() (err error) {
			p.alarm, err = p.Activities.alarmNow(ctx, d)
			return err
		})
	})
	err := p.Attempt(ctx, func() (err error) {
		p.snap, err = p.VCenter.Candidates(ctx, d.Tag, vcenter.Scope{Ref: d.Scope, Detail: true, Narrow: manyTagged})
		return err
	})
	wg.Wait()
	switch {
	case stands != nil:
		return step.Typed(stands)
	case err != nil:
		return step.Typed(err)
	case facts != nil:
		return facts
	case d.VM != "":
		return p.narrowToOneVM(ctx)
	case len(d.Rooms) > 0:
		return p.readRooms(ctx)
	}
	return nil
}

// readLedger reads what the ledger knows of other rounds and of earlier ones.
func (p *planning) readLedger(ctx context.Context) (err error) {
	req := ledger.FactsRequest{Owner: p.in.RoundID, Scope: p.in.Demand.Scope.String(), Alarm: p.in.Demand.Alarm()} // of one named VM: everything counts
	for _, room := range p.in.Demand.Rooms {
		req.NotHeldFor = append(req.NotHeldFor, room.RequestID)
	}
	if !p.in.Reserve { // it was not admitted
		req.Within = p.Within(ctx, p.VCenter, p.in.Demand.Scope)
	}
	for _, t := range p.in.Going {
		req.UnderWay = append(req.UnderWay, t.Ref.String())
	}
	if p.facts, err = p.Ledger.Facts(ctx, req); err != nil {
		return fmt.Errorf("ask the ledger for a plan of %s: %w", p.in.RoundID, err)
	}
	return nil
}

// narrowToOneVM narrows the snapshot down to the one VM that the demand names.
func (p *planning) narrowToOneVM(ctx context.Context) error {
	d := p.in.Demand
	var ref vsphere.Ref
	err := p.Attempt(ctx, func() (err error) {
		ref, err = p.VCenter.FindVM(ctx, d.VM)
		return err
	})
	if err != nil {
		return step.Typed(err)
	}
	p.only = ref
	p.snap.Others, p.snap.Elsewhere = nil, nil
	p.snap.VMs = slices.DeleteFunc(p.snap.VMs, func(vm vsphere.VM) bool { return vm.Ref != ref })
	if len(p.snap.VMs) == 0 {
		return temporal.NewApplicationErrorWithOptions(
			fmt.Sprintf("VM %s does not carry the tag %q: only VMs whose owners tagged them may go", p.called(ctx, ref), d.Tag), preemptapi.NotTagged,
			temporal.ApplicationErrorOptions{NonRetryable: true, Category: temporal.ApplicationErrorCategoryBenign}) // an answer to a person
	}
	return nil
}

// called is what people call the named VM: its name and MoRef, or as it was named where its name cannot be read now.
func (p *planning) called(ctx context.Context, ref vsphere.Ref) string {
	read, err := p.VCenter.State(ctx, "", []vsphere.Ref{ref})
	if name := read[ref].Name; err == nil && name != "" {
		return fmt.Sprintf("%q (%s)", preempt.Clip(name), ref.Value)
	}
	return fmt.Sprintf("%q", preempt.Clip(p.in.Demand.VM))
}

// demand is what the policy is asked.
func (p *planning) demand() policy.Demand {
	d := p.in.Demand
	out := policy.Demand{
		Tag: d.Tag, Criticality: string(d.Criticality), Scope: d.Scope, Self: p.Settings.Self,
		Rooms:   p.rooms,
		Already: p.in.Already, Reserved: append(slices.Clone(p.in.Held), p.conflicts...), Preempted: p.facts.Preempted,
	}
	if !p.cluster.Zero() {
		out.Scope = p.cluster
	}
	if d.Change != nil {
		if ref, ok := vsphere.ParseRef(d.Change.Entity); ok && ref.Type == vsphere.TypeHost {
			out.Host = ref
		}
	}
	return countedOnce(withFacts(p.throttled(out), p.facts), p.in.Only)
}

// withFacts adds what the ledger knows to what the policy is asked.
func withFacts(d policy.Demand, f ledger.Facts) policy.Demand {
	for _, vm := range f.Reserved {
		if ref, ok := vsphere.ParseRef(vm); ok {
			d.Reserved = append(d.Reserved, ref)
		}
	}
	for _, e := range f.Evictions {
		if ref, ok := vsphere.ParseRef(e.VM); ok {
			d.Evictions = append(d.Evictions, policy.Eviction{VM: ref, Time: e.Time})
		}
	}
	for _, c := range f.Credits {
		if ref, ok := vsphere.ParseRef(c.Host); ok {
			vm, _ := vsphere.ParseRef(c.VM)
			d.Credits = append(d.Credits, policy.Credit{VM: vm, StaysOn: c.StaysOn, At: c.At, Host: ref, CPUMHz: c.CPUMHz, MemoryMB: c.MemoryMB})
		}
	}
	for _, o := range f.Spares {
		if ref, ok := vsphere.ParseRef(o.VM); ok {
			d.Spares = append(d.Spares, policy.Spare{VM: ref, Why: o.Words()})
		}
	}
	for _, r := range f.HeldRooms {
		if host, ok := vsphere.ParseRef(r.Host); ok {
			d.HeldRooms = append(d.HeldRooms, policy.HeldRoom{
				Host: host, CPUMHz: r.CPUMHz, MemoryMB: r.MemoryMB, CPUReservedMHz: r.CPUReservedMHz, MemoryReservedMB: r.MemoryReservedMB,
			})
		}
	}
	return d
}

// policy is the demand's policy, with two exceptions. A VM that was named is evicted whatever the shortfall. A
// repetition without a target utilisation takes the alarm's threshold as its target, if that can be read: no VM is
// evicted while usage is below it.
func (p *planning) policy() policy.Policy {
	pol := p.in.Demand.Policy
	if p.in.Repeat && !pol.Target.Set() {
		pol.Target = p.alarm.threshold
	}
	if !p.only.Zero() {
		pol.Target = policy.Goal{}
	}
	return pol
}

// reserve chooses, and chooses again where others have changed what the plan rests on, until the ledger
// grants the targets.
func (p *planning) reserve(ctx context.Context) (policy.Plan, error) {
	for range preempt.MaxReplans {
		plan := policy.Choose(p.snap, p.demand(), p.policy())
		if !p.in.Reserve {
			return plan, nil
		}
		req := ledger.ReserveRequest{Owner: p.in.RoundID, Loads: map[string]ledger.Load{}, Seen: p.facts.Version, Scope: p.in.Demand.Key()}
		if len(p.in.Demand.Policy.Budgets) > 0 {
			req.Scope = "" // groups span scopes
		}
		for _, ref := range p.in.Held {
			req.VMs = append(req.VMs, ref.String())
		}
		for _, t := range slices.Concat(p.in.Going, plan.Targets) {
			req.VMs = append(req.VMs, t.Ref.String())
			req.Loads[t.Ref.String()] = ledger.Load{Host: t.Host.String(), CPUMHz: t.CPUMHz, MemoryMB: t.MemoryMB}
		}
		slices.Sort(req.VMs)
		req.VMs = slices.Compact(req.VMs)
		got, err := p.Ledger.Reserve(ctx, req)
		if err != nil {
			return plan, fmt.Errorf("reserve %d VMs for %s: %w", len(req.VMs), p.in.RoundID, err)
		}
		if got.Granted {
			return plan, nil
		}
		for _, c := range got.Conflicts {
			if ref, ok := vsphere.ParseRef(c); ok {
				p.conflicts = append(p.conflicts, ref)
			}
		}
		if got.Stale {
			if err := p.readLedger(ctx); err != nil {
				return plan, err
			}
		}
	}
	return policy.Plan{}, temporal.NewApplicationError(
		fmt.Sprintf("other rounds changed what the plan of %s rests on %d times over; planning again", p.in.RoundID, preempt.MaxReplans), preempt.ReservationFailed)
}

// groupsOf returns the application groups of targets, by MoRef.
func groupsOf(vms []vsphere.VM, targets []policy.Target) map[string][]string {
	chosen := make(map[vsphere.Ref]bool, len(targets))
	for _, t := range targets {
		chosen[t.Ref] = true
	}
	groups := map[string][]string{}
	for _, vm := range vms {
		if names := vm.Tags[policy.CategoryGroup]; chosen[vm.Ref] && len(names) > 0 {
			groups[vm.Ref.Value] = slices.Sorted(slices.Values(names))
		}
	}
	return groups
}

// bounded keeps up to maxSparedInFull candidates one by one; of more, all are counted by reason.
func bounded(spared []policy.Spared) ([]policy.Spared, map[policy.Reason]int) {
	counts := map[policy.Reason]int{}
	for _, s := range spared {
		counts[s.Reason]++
	}
	return spared[:min(len(spared), preempt.MaxSparedInFull)], counts
}
