package round

import (
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tally"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// count counts an outcome. What would have been done moves nothing.
func (r *round) count(o preemptapi.VMOutcome) {
	if _, ok := o.Outcome.Would(); ok {
		return
	}
	tally.Add(r.ctx, "preemption_evictions", map[string]string{"action": string(r.treatment().Action), "outcome": string(o.Outcome)})
}

// Units of what counts capacity.
const (
	hertzPerMHz = 1_000_000
	bytesPerMB  = 1 << 20
)

// countReclaimed counts the capacity that a VM frees which we acted on.
func (r *round) countReclaimed(o preemptapi.VMOutcome) {
	tags := map[string]string{"action": string(r.treatment().Action)}
	tally.AddSome(r.ctx, "preemption_reclaimed_cpu_hertz", tags, o.CPUMHz*hertzPerMHz)
	tally.AddSome(r.ctx, "preemption_reclaimed_memory_bytes", tags, o.MemoryMB*bytesPerMB)
}

// targets are those of a round, in the order of its plans. Each step costs what it brings, and one walk over all: a
// workflow task that searched for each of thousands would be taken for a deadlock.
type targets struct {
	order   []vsphere.Ref
	known   map[vsphere.Ref]bool
	decided map[vsphere.Ref]preemptapi.VMOutcome
	about   map[vsphere.Ref]preemptapi.PendingVM // what the plan says of them
}

func newTargets() targets {
	return targets{known: map[vsphere.Ref]bool{}, decided: map[vsphere.Ref]preemptapi.VMOutcome{}, about: map[vsphere.Ref]preemptapi.PendingVM{}}
}

// plan appends those that a plan has chosen.
func (s *targets) plan(ref vsphere.Ref) {
	if !s.known[ref] {
		s.known[ref] = true
		s.order = append(s.order, ref)
	}
}

// describe notes what a plan says of its targets, for people.
func (s *targets) describe(plan PlanResult) {
	for _, t := range plan.Targets {
		s.about[t.Ref] = preemptapi.PendingVM{
			Ref: t.Ref, Name: t.Name, Why: t.Why, CPUMHz: t.CPUMHz, MemoryMB: t.MemoryMB, Host: t.Host, Groups: plan.Groups[t.Ref.Value],
		}
	}
}

// pending returns what is known of targets that are not yet decided.
func (s *targets) pending(waiting []vsphere.Ref) (list []preemptapi.PendingVM) {
	for _, ref := range waiting {
		vm := s.about[ref]
		vm.Ref = ref
		list = append(list, vm)
	}
	return list
}

// forget takes those out that a new plan decides about.
func (s *targets) forget(list []ActTarget) {
	if len(list) == 0 {
		return
	}
	for _, t := range list {
		if _, decided := s.decided[t.Ref]; !decided { // else it is throttled, and was to go off
			delete(s.known, t.Ref)
		}
	}
	s.order = slices.DeleteFunc(s.order, func(ref vsphere.Ref) bool { return !s.known[ref] })
}

// decide records an outcome. It replaces what was known of the target before.
func (s *targets) decide(o preemptapi.VMOutcome) {
	s.plan(o.Ref)
	s.decided[o.Ref] = o
}

// lists returns the outcomes so far, and the targets that have none.
func (s *targets) lists() (outcomes []preemptapi.VMOutcome, waiting []vsphere.Ref) {
	outcomes = make([]preemptapi.VMOutcome, 0, len(s.decided))
	for _, ref := range s.order {
		if o, ok := s.decided[ref]; ok {
			o.Groups = s.about[ref].Groups
			outcomes = append(outcomes, o)
		} else {
			waiting = append(waiting, ref)
		}
	}
	return outcomes, waiting
}

// outcomeOf returns what became of a target; the zero outcome: not decided.
func (r *round) outcomeOf(ref vsphere.Ref) preemptapi.VMOutcome { return r.targets.decided[ref] }

// relist puts what is known of the targets into the result.
func (r *round) relist() {
	r.result.Targets, r.result.Waiting = r.targets.lists()
	r.result.Pending = r.targets.pending(r.result.Waiting)
	r.result.FreedCPUMHz, r.result.FreedMemMB = 0, 0
	for _, t := range r.result.Targets {
		if t.Outcome.Ours() {
			r.result.FreedCPUMHz += t.CPUMHz
			r.result.FreedMemMB += t.MemoryMB
		}
	}
}

// add records outcomes, all that came together at once.
func (r *round) add(outcomes ...preemptapi.VMOutcome) {
	if len(outcomes) == 0 {
		return
	}
	for _, o := range outcomes {
		was := r.outcomeOf(o.Ref)
		if was.Outcome.StaysOn() && !o.Outcome.Ours() {
			r.targets.decide(staysThrottled(was, o))
			continue
		}
		r.targets.decide(o)
		r.count(o)
		if o.Outcome.Ours() && !was.Outcome.Ours() {
			r.countReclaimed(o)
		}
	}
	r.relist()
	r.show()
}

func (r *round) spareAll(targets []policy.Target, reason policy.Explanation) {
	list := make([]preemptapi.VMOutcome, 0, len(targets))
	for _, t := range targets {
		list = append(list, preemptapi.VMOutcome{
			Ref: t.Ref, Name: t.Name, Outcome: action.Spared, Reason: reason, CPUMHz: t.CPUMHz, MemoryMB: t.MemoryMB, Host: t.Host, Why: t.Why,
		})
	}
	r.add(list...)
}

// Versions of the round: what a run under way has not done yet, it does the new way.
const versionParts = "many-targets-in-parts" // more than maxPart targets go to more than one activity

// maxPart is how many targets one activity takes: what it is given and what it answers stay far below what one payload
// may hold, and what it does ends within its time.
const maxPart = 500

// inParts reports whether so many go in parts: not where the run's history has them go together.
func (r *round) inParts(n int) bool {
	return n > maxPart && workflow.GetVersion(r.ctx, versionParts, workflow.DefaultVersion, 1) != workflow.DefaultVersion
}

// parts divides targets among activities.
func (r *round) parts(list []ActTarget) [][]ActTarget {
	if !r.inParts(len(list)) {
		return [][]ActTarget{list}
	}
	return slices.Collect(slices.Chunk(list, maxPart))
}

// maxTogether is how many bytes of the causing event the activities may carry that one workflow task starts: Temporal
// takes 4 MB of it.
const maxTogether = 1 << 20

// startApart lets the next of several activities start in a workflow task of its own, where the event that each carries is large.
func (r *round) startApart(ctx workflow.Context, parts int) {
	if parts > 1 && parts*len(r.in.Demand.Event) > maxTogether {
		// Its error is that ctx is cancelled, which the activities are told of themselves.
		_ = workflow.Sleep(ctx, 1)
	}
}
