package round

import (
	"context"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// check reads tags and state of all targets afresh, settles those that need no action (any more), and
// returns the others.
func (e *eviction) check(todo []ActTarget) (ready []ActTarget, err error) {
	now, held, err := e.stateOf(todo)
	if err != nil {
		return nil, err
	}
	if err := e.keepLimits(todo, now); err != nil {
		return nil, err
	}
	var off, back []ActTarget
	for _, t := range todo {
		vm, ok := now[t.Ref]
		switch reason := policy.Recheck(vm, e.in.Scope); {
		case !ok:
			e.decideAll([]ActTarget{t}, action.Spared, policy.Because(policy.Gone))
		case vm.PowerState != vsphere.PoweredOn:
			off = append(off, t)
		case e.onAgain[t.Ref]:
			back = append(back, t)
		case e.overdue[t.Ref] != "":
			e.decideAll([]ActTarget{t}, action.Failed, policy.InWords(e.overdue[t.Ref]))
		case reason == policy.PendingOperation && (e.Repeated || e.Sent):
			e.busy[t.Ref] = true
			ready = append(ready, t)
		case reason != "":
			e.decideAll([]ActTarget{t}, action.Spared, policy.Because(reason))
		case held[t.Ref].Reason != "":
			e.decideAll([]ActTarget{t}, action.Spared, held[t.Ref].Explanation())
		default:
			t.ToolsRunning, t.starting = vm.ToolsRunning, vm.ToolsStarting
			ready = append(ready, t)
		}
	}
	if err := e.attributeOnAgain(back); err != nil {
		return nil, err
	}
	return ready, e.attributeOff(off)
}

// stateOf reads how the targets stand, and where details are asked for also who is held back by now.
func (e *eviction) stateOf(todo []ActTarget) (now map[vsphere.Ref]vsphere.VM, held map[vsphere.Ref]policy.Spared, err error) {
	if !e.in.Detail {
		err = e.Attempt(e.Ctx, func() (err error) {
			now, err = e.VCenter.Recheck(e.Ctx, e.in.Tag, refs(todo))
			return err
		})
		if err != nil {
			return nil, nil, err
		}
		held = map[vsphere.Ref]policy.Spared{}
		_, err = e.heldUp(e.fresh(todo), held, true)
		return now, held, err
	}
	var snap vsphere.Snapshot
	err = e.Attempt(e.Ctx, func() (err error) {
		snap, err = e.VCenter.RecheckDetail(e.Ctx, e.in.Tag, refs(todo), vcenter.Scope{})
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	now = make(map[vsphere.Ref]vsphere.VM, len(snap.VMs))
	for _, vm := range snap.VMs {
		now[vm.Ref] = vm
	}
	held, err = e.heldBack(snap, todo)
	return now, held, err
}

// heldBack reports which targets protection, windows and budgets hold back by now, until something was sent.
func (e *eviction) heldBack(snap vsphere.Snapshot, todo []ActTarget) (map[vsphere.Ref]policy.Spared, error) {
	held := map[vsphere.Ref]policy.Spared{}
	fresh := e.fresh(todo)
	counted := len(e.in.Policy.Budgets) > 0 || e.in.Policy.Protect.MaxPreemptionsPerDay > 0
	facts, err := e.heldUp(fresh, held, !counted)
	if err != nil || len(fresh) == 0 {
		return held, err
	}
	d := policy.Demand{Tag: e.in.Tag, Scope: e.in.Scope, Self: e.Settings.Self, Pools: e.in.Pools}
	if counted {
		d.Preempted = facts.Preempted
		d = withFacts(d, facts)
		for _, vm := range e.in.UnderWay { // on as it may be, it is about to go
			if ref, ok := vsphere.ParseRef(vm); ok {
				d.Reserved = append(d.Reserved, ref)
			}
		}
	}
	if e.in.Climb {
		d = countedOnce(d, fresh)
	}
	for _, s := range policy.RecheckAll(snap, d, e.in.Policy, fresh) {
		if _, known := held[s.Ref]; !known {
			held[s.Ref] = s
		}
	}
	return held, nil
}

// fresh are the targets to which nothing was sent yet; none once something was.
func (e *eviction) fresh(todo []ActTarget) (fresh []vsphere.Ref) {
	if e.Sent || e.in.OnlyLook {
		return nil
	}
	for _, t := range todo {
		if t.SentAt.IsZero() {
			fresh = append(fresh, t.Ref)
		}
	}
	return fresh
}

// answersWithin is how long the ledger may take to say who is spared. Nobody is acted on meanwhile, and what asked asks again.
const answersWithin = 30 * time.Second

// heldUp adds to held which of the targets a person spares by now, or all of them where preemption is paused. It returns what the
// ledger knows; brief: of pauses and spares alone, for the parts of a round each ask.
func (e *eviction) heldUp(fresh []vsphere.Ref, held map[vsphere.Ref]policy.Spared, brief bool) (facts ledger.Facts, err error) {
	if len(fresh) == 0 {
		return facts, nil
	}
	ctx, cancel := context.WithTimeout(e.Ctx, answersWithin)
	defer cancel()
	req := ledger.FactsRequest{Owner: e.in.RoundID, Scope: e.in.Scope.String(), Alarm: e.in.Alarm, Brief: brief}
	if !brief {
		req.UnderWay = e.in.UnderWay
	}
	facts, err = e.Ledger.Facts(ctx, req)
	if err != nil {
		return facts, &vcenter.Error{Op: "ask the ledger who is spared of", Object: e.in.RoundID, Kind: vcenter.Unavailable, Err: err}
	}
	spares := map[string]ledger.Spare{}
	for _, o := range facts.Spares {
		spares[o.VM] = o
	}
	for _, ref := range fresh {
		o, spared := spares[ref.String()]
		switch {
		case facts.Paused != "":
			held[ref] = policy.Spared{Ref: ref, Reason: policy.Paused, Detail: facts.Paused}
		case spared:
			held[ref] = policy.Spared{Ref: ref, Reason: policy.SparedForNow, Detail: o.Words()}
		}
	}
	return facts, nil
}
