package preemptapi

import "strings"

// IntakeState is the state of an intake.
type IntakeState string

// The states of an intake.
const (
	IntakeIdle      IntakeState = "idle"
	IntakeRunning   IntakeState = "running"  // a round is in progress
	IntakeDeferred  IntakeState = "deferred" // a request waits for its time
	IntakeFailed    IntakeState = "failed"   // the last round failed
	IntakeCompleted IntakeState = "completed"
)

// IntakeStates lists the states of an intake.
func IntakeStates() []IntakeState {
	return []IntakeState{IntakeIdle, IntakeRunning, IntakeDeferred, IntakeFailed, IntakeCompleted}
}

// Verdict is what an intake decided about a request.
type Verdict string

// The verdicts of a Decision.
const (
	Started   Verdict = "started"
	Joined    Verdict = "joined"    // a running round was told of the higher criticality
	Deferred  Verdict = "deferred"  // planned anew at Until if the alarm is still active
	Refused   Verdict = "refused"   // a person's request in the cooldown or beside a running round
	Duplicate Verdict = "duplicate" // acted on before
	Rejected  Verdict = "rejected"  // not a valid request
	HandedOn  Verdict = "handed_on" // its event is of the vCenter that another task queue serves
	Failed    Verdict = "failed"    // the round could not be started
)

// Verdicts lists the verdicts.
func Verdicts() []Verdict {
	return []Verdict{Started, Joined, Deferred, Refused, Duplicate, Rejected, HandedOn, Failed}
}

// RoundState is the state of a round.
type RoundState string

// The states of a round.
const (
	RoundPlanning  RoundState = "planning"
	RoundActing    RoundState = "acting"
	RoundNotified  RoundState = "notified"      // guests have their notice and its time runs
	RoundWaiting   RoundState = "waiting"       // for guests to shut down
	RoundBetween   RoundState = "between_steps" // a step of a ladder is done, and its time runs
	RoundReporting RoundState = "reporting"     // everything acted on, replies in progress
	RoundWatching  RoundState = "watching"      // watches for guests that ignored their shutdown
	RoundCompleted RoundState = "completed"
	RoundPartial   RoundState = "partial" // some VMs failed
	RoundFailed    RoundState = "failed"  // nothing could be planned, or every VM failed
	RoundEmpty     RoundState = "empty"   // nothing was eligible
	RoundWithdrawn RoundState = "withdrawn"
	RoundObserved  RoundState = "observed"  // the policy only observes
	RoundPlanned   RoundState = "planned"   // a dry run
	RoundHeld      RoundState = "held"      // a person has acknowledged the alarm, or disabled alarm actions
	RoundRehearsed RoundState = "rehearsed" // a notice was given and taken back, nothing else
)

// roundStates are the states of a round in their order: which are left when all VMs were acted on, which end it, and what
// people read besides the state.
var roundStates = []struct {
	state          RoundState
	settled, final bool
	note           string
}{
	{state: RoundPlanning},
	{state: RoundActing},
	{state: RoundNotified},
	{state: RoundWaiting},
	{state: RoundBetween, note: "the next step is taken if the shortfall lasts"},
	{state: RoundReporting, settled: true},
	{state: RoundWatching, settled: true},
	{state: RoundCompleted, settled: true, final: true},
	{state: RoundPartial, settled: true, final: true},
	{state: RoundFailed, settled: true, final: true},
	{state: RoundEmpty, settled: true, final: true},
	{state: RoundWithdrawn, settled: true, final: true},
	{state: RoundObserved, settled: true, final: true, note: "nothing was touched"},
	{state: RoundPlanned, settled: true, final: true},
	{state: RoundHeld, settled: true, final: true},
	{state: RoundRehearsed, settled: true, final: true, note: "the notice was given and withdrawn, nothing else"},
}

// RoundStates lists the states of a round.
func RoundStates() (all []RoundState) {
	for _, row := range roundStates {
		all = append(all, row.state)
	}
	return all
}

// FinalRoundStates lists the states in which a round ends.
func FinalRoundStates() (all []RoundState) {
	for _, row := range roundStates {
		if row.final {
			all = append(all, row.state)
		}
	}
	return all
}

// Settled reports whether a round in this state has acted on everything. One of a later version's states counts as such.
func (s RoundState) Settled() bool {
	for _, row := range roundStates {
		if row.state == s {
			return row.settled
		}
	}
	return true
}

// Words returns the state, with an explanation if it needs one.
func (s RoundState) Words() string {
	for _, row := range roundStates {
		if row.state == s && row.note != "" {
			return string(s) + ": " + row.note
		}
	}
	return string(s)
}

// RestoreState is the state of a restore.
type RestoreState string

// The states of a restore.
const (
	RestoreSettling  RestoreState = "settling"  // the pressure has ended not long enough ago
	RestoreRestoring RestoreState = "restoring" // VMs are chosen and powered on
	RestoreWaiting   RestoreState = "waiting"   // for the next measure, for room, or for a round to end
	RestoreStopped   RestoreState = "stopped"   // the alarm rose, or it was cancelled
	RestoreCompleted RestoreState = "completed"
	RestorePartial   RestoreState = "partial"  // some VMs failed
	RestoreRefused   RestoreState = "refused"  // a round is in progress in the scope
	RestoreObserved  RestoreState = "observed" // the policy only observes
	RestorePlanned   RestoreState = "planned"  // a dry run
	RestoreFailed    RestoreState = "failed"   // nothing could be planned
)

// RestoreStates lists the states of a restore.
func RestoreStates() []RestoreState {
	return append([]RestoreState{RestoreSettling, RestoreRestoring, RestoreWaiting}, FinalRestoreStates()...)
}

// FinalRestoreStates lists the states in which a restore ends.
func FinalRestoreStates() []RestoreState {
	return []RestoreState{RestoreStopped, RestoreCompleted, RestorePartial, RestoreRefused, RestoreObserved, RestorePlanned, RestoreFailed}
}

// RestoreOutcome is what became of a VM of a restore, or in a plan what would become of it.
type RestoreOutcome string

// The outcomes of a VM of a restore.
const (
	OutcomeRestored     RestoreOutcome = "restored"
	OutcomeLeft         RestoreOutcome = "left"   // not powered on by us: its reason says why
	OutcomeNotRestored  RestoreOutcome = "failed" // vCenter refused, or did not say in time that it is on
	OutcomeWouldPowerOn RestoreOutcome = "would_powerOn"
	OutcomeWouldLift    RestoreOutcome = "would_unthrottle"
)

var restoreOutcomeWords = map[RestoreOutcome]string{
	OutcomeRestored: "restored", OutcomeLeft: "left", OutcomeNotRestored: "failed", OutcomeWouldPowerOn: "would power on", OutcomeWouldLift: "would get its CPU limit back",
}

// RestoreOutcomes lists the outcomes of a VM of a restore.
func RestoreOutcomes() []RestoreOutcome {
	return append(RestoreTried(), OutcomeWouldPowerOn, OutcomeWouldLift)
}

// RestoreTried lists the outcomes of a VM that a restore tried to power on.
func RestoreTried() []RestoreOutcome {
	return []RestoreOutcome{OutcomeRestored, OutcomeLeft, OutcomeNotRestored}
}

// Words says what became, or would become, of the VM. An outcome that this version does not know is shown as it is.
func (o RestoreOutcome) Words() string {
	if words, ok := restoreOutcomeWords[o]; ok {
		return words
	}
	return strings.ReplaceAll(string(o), "_", " ")
}
