// Package restore powers on again what was preempted, when the pressure has ended.
package restore

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Activities are the steps of a restore that reach outside.
type Activities struct {
	*preempt.Env
	VCenter VCenter
	Ledger  Ledger
}

// VCenter is what a restore needs of vCenter.
type VCenter interface {
	Inventory
	Power
	Limits
	Events
	Records
	Guests
}

// Inventory is where VMs may come back.
type Inventory interface {
	preempt.Clusters
	Candidates(ctx context.Context, tag string, scope vcenter.Scope) (vsphere.Snapshot, error)
	FindVM(ctx context.Context, nameOrPathOrMoRef string) (vsphere.Ref, error)
}

// Power turns VMs on, and waits until they are.
type Power interface {
	State(ctx context.Context, tag string, vms []vsphere.Ref) (map[vsphere.Ref]vsphere.VM, error)
	PowerOnMany(ctx context.Context, vms []vsphere.Ref) map[vsphere.Ref]vcenter.Started
	AwaitOn(ctx context.Context, waits []vcenter.Wait, report func(vm vsphere.Ref, r vcenter.WaitResult)) error
}

// Limits are the CPU limits of VMs.
type Limits interface {
	CPULimits(ctx context.Context, vms []vsphere.Ref) (map[vsphere.Ref]vcenter.CPULimit, error)
	SetCPULimit(ctx context.Context, vm vsphere.Ref, mhz int64, changeVersion string) error
}

// Events show who turned VMs off and on, and who touched them.
type Events interface {
	PowerOffEvidence(ctx context.Context, vms []vsphere.Ref, since time.Time) (map[vsphere.Ref]vcenter.Evidence, error)
	AwaitEvidence(ctx context.Context, vms []vsphere.Ref, since time.Time) (map[vsphere.Ref]vcenter.Evidence, error)
	TouchedSince(ctx context.Context, vms []vsphere.Ref, since time.Time) (map[vsphere.Ref]vcenter.Touch, error)
	AwaitEvents(ctx context.Context, look func() (complete bool, err error)) error
	EventsLag(since time.Time) bool
}

// Records are the custom attributes in which VMs carry what was done to them.
type Records interface {
	preempt.Records
	Annotate(ctx context.Context, vm vsphere.Ref, name, value string) error
	Annotations(ctx context.Context, vms []vsphere.Ref, name string) (map[vsphere.Ref]string, error)
}

// Guests may still carry a notice, which must be gone before they start.
type Guests interface {
	SetGuestInfos(ctx context.Context, key string, values map[vsphere.Ref]string, removed ...string) map[vsphere.Ref]error
	GuestInfo(ctx context.Context, vms []vsphere.Ref, key string) (map[vsphere.Ref]string, error)
}

// Ledger knows which rounds are under way, where alarms are active, and who holds which VM.
type Ledger interface {
	Facts(ctx context.Context, r ledger.FactsRequest) (ledger.Facts, error)
	Reserve(ctx context.Context, r ledger.ReserveRequest) (ledger.Reservation, error)
	SetActive(ctx context.Context, r ledger.ActiveRequest) (ledger.ActiveAnswer, error)
}

// RegisterWorkflows adds the workflow, for a worker or a replay.
func RegisterWorkflows(r worker.WorkflowRegistry) {
	r.RegisterWorkflowWithOptions(Restore, workflow.RegisterOptions{Name: preemptapi.RestoreType})
}

// Register adds the workflow and its activities to a worker.
func Register(r worker.Registry, a *Activities) {
	RegisterWorkflows(r)
	r.RegisterActivityWithOptions(a.PlanRestore, activity.RegisterOptions{Name: "PlanRestore"})
	r.RegisterActivityWithOptions(a.PowerOnVMs, activity.RegisterOptions{Name: "PowerOnVMs"})
	r.RegisterActivityWithOptions(a.LiftLimits, activity.RegisterOptions{Name: "LiftLimits"})
	// Local activities.
	r.RegisterActivityWithOptions(a.PrepareRestore, activity.RegisterOptions{Name: "PrepareRestore"})
	r.RegisterActivityWithOptions(a.ReleaseRestore, activity.RegisterOptions{Name: "ReleaseRestore"})
}
