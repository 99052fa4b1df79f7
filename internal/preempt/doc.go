// Package preempt holds what the three parts of a preemption share. The intake (package intake) takes requests and alarm
// changes, and decides when a round runs. A round (package round) plans, reserves, gives notice, evicts, verifies,
// annotates and reports. A restore (package restore) powers on again. Each has its workflow, its activities, and the
// interface of vCenter that these need. Here are the settings, the record on a VM, the reply, the options of activities,
// and what a cancellation or a stopping worker means.
package preempt
