package round

import (
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
)

// The signals between an intake and its rounds.
const (
	ChangeSignal = preemptapi.RoundChangeSignal // carries Change, from the intake to its round
	DoneSignal   = "RoundDone"                  // carries RoundResult, from a round to its intake
)

// Input starts a round.
type Input struct {
	Demand    preemptapi.Demand `json:"demand"`
	IntakeID  string            `json:"intakeID"` // "": nobody to tell
	IntakeRun time.Time         `json:"intakeStarted"`
	Timing    preempt.Timing    `json:"timing"`
	Sequence  int               `json:"sequence,omitempty"` // 2 and up: a repetition for an alarm that is still active
	Attrs     bool              `json:"attrs,omitempty"`    // the search attributes are registered
}

// Change tells a running round of a change of urgency.
type Change = preemptapi.RoundChange
