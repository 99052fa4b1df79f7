// Package round carries out one plan: it plans, reserves, gives notice, evicts, verifies, annotates and reports.
package round

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Activities are the steps of a round that reach outside.
type Activities struct {
	*preempt.Env
	VCenter VCenter
	Ledger  Ledger

	turns turns
}

// VCenter is what a round needs of vCenter.
type VCenter interface {
	Inventory
	Alarms
	Power
	Limits
	State
	Events
	Records
	Guests
}

// Inventory is what a plan chooses from.
type Inventory interface {
	preempt.Clusters
	Candidates(ctx context.Context, tag string, scope vcenter.Scope) (vsphere.Snapshot, error)
	FindVM(ctx context.Context, nameOrPathOrMoRef string) (vsphere.Ref, error)
	Room(ctx context.Context, s *vsphere.Snapshot, askers []vsphere.Ref) ([]vcenter.Asker, error)
}

// Alarms tell whether a request is still due.
type Alarms interface {
	Foreign(ctx context.Context, e vcenter.AlarmEvent) (string, error)
	CurrentAlarm(ctx context.Context, alarm vsphere.Ref, name string, entity vsphere.Ref) (vcenter.CurrentAlarm, error)
	TriggeredAlarms(ctx context.Context) (states, unseen []vcenter.AlarmState, err error)
}

// Power turns VMs off, and waits until they are.
type Power interface {
	Cut(ctx context.Context, what action.Action, vm vsphere.Ref) (task vsphere.Ref, err error)
	ShutdownGuest(ctx context.Context, vm vsphere.Ref) error
	AwaitOff(ctx context.Context, waits []vcenter.Wait, report func(vm vsphere.Ref, r vcenter.WaitResult)) error
}

// Limits are the CPU limits of VMs.
type Limits interface {
	CPULimits(ctx context.Context, vms []vsphere.Ref) (map[vsphere.Ref]vcenter.CPULimit, error)
	SetCPULimit(ctx context.Context, vm vsphere.Ref, mhz int64, changeVersion string) error
}

// State is how VMs are at the moment of acting.
type State interface {
	Recheck(ctx context.Context, tag string, vms []vsphere.Ref) (map[vsphere.Ref]vsphere.VM, error)
	RecheckDetail(ctx context.Context, tag string, vms []vsphere.Ref, scope vcenter.Scope) (vsphere.Snapshot, error)
	State(ctx context.Context, tag string, vms []vsphere.Ref) (map[vsphere.Ref]vsphere.VM, error)
}

// Events show who turned VMs off, and who turned them on again.
type Events interface {
	AwaitEvidence(ctx context.Context, vms []vsphere.Ref, since time.Time) (map[vsphere.Ref]vcenter.Evidence, error)
	PoweredOnAgain(ctx context.Context, vms []vsphere.Ref, since time.Time) (map[vsphere.Ref]vcenter.Touch, error)
	AwaitEvents(ctx context.Context, look func() (complete bool, err error)) error
}

// Records are the custom attributes in which VMs carry what was done to them.
type Records interface {
	Annotate(ctx context.Context, vm vsphere.Ref, name, value string) error
	Annotations(ctx context.Context, vms []vsphere.Ref, name string) (map[vsphere.Ref]string, error)
}

// Guests are told before they are acted upon, and may answer.
type Guests interface {
	SetGuestInfos(ctx context.Context, key string, values map[vsphere.Ref]string, removed ...string) map[vsphere.Ref]error
	GuestInfo(ctx context.Context, vms []vsphere.Ref, key string) (map[vsphere.Ref]string, error)
}

// Ledger knows what other rounds hold and have done.
type Ledger interface {
	Facts(ctx context.Context, r ledger.FactsRequest) (ledger.Facts, error)
	Reserve(ctx context.Context, r ledger.ReserveRequest) (ledger.Reservation, error)
	Evicted(ctx context.Context, r ledger.EvictedRequest) error
	Complete(ctx context.Context, r ledger.CompleteRequest) error
}

// RegisterWorkflows adds the workflow, for a worker or a replay.
func RegisterWorkflows(r worker.WorkflowRegistry) {
	r.RegisterWorkflowWithOptions(Round, workflow.RegisterOptions{Name: preemptapi.RoundType})
}

// Register adds the workflow and its activities to a worker.
func Register(r worker.Registry, a *Activities) {
	RegisterWorkflows(r)
	r.RegisterActivityWithOptions(a.PlanRound, activity.RegisterOptions{Name: "PlanRound"})
	r.RegisterActivityWithOptions(a.EvictVMs, activity.RegisterOptions{Name: "EvictVMs"})
	r.RegisterActivityWithOptions(a.AwaitVMs, activity.RegisterOptions{Name: "AwaitVMs"})
	r.RegisterActivityWithOptions(a.AnnotateVMs, activity.RegisterOptions{Name: "AnnotateVMs"})
	r.RegisterActivityWithOptions(a.GiveNotice, activity.RegisterOptions{Name: "GiveNotice"})
	r.RegisterActivityWithOptions(a.AwaitReplies, activity.RegisterOptions{Name: "AwaitReplies"})
	// Local activities.
	r.RegisterActivityWithOptions(a.RecordEvictions, activity.RegisterOptions{Name: "RecordEvictions"})
	r.RegisterActivityWithOptions(a.CompleteRound, activity.RegisterOptions{Name: "CompleteRound"})
}
