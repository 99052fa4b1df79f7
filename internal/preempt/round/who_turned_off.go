package round

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// attribution is what an activity of a round knows when it decides who turned VMs off.
type attribution struct {
	roundID       string
	since         time.Time     // where evidence begins in vCenter's events
	began         time.Time     // when this round can have acted first on a VM that it sent no guest shutdown
	watched       bool          // it looked on from the guest shutdown on, and did nothing else
	late          bool          // the VMs are no longer reserved for this round: others may have taken them
	shutdownLasts time.Duration // how long a guest shutdown explains that a VM goes off; zero: as long as we look on
}

// verdict says who turned a VM off.
type verdict struct {
	outcome action.Outcome // of a VM that is not ours; "": it is
	reason  string
	cut     bool // our own account cut the power, rather than the guest having shut down
	at      time.Time
}

// whoTurnedOff decides for each VM that is off whether this round may claim it. It is the one place that decides so, for every
// activity that claims: vCenter's events are the evidence, for which it waits as they may come after the state; another
// round's claim (its attribute, its reservation or its evictions in the ledger) comes before ours, and somebody else's
// account before both. Its error is an outage: ask again.
func (a *Activities) whoTurnedOff(ctx context.Context, c attribution, off []ActTarget) (map[vsphere.Ref]verdict, error) {
	found, err := a.evidence(ctx, off, c.since)
	if vcenter.KindOf(err).Outage() {
		return nil, err
	}
	taken, takenErr := a.takenByOthers(ctx, c, off)
	if takenErr != nil {
		return nil, takenErr
	}
	out := make(map[vsphere.Ref]verdict, len(off))
	for _, t := range off {
		out[t.Ref] = c.decide(t, found[t.Ref], taken[t.Ref], err)
	}
	return out, nil
}

// decide decides about one VM by the evidence, which err says could not be read. That we asked a guest to shut down says
// nothing of who turned it off. But a VM that we asked, that went off in its time, and of which no event says otherwise,
// is ours.
func (c attribution) decide(t ActTarget, ev vcenter.Evidence, taken bool, err error) verdict {
	asked := !t.Unasked && (c.watched || !t.SentAt.IsZero())
	if ev.Event != "" {
		return c.decideByEvent(ev, taken, asked)
	}
	switch {
	case taken:
		return verdict{outcome: action.AlreadyOff, reason: turnedOffLater}
	case asked && !c.late: // it is held for us since
		return verdict{at: time.Now()}
	case err != nil:
		return verdict{outcome: action.Unattributed, reason: err.Error()}
	case asked && c.watched, !ev.Asked.IsZero() && c.explains(ev.Asked, time.Now()):
		return verdict{at: time.Now()}
	}
	return verdict{outcome: action.Unattributed}
}

const turnedOffLater = "a later round turned it off"

// decideByEvent decides about a VM of which vCenter has the event that it went off. asked says that we asked its guest.
func (c attribution) decideByEvent(ev vcenter.Evidence, taken, asked bool) verdict {
	switch {
	case ev.User != "" && !ev.Ours:
		return verdict{outcome: action.AlreadyOff, reason: offBy(ev)}
	case taken:
		return verdict{outcome: action.AlreadyOff, reason: turnedOffLater}
	case ev.Ours && (ev.User != "" || c.explains(ev.Asked, ev.Time)):
		return verdict{cut: ev.User != "" && !c.watched, at: ev.Time}
	case asked && !c.late: // it is held for us since
		return verdict{at: time.Now()}
	case asked:
		return verdict{outcome: action.AlreadyOff, reason: "went off later, not by our guest shutdown"}
	}
	return verdict{outcome: action.AlreadyOff, reason: offBy(ev)}
}

// explains reports whether a guest shutdown of that time explains that a VM is off then.
func (c attribution) explains(asked, off time.Time) bool {
	return c.shutdownLasts == 0 || off.Sub(asked) <= c.shutdownLasts
}

// takenByOthers reports which VMs another round has claimed since this one acted on them. While they are reserved for
// us and we look on, nobody can.
func (a *Activities) takenByOthers(ctx context.Context, c attribution, off []ActTarget) (map[vsphere.Ref]bool, error) {
	taken := map[vsphere.Ref]bool{}
	if c.watched && !c.late {
		return taken, nil
	}
	if c.late {
		evicted, err := a.evictedByOthers(ctx, c, off)
		if err != nil {
			return nil, err
		}
		taken = evicted
	}
	var values map[vsphere.Ref]string
	err := a.Attempt(ctx, func() (err error) {
		values, err = a.VCenter.Annotations(ctx, refs(off), preemption.AttributeKey)
		return err
	})
	if vcenter.KindOf(err).Outage() {
		return nil, err
	}
	if err != nil {
		a.Logger(ctx).Warn("the attributes of VMs that went off could not be read", "reason", err)
	}
	for _, t := range off {
		var attr preempt.Attribute
		if json.Unmarshal([]byte(values[t.Ref]), &attr) == nil && attr.RoundID != "" && attr.RoundID != c.roundID {
			taken[t.Ref] = taken[t.Ref] || attr.PreemptedAt.After(c.actedOn(t))
		}
	}
	return taken, nil
}

// actedOn is when this round can have acted first on the VM.
func (c attribution) actedOn(t ActTarget) time.Time {
	if t.SentAt.IsZero() {
		return c.began
	}
	return t.SentAt
}

// evictedByOthers asks the ledger who else evicted the VMs. Where another holds one now, both have seen it go off: it
// waits until that other has decided, which it says in the ledger and the attribute.
func (a *Activities) evictedByOthers(ctx context.Context, c attribution, off []ActTarget) (map[vsphere.Ref]bool, error) {
	const op = "ask the ledger about the VMs of"
	for {
		facts, err := a.Ledger.Facts(ctx, ledger.FactsRequest{Owner: c.roundID})
		if err != nil {
			return nil, &vcenter.Error{Op: op, Object: c.roundID, Kind: vcenter.Unavailable, Err: err}
		}
		held := slices.ContainsFunc(off, func(t ActTarget) bool { return slices.Contains(facts.Reserved, t.Ref.String()) })
		if !held {
			return evictedSince(facts.Evictions, c, off), nil
		}
		if !clock.Sleep(ctx, max(a.Settings.Timing.Retry, time.Second)) {
			return nil, &vcenter.Error{Op: op, Object: c.roundID, Kind: vcenter.Unavailable, Err: context.Cause(ctx)}
		}
	}
}

// evictedSince reports which of the VMs were evicted since this round acted on them: not by this one, which decides only now.
func evictedSince(evictions []ledger.Eviction, c attribution, off []ActTarget) map[vsphere.Ref]bool {
	last := map[string]time.Time{}
	for _, e := range evictions {
		if e.Time.After(last[e.VM]) {
			last[e.VM] = e.Time
		}
	}
	taken := map[vsphere.Ref]bool{}
	for _, t := range off {
		taken[t.Ref] = last[t.Ref.String()].After(c.actedOn(t))
	}
	return taken
}
