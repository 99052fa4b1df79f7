// Package tell says what people are told of preemption, and in which words: one message for each phase of a round, a
// restore, a request for room or a remediation. It is pure: internal/delivery hands messages over, internal/channel
// knows the addresses.
package tell

import "slices"

// Event is an occasion on which people are told something.
type Event string

// The events.
const (
	Notice      Event = "notice"      // VMs will go, and a person can still step in
	Preempted   Event = "preempted"   // VMs went, or would have gone where the policy only observes
	Withdrawn   Event = "withdrawn"   // a round was called off
	Restored    Event = "restored"    // VMs came back
	MadeRoom    Event = "madeRoom"    // room was made on a host
	Remediation Event = "remediation" // a VM was resized, reconfigured or moved
	Failed      Event = "failed"      // something was not done, or not all of it
	Rejected    Event = "rejected"    // a request, or a change of an alarm, was not taken
	Paused      Event = "paused"      // preemption was paused, or goes on
)

// Events lists all of them.
func Events() []Event {
	return []Event{Notice, Preempted, Withdrawn, Restored, MadeRoom, Remediation, Failed, Rejected, Paused}
}

// Known reports whether it is one of them.
func (e Event) Known() bool { return slices.Contains(Events(), e) }
