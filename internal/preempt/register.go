package preempt

import (
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
)

// RegisterWorkflows adds the preemption workflows and the ledger, for a worker or a replay.
func RegisterWorkflows(r worker.WorkflowRegistry) {
	r.RegisterWorkflowWithOptions(Intake, workflow.RegisterOptions{Name: preemption.WorkflowName})
	r.RegisterWorkflowWithOptions(Round, workflow.RegisterOptions{Name: preemptapi.RoundType})
	r.RegisterWorkflowWithOptions(Plan, workflow.RegisterOptions{Name: preemptapi.PlanType})
	r.RegisterWorkflowWithOptions(HandoverIntake, workflow.RegisterOptions{Name: preemptapi.HandoverType})
	r.RegisterWorkflowWithOptions(Names, workflow.RegisterOptions{Name: preemptapi.NamesType})
	r.RegisterWorkflowWithOptions(Restore, workflow.RegisterOptions{Name: preemptapi.RestoreType})
	r.RegisterWorkflowWithOptions(ledger.Ledger, workflow.RegisterOptions{Name: ledger.WorkflowType})
}

// Register adds the workflows and their activities to a worker.
func Register(r worker.Registry, a *Activities) {
	RegisterWorkflows(r)
	r.RegisterActivityWithOptions(a.PlanRound, activity.RegisterOptions{Name: "PlanRound"})
	r.RegisterActivityWithOptions(a.LookUpNames, activity.RegisterOptions{Name: "LookUpNames"})
	r.RegisterActivityWithOptions(a.EvictVMs, activity.RegisterOptions{Name: "EvictVMs"})
	r.RegisterActivityWithOptions(a.AwaitVMs, activity.RegisterOptions{Name: "AwaitVMs"})
	r.RegisterActivityWithOptions(a.GiveNotice, activity.RegisterOptions{Name: "GiveNotice"})
	r.RegisterActivityWithOptions(a.AwaitReplies, activity.RegisterOptions{Name: "AwaitReplies"})
	r.RegisterActivityWithOptions(a.SendPreemptedEvent, activity.RegisterOptions{Name: "SendPreemptedEvent"})
	r.RegisterActivityWithOptions(a.PlanRestore, activity.RegisterOptions{Name: "PlanRestore"})
	r.RegisterActivityWithOptions(a.PowerOnVMs, activity.RegisterOptions{Name: "PowerOnVMs"})
	r.RegisterActivityWithOptions(a.AwaitIntakeEnd, activity.RegisterOptions{Name: "AwaitIntakeEnd"})
	r.RegisterActivityWithOptions(a.SucceedIntake, activity.RegisterOptions{Name: "SucceedIntake"})
	// Local activities.
	r.RegisterActivityWithOptions(a.HandOverIntake, activity.RegisterOptions{Name: "HandOverIntake"})
	r.RegisterActivityWithOptions(a.PrepareRestore, activity.RegisterOptions{Name: "PrepareRestore"})
	r.RegisterActivityWithOptions(a.StartRestore, activity.RegisterOptions{Name: "StartRestore"})
	r.RegisterActivityWithOptions(a.ReleaseRestore, activity.RegisterOptions{Name: "ReleaseRestore"})
	r.RegisterActivityWithOptions(a.HandOn, activity.RegisterOptions{Name: "HandOn"})
	r.RegisterActivityWithOptions(a.DecodeMessages, activity.RegisterOptions{Name: "DecodeMessages"})
	r.RegisterActivityWithOptions(a.StartRound, activity.RegisterOptions{Name: "StartRound"})
	r.RegisterActivityWithOptions(a.TellStanding, activity.RegisterOptions{Name: "TellStanding"})
	r.RegisterActivityWithOptions(a.RaiseRound, activity.RegisterOptions{Name: "RaiseRound"})
	r.RegisterActivityWithOptions(a.RecordEvictions, activity.RegisterOptions{Name: "RecordEvictions"})
	r.RegisterActivityWithOptions(a.CompleteRound, activity.RegisterOptions{Name: "CompleteRound"})
	r.RegisterActivityWithOptions(a.LookAtRound, activity.RegisterOptions{Name: "LookAtRound"})
	r.RegisterActivityWithOptions(a.SignalsAfterCancel, activity.RegisterOptions{Name: "SignalsAfterCancel"})
	owners := &ledger.Activities{Client: a.Temporal}
	r.RegisterActivityWithOptions(owners.ClosedOwners, activity.RegisterOptions{Name: "ClosedOwners"})
}
