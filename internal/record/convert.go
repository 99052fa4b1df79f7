package record

import (
	"cmp"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// ofRound writes what a round did, or has done so far, into an entry.
func ofRound(e *Entry, r preemptapi.RoundResult) {
	e.State, e.Reason, e.Alarm, e.Criticality = string(r.State), r.Reason, r.Alarm, string(r.Criticality)
	e.Tag, e.Policy, e.PolicyHash, e.Scope, e.ScopeName = r.Tag, r.PolicyName, r.PolicyHash, r.Scope, r.ScopeName
	e.FreedCPUMHz, e.FreedMemMB, e.Deadline, e.Usage = r.FreedCPUMHz, r.FreedMemMB, r.Deadline, r.Usage
	e.Spared, e.Next = sparedBy(r), r.Next
	if e.Alarm == "" && len(r.Rooms) > 0 {
		e.By = "room for another VM"
	}
	e.Cluster, e.ClusterName = clusterOf(r.Scope, r.ScopeName, r.Usage)
	for _, t := range r.Targets {
		e.VMs = append(e.VMs, ofTarget(t))
	}
	about := make(map[vsphere.Ref]preemptapi.PendingVM, len(r.Pending))
	for _, p := range r.Pending {
		about[p.Ref] = p
	}
	words := waitingWords(r.State)
	for _, ref := range r.Waiting {
		p := about[ref] // of very many, and of older workers, nothing is known
		e.VMs = append(e.VMs, VM{
			Ref: ref, Name: p.Name, Done: Waiting, Outcome: "waiting", Words: words, Why: p.Why, CPUMHz: p.CPUMHz, MemoryMB: p.MemoryMB,
			Host: p.Host, Groups: p.Groups,
		})
	}
}

// waitingWords says how targets stand that have no outcome yet.
func waitingWords(s preemptapi.RoundState) string {
	switch s {
	case preemptapi.RoundNotified:
		return "has its notice"
	case preemptapi.RoundWaiting:
		return "asked to shut down"
	case preemptapi.RoundActing:
		return "is being turned off"
	}
	return "is to go"
}

// sparedBy returns how many candidates a round left as they were.
func sparedBy(r preemptapi.RoundResult) (n int) {
	for _, count := range r.SparedCount {
		n += count
	}
	return max(n, len(r.Spared))
}

// clusterOf returns the cluster of a scope: itself, or of a host the one that was measured beside it.
func clusterOf(scope vsphere.Ref, name string, usage []policy.Usage) (vsphere.Ref, string) {
	if scope.Type == vsphere.TypeCluster {
		return scope, name
	}
	var found policy.Usage
	for _, u := range usage {
		if u.Scope.Type != vsphere.TypeCluster {
			continue
		}
		if !found.Scope.Zero() {
			return vsphere.Ref{}, "" // of everything: several clusters were measured
		}
		found = u
	}
	return found.Scope, found.Name
}

func ofTarget(t preemptapi.VMOutcome) VM {
	v := VM{
		Ref: t.Ref, Name: t.Name, Done: doneBy(t.Outcome), Outcome: string(t.Outcome), Words: t.Outcome.Words(), Reason: t.Reason.Words(), Why: t.Why,
		Notice: t.Notice, Forced: t.Forced, OffAt: t.OffAt, CPUMHz: t.CPUMHz, MemoryMB: t.MemoryMB, Host: t.Host, Groups: t.Groups,
		Annotated: t.Annotated, AnnotationError: t.AnnotationError,
	}
	if _, would := t.Outcome.Would(); would {
		v.Words = "would " + v.Words
	}
	return v
}

func doneBy(o action.Outcome) Done {
	if _, would := o.Would(); would {
		return Considered
	}
	switch {
	case o.Ours() && o.StaysOn():
		return Throttled
	case o.Ours():
		return TurnedOff
	case o == action.Failed:
		return FailedToDo
	case o == action.OnAgain:
		return FoundOn
	}
	return Spared
}

// ofRestore writes what a restore did, or has done so far, into an entry.
func ofRestore(e *Entry, r preemptapi.RestoreResult) {
	e.State, e.Reason, e.Tag, e.Policy, e.PolicyHash = string(r.State), r.Reason, r.Tag, r.PolicyName, r.PolicyHash
	e.Scope, e.ScopeName, e.Deadline, e.Spared = r.Scope, r.ScopeName, r.Until, len(r.Left)
	if e.By = r.By; r.By != preemptapi.ByHand {
		e.Alarm, e.By = r.By, ""
	}
	e.UsageFirst = r.Before
	if e.Usage = r.After; len(e.Usage) == 0 {
		e.Usage = r.Before
	}
	if !r.StartedAt.IsZero() {
		e.StartedAt = r.StartedAt // of its first run
	}
	e.Cluster, e.ClusterName = clusterOf(r.Scope, r.ScopeName, e.Usage)
	for _, vm := range r.VMs {
		e.VMs = append(e.VMs, ofRestored(vm))
	}
	for _, s := range r.Left {
		e.VMs = append(e.VMs, ofLeft(s))
	}
}

func ofRestored(vm preemptapi.RestoredVM) VM {
	v := VM{
		Ref: vm.Ref, Name: vm.Name, Outcome: string(vm.Outcome), Words: vm.Outcome.Words(), Reason: vm.Reason.Words(), OffAt: vm.OffSince, OnAt: vm.OnAt,
		CPUMHz: vm.CPUMHz, MemoryMB: vm.MemoryMB, Annotated: vm.Annotated, AnnotationError: vm.AnnotationError,
	}
	switch vm.Outcome {
	case preemptapi.OutcomeRestored:
		v.Done = Returned
		if vm.StaysOff {
			v.Done, v.Words = LeftOff, "has its own CPU limit again, and is off"
		}
	case preemptapi.OutcomeNotRestored:
		v.Done = FailedToDo
	case preemptapi.OutcomeLeft:
		v.Done = leftFor(vm.Reason.Reason)
	default:
		v.Done = Considered
	}
	return v
}

func ofLeft(s policy.Spared) VM {
	return VM{
		Ref: s.Ref, Name: s.Name, Done: leftFor(s.Reason), Outcome: string(preemptapi.OutcomeLeft), Words: preemptapi.OutcomeLeft.Words(),
		Reason: s.Explanation().Words(),
	}
}

// leftFor says of a VM that a restore left whether that shows that it is no longer off because of us.
func leftFor(r policy.Reason) Done {
	switch r {
	case policy.AlreadyOn, policy.TouchedByOwner, policy.NotOurs, policy.Gone, policy.OtherInstance, policy.Template:
		return FoundOn
	}
	return LeftOff
}

// ofRooms writes what a workflow that makes room did into an entry. Its rounds are entries of their own, so that
// its VMs are those for which room was made.
func ofRooms(e *Entry, r preemptapi.RoomResult) {
	for _, room := range r.Rooms {
		v := VM{
			Ref: room.VM, Name: room.For, Done: Considered, Outcome: string(room.State), Words: string(room.State), Reason: room.Reason, Host: room.Host,
		}
		if room.State == preemptapi.RoomFailed {
			v.Done = FailedToDo
		}
		if room.State == preemptapi.RoomMade || room.State == preemptapi.RoomRunning {
			v.OnAt = room.EndedAt
		}
		e.VMs = append(e.VMs, v)
		e.State, e.Reason, e.Deadline = string(room.State), room.Reason, room.HeldUntil
		e.By = cmp.Or(room.Rule, "a person")
		e.Cluster, e.ClusterName = room.Cluster, room.ClusterName
		e.Scope, e.ScopeName = room.Cluster, room.ClusterName
	}
	if len(r.Rooms) == 0 && len(r.Rejected) > 0 {
		last := r.Rejected[len(r.Rejected)-1]
		e.State, e.Reason = roomRejected, last.Reason
	}
}

// ofReport writes the decisions of a remediation workflow into an entry, which has the state of the last.
func ofReport(e *Entry, r remediateapi.Report) { ofDecisions(e, r.Decisions) }

// ofReconciled writes what a reconciliation did into an entry.
func ofReconciled(e *Entry, r remediateapi.ReconcileResult) {
	ofDecisions(e, r.Decisions)
	e.State, e.Reason, e.By = string(r.State), r.Reason, "reconciliation"
}

func ofDecisions(e *Entry, all []remediateapi.Decision) {
	for _, d := range all {
		done := Considered
		switch d.State {
		case remediateapi.Applied:
			done = Remedied
		case remediateapi.Failed:
			done = FailedToDo
		}
		e.VMs = append(e.VMs, VM{
			Ref: d.VM, Name: d.Name, Done: done, Outcome: string(d.State), Words: d.Kind + ": " + string(d.State), Reason: d.Reason,
			Annotated: d.Annotated, AnnotationError: d.AnnotationError,
		})
		e.State, e.Reason, e.Deadline = string(d.State), d.Reason, d.Until
		e.Cluster = d.Cluster
		e.Alarm, e.By = d.Cause.Alarm, cmp.Or(d.Cause.Rule, d.Cause.Event)
	}
}
