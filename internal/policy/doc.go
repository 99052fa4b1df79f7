// Package policy decides whom to preempt: from a snapshot of the candidates, a demand, rules and the
// time it computes a plan with a reason for every candidate. It is pure: it reads no clock, touches
// nothing outside its arguments, and mutates none of them.
package policy

// The tag categories by which the owner of a VM has a say.
const (
	CategoryPriority = "preemption-priority" // a whole number, lower goes first
	CategoryGroup    = "preemption-group"    // application groups, of which budgets keep a part up
	CategoryProtect  = "preemption-protect"  // TagDoNotPreempt, or a duration since power-on such as 4h
	TagDoNotPreempt  = "do-not-preempt"
)
