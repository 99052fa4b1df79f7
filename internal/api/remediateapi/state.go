package remediateapi

import "slices"

// State is the state of a remediation.
type State string

// The states of a remediation. Those in which one ends are each sent as a CloudEvent of its own type.
const (
	Working    State = "Working"    // in progress
	Planned    State = "Planned"    // decided, and only reported: the mode is recommend, or it is a dry run
	Applied    State = "Applied"    // done, and vCenter says so
	Deferred   State = "Deferred"   // to be done later: at the next power-off, or when what was in the way is gone
	Skipped    State = "Skipped"    // not to be done: nothing to change, opted out, in the cooldown, a duplicate
	Infeasible State = "Infeasible" // cannot be done, and trying again will not help
	AtLimit    State = "AtLimit"    // the VM is as large as it may be
	Failed     State = "Failed"
)

// States lists the states of a remediation.
func States() []State {
	return []State{Working, Planned, Applied, Deferred, Skipped, Infeasible, AtLimit, Failed}
}

// FinalStates lists the states in which a remediation ends.
func FinalStates() []State {
	return slices.DeleteFunc(States(), func(s State) bool { return !s.Final() })
}

// Final reports whether a remediation in this state has ended.
func (s State) Final() bool { return s != Working }

// EventType is the type of the CloudEvent that reports the state.
func (s State) EventType() string { return EventPrefix + string(s) + EventSuffix }
