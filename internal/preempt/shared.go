package preempt

import "github.com/vsphere-preemption/vsphere-preemption/internal/preempt/contract"

// What callers share with the workflows is defined in the contract package.
type (
	Demand      = contract.Demand
	Change      = contract.Change
	Rejection   = contract.Rejection
	Decision    = contract.Decision
	Response    = contract.Response
	VMOutcome   = contract.VMOutcome
	RoundResult = contract.RoundResult
	Level       = contract.Level
	Deferral    = contract.Deferral

	RestoreInput  = contract.RestoreInput
	RestoreChange = contract.RestoreChange
	RestoreResult = contract.RestoreResult
	RestoredVM    = contract.RestoredVM
)

// The names of the contract, see there.
const (
	RoundType           = contract.RoundType
	RoundStateQuery     = contract.RoundStateQuery
	PlanType            = contract.PlanType
	Started             = contract.Started
	Joined              = contract.Joined
	Deferred            = contract.Deferred
	Refused             = contract.Refused
	Duplicate           = contract.Duplicate
	Rejected            = contract.Rejected
	Failed              = contract.Failed
	RoundPlanning       = contract.RoundPlanning
	RoundActing         = contract.RoundActing
	RoundWaiting        = contract.RoundWaiting
	RoundNotified       = contract.RoundNotified
	RoundRehearsed      = contract.RoundRehearsed
	OutcomeSuspended    = contract.OutcomeSuspended
	ReasonRehearsed     = contract.ReasonRehearsed
	RoundReporting      = contract.RoundReporting
	RoundWatching       = contract.RoundWatching
	RoundCompleted      = contract.RoundCompleted
	RoundPartial        = contract.RoundPartial
	RoundFailed         = contract.RoundFailed
	RoundEmpty          = contract.RoundEmpty
	RoundWithdrawn      = contract.RoundWithdrawn
	RoundObserved       = contract.RoundObserved
	RoundPlanned        = contract.RoundPlanned
	OutcomePoweredOff   = contract.OutcomePoweredOff
	OutcomeShutDown     = contract.OutcomeShutDown
	OutcomeForced       = contract.OutcomeForced
	OutcomeAlreadyOff   = contract.OutcomeAlreadyOff
	OutcomeSpared       = contract.OutcomeSpared
	OutcomeFailed       = contract.OutcomeFailed
	OutcomeUnattributed = contract.OutcomeUnattributed
	ReasonWithdrawn     = contract.ReasonWithdrawn
	ReasonIgnored       = contract.ReasonIgnored
	ReasonNoTools       = contract.ReasonNoTools
	ReasonForcedNoTools = contract.ReasonForcedNoTools
	ReasonShutWithdrawn = contract.ReasonShutWithdrawn
)

// ResultOf returns a round's result from what waiting for it gave, see contract.ResultOf.
func ResultOf(err error, r RoundResult) (RoundResult, error) { return contract.ResultOf(err, r) }
