package round

import (
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"
)

// versionShared marks the rounds whose evictions are shared among workers.
const versionShared = "parts-side-by-side"

// How evictions are shared among workers.
const (
	leastShare = 50 // VMs of a part: each part costs some ten calls besides those for its VMs
	mostShares = 40 // parts of one priority, so that what each carries besides its VMs does not fill the history
	inHand     = 20 // parts side by side: where chance decides who takes a part, of two workers each is seldom without one
	// longPart is how long a part may take before it holds up no other: tasks may be slow, and a worker may be dead.
	longPart = 5 * time.Second
)

// sharesOf divides targets into parts of one priority, in their order. It returns nil where there is but one part, where so
// many priorities follow each other that most parts would wait for another, and where the event that each part carries is
// large.
func sharesOf(list []ActTarget, event int) (parts [][]ActTarget) {
	size := max(leastShare, (len(list)+mostShares-1)/mostShares)
	priorities := 0
	for last := -1; len(list) > 0; {
		n := 1
		for n < min(size, len(list)) && list[n].Priority == list[0].Priority {
			n++
		}
		if last < 0 || parts[last][0].Priority != list[0].Priority {
			priorities++
		}
		parts = append(parts, list[:n])
		list = list[n:]
		last++
	}
	if len(parts) < 2*priorities || len(parts)*event > maxTogether {
		return nil
	}
	return parts
}

// shares are the parts of an eviction that workers share; none: it is not shared. What only looks is not: each part would
// read vCenter's events again.
func (r *round) shares(in ActInput) [][]ActTarget {
	if in.OnlyLook {
		return nil
	}
	parts := sharesOf(in.Targets, len(r.in.Demand.Event))
	if len(parts) == 0 || workflow.GetVersion(r.ctx, versionShared, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return nil
	}
	return parts
}

// share is one part of an eviction.
type share struct {
	in    ActInput
	res   ActResult
	began time.Time
	ended bool
	taken bool // its outcomes are recorded
}

// sharing is an eviction whose parts are side by side.
type sharing struct {
	*round
	ctx     workflow.Context // of the parts: a withdrawal cancels it
	summary string
	begun   []*share // in the plan's order
}

// evictShared evicts parts side by side, whichever workers take them. They begin in the plan's order, and those of a
// priority when those of the lower ones have ended. It returns the targets that were not begun, for a withdrawal.
func (r *round) evictShared(in ActInput, parts [][]ActTarget, summary string) (all ActResult, rest []ActTarget) {
	ctx, cancel := workflow.WithCancel(r.ctx)
	s := &sharing{round: r, ctx: ctx, summary: summary}
	r.interrupt = cancel
	for len(parts) > 0 && !r.withdrawn {
		if wait := s.hold(parts[0][0].Priority); wait > 0 {
			// Its error is that of a context which is never cancelled.
			_, _ = workflow.AwaitWithTimeout(r.ctx, wait, func() bool { return s.news() || r.withdrawn })
		} else {
			in.Targets, parts = parts[0], parts[1:]
			s.begin(in)
		}
		s.take()
	}
	for s.open() {
		_ = workflow.Await(r.ctx, s.news) // r.ctx is never cancelled
		s.take()
	}
	r.interrupt = nil
	for _, p := range s.begun {
		all.append(p.res)
	}
	return all, slices.Concat(parts...)
}

// hold is how long the next part of a priority waits at most for one that is in hand to end; 0: it may begin. A part that
// takes long holds up nobody.
func (s *sharing) hold(priority int) time.Duration {
	now, n, lower := workflow.Now(s.ctx), 0, false
	var first time.Time
	for _, p := range s.begun {
		if p.ended || now.Sub(p.began) >= longPart {
			continue
		}
		if n == 0 {
			first = p.began
		}
		n++
		lower = lower || p.in.Targets[0].Priority != priority
	}
	if n < inHand && !lower {
		return 0
	}
	return first.Add(longPart).Sub(now)
}

// begin hands a part to whichever worker takes it. Budgets count all that is in hand before it as evicted: so parts that
// do not know of each other never pass one together, in whichever order they are carried out and repeated.
func (s *sharing) begin(in ActInput) {
	if in.Detail && len(in.Policy.Budgets) > 0 {
		in.UnderWay = s.underWay(s.inHand())
	}
	p := &share{in: in, began: workflow.Now(s.ctx)}
	s.begun = append(s.begun, p)
	workflow.Go(s.ctx, func(ctx workflow.Context) {
		act := s.round.in.Timing.WithOptions(ctx, s.round.in.Timing.Outage, s.summary)
		options := workflow.GetActivityOptions(act)
		options.DisableEagerExecution = true // it would keep the parts with the worker that has the workflow
		act = workflow.WithActivityOptions(act, options)
		var a *Activities
		var res ActResult
		err := workflow.ExecuteActivity(act, a.EvictVMs, in).Get(act, &res)
		own, _ := workflow.NewDisconnectedContext(ctx)
		p.res = s.answered(own, in, res, err)
		p.ended = true
	})
}

// inHand are the targets of the parts that have not ended, and the guests that were asked to shut down by the others.
func (s *sharing) inHand() (list []ActTarget) {
	for _, p := range s.begun {
		if p.taken {
			list = append(list, p.res.Pending...)
		} else {
			list = append(list, p.in.Targets...)
		}
	}
	return list
}

// news reports whether a part has ended.
func (s *sharing) news() bool {
	return slices.ContainsFunc(s.begun, func(p *share) bool { return p.ended && !p.taken })
}

// open reports whether a part is in hand.
func (s *sharing) open() bool {
	return slices.ContainsFunc(s.begun, func(p *share) bool { return !p.taken })
}

// take records the outcomes of the parts that have ended.
func (s *sharing) take() {
	for _, p := range s.begun {
		if p.ended && !p.taken {
			p.taken = true
			s.add(p.res.Outcomes...)
		}
	}
	s.record()
}
