// Package intake takes requests and alarm changes, and decides when a round or a restore runs.
package intake

import (
	"context"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Activities are the steps of an intake that reach outside.
type Activities struct {
	*preempt.Env
	VCenter VCenter
	Ledger  Ledger
}

// VCenter is what an intake needs of vCenter. It only reads.
type VCenter interface {
	Inventory
	Finder
	Catalogue
	Origin
}

// Inventory knows what a request names.
type Inventory interface {
	preempt.Clusters
	Candidates(ctx context.Context, tag string, scope vcenter.Scope) (vsphere.Snapshot, error)
}

// Finder finds what people name.
type Finder interface {
	FindVM(ctx context.Context, nameOrPathOrMoRef string) (vsphere.Ref, error)
	FindCluster(ctx context.Context, nameOrPathOrMoRef string) (vsphere.Ref, string, error)
	FindPlace(ctx context.Context, nameOrPathOrMoRef string) (vsphere.Ref, error)
	Datastore(ctx context.Context, nameOrPathOrMoRef string) (vsphere.Ref, error)
}

// Catalogue lists names, for the completion of a command line.
type Catalogue interface {
	VMNames(ctx context.Context) ([]string, error)
	ClusterNames(ctx context.Context) ([]string, error)
	DatastoreNames(ctx context.Context) ([]string, error)
}

// Origin reports whether an event is of this vCenter.
type Origin interface {
	Named(source string) bool
	Knows(ctx context.Context, e vcenter.AlarmEvent) (bool, error)
	Unlike(ctx context.Context, e vcenter.AlarmEvent) (string, error)
}

// Ledger admits rounds.
type Ledger interface {
	Admit(ctx context.Context, r ledger.AdmitRequest) (ledger.Admission, error)
	Raise(ctx context.Context, r ledger.RaiseRequest) error
	SetActive(ctx context.Context, r ledger.ActiveRequest) (ledger.ActiveAnswer, error)
}

// RegisterWorkflows adds the intake, and the workflows that a caller or an intake starts beside it, for a worker or a
// replay.
func RegisterWorkflows(r worker.WorkflowRegistry) {
	r.RegisterWorkflowWithOptions(Intake, workflow.RegisterOptions{Name: preemption.WorkflowName})
	r.RegisterWorkflowWithOptions(Plan, workflow.RegisterOptions{Name: preemptapi.PlanType})
	r.RegisterWorkflowWithOptions(HandoverIntake, workflow.RegisterOptions{Name: preemptapi.HandoverType})
	r.RegisterWorkflowWithOptions(Names, workflow.RegisterOptions{Name: preemptapi.NamesType})
}

// Register adds the workflows and their activities to a worker.
func Register(r worker.Registry, a *Activities) {
	RegisterWorkflows(r)
	r.RegisterActivityWithOptions(a.LookUpNames, activity.RegisterOptions{Name: "LookUpNames"})
	r.RegisterActivityWithOptions(a.AwaitIntakeEnd, activity.RegisterOptions{Name: "AwaitIntakeEnd"})
	r.RegisterActivityWithOptions(a.SucceedIntake, activity.RegisterOptions{Name: "SucceedIntake"})
	// Local activities.
	r.RegisterActivityWithOptions(a.HandOverIntake, activity.RegisterOptions{Name: "HandOverIntake"})
	r.RegisterActivityWithOptions(a.StartRestore, activity.RegisterOptions{Name: "StartRestore"})
	r.RegisterActivityWithOptions(a.HandOn, activity.RegisterOptions{Name: "HandOn"})
	r.RegisterActivityWithOptions(a.DecodeMessages, activity.RegisterOptions{Name: "DecodeMessages"})
	r.RegisterActivityWithOptions(a.StartRound, activity.RegisterOptions{Name: "StartRound"})
	r.RegisterActivityWithOptions(a.TellStanding, activity.RegisterOptions{Name: "TellStanding"})
	r.RegisterActivityWithOptions(a.RaiseRound, activity.RegisterOptions{Name: "RaiseRound"})
	r.RegisterActivityWithOptions(a.LookAtRound, activity.RegisterOptions{Name: "LookAtRound"})
	r.RegisterActivityWithOptions(a.SignalsAfterCancel, activity.RegisterOptions{Name: "SignalsAfterCancel"})
}
