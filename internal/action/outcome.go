package action

import "strings"

// Outcome is what became of a target, or in a plan what would become of it.
type Outcome string

// The outcomes of a target.
const (
	PoweredOff   Outcome = "powered_off"
	ShutDown     Outcome = "shut_down"
	Forced       Outcome = "forced"
	Suspended    Outcome = "suspended"
	Throttled    Outcome = "throttled" // it is on, with our CPU limit
	AlreadyOff   Outcome = "already_off"
	Spared       Outcome = "spared"
	Failed       Outcome = "failed"
	Unattributed Outcome = "off_unattributed"
	OnAgain      Outcome = "on_again" // we turned it off, and somebody powered it on again before it was seen off
)

// ours says of each outcome whether the round turned the VM off, or throttled it.
var ours = map[Outcome]bool{
	PoweredOff: true, ShutDown: true, Forced: true, Suspended: true, Throttled: true,
	AlreadyOff: false, Spared: false, Failed: false, Unattributed: false, OnAgain: false,
}

// Outcomes lists the outcomes, as metrics name them.
func Outcomes() []Outcome {
	return []Outcome{PoweredOff, ShutDown, Forced, Suspended, Throttled, AlreadyOff, Spared, Failed, Unattributed, OnAgain}
}

// Ours reports whether the round turned the VM off, or throttled it. An outcome that this version does not know is not ours.
func (o Outcome) Ours() bool { return ours[o] }

// StaysOn reports whether a VM that the round has acted on is on all the same.
func (o Outcome) StaysOn() bool { return o == Throttled }

// would begins the outcomes of a plan that is not carried out.
const would = "would_"

// Would is the outcome of a target of a plan that is not carried out.
func Would(a Action) Outcome { return would + Outcome(a) }

// Would returns the action of which the outcome says that it would be done; ok is false where something was done.
func (o Outcome) Would() (a Action, ok bool) {
	name, ok := strings.CutPrefix(string(o), would)
	return Action(name), ok
}

// Words says what became, or would become, of the target.
func (o Outcome) Words() string {
	if a, ok := o.Would(); ok {
		return a.Words()
	}
	return strings.ReplaceAll(string(o), "_", " ")
}

// ByEvent is the outcome that vCenter's event proves of a VM that went off by our doing; guest says that its guest did it.
func ByEvent(class string, guest bool) Outcome {
	switch {
	case class == Suspend.row().Event:
		return Suspended
	case class == Throttle.row().Event:
		return Throttled
	case guest:
		return ShutDown
	}
	return PoweredOff
}
