// Package policy decides which VMs to preempt. From a snapshot of the candidates, a demand, rules and the
// time it computes a plan with a reason for every candidate. It is pure: it reads no clock, touches
// nothing outside its arguments, and mutates none of them.
package policy

// The tag categories with which the owner of a VM controls preemption.
const (
	CategoryPriority = "preemption-priority" // a whole number; lower ones are turned off first
	CategoryGroup    = "preemption-group"    // application groups, for group budgets
	CategoryProtect  = "preemption-protect"  // TagDoNotPreempt, or a duration since power-on such as 4h
	TagDoNotPreempt  = "do-not-preempt"
)
