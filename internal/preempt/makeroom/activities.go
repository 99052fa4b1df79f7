package makeroom

import (
	"context"
	"encoding/json"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/intake"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Activities are the steps of making room that reach outside.
type Activities struct {
	*preempt.Env
	VCenter VCenter
	Ledger  Ledger
	// Decode validates a RoomRequest as an intake validates what it is asked.
	Decode func(raw json.RawMessage) (intake.RoomDemand, error)
}

// VCenter is what making room needs of vCenter, besides what its rounds need.
type VCenter interface {
	Named(source string) bool
	FindVM(ctx context.Context, nameOrPathOrMoRef string) (vsphere.Ref, error)
	Fallen(ctx context.Context, tag string, cluster vsphere.Ref) ([]vsphere.Ref, error)
	Askers(ctx context.Context, vms []vsphere.Ref, categories ...string) ([]vcenter.Asker, error)
	State(ctx context.Context, tag string, vms []vsphere.Ref) (map[vsphere.Ref]vsphere.VM, error)
	PowerOnAt(ctx context.Context, vm, host vsphere.Ref) (task vsphere.Ref, err error)
	AwaitOn(ctx context.Context, waits []vcenter.Wait, report func(vm vsphere.Ref, r vcenter.WaitResult)) error
}

// Ledger admits rounds, and remembers which rooms are held.
type Ledger interface {
	Admit(ctx context.Context, r ledger.AdmitRequest) (ledger.Admission, error)
	SetActive(ctx context.Context, r ledger.ActiveRequest) (ledger.ActiveAnswer, error)
}

// RegisterWorkflows adds the workflow, for a worker or a replay.
func RegisterWorkflows(r worker.WorkflowRegistry) {
	r.RegisterWorkflowWithOptions(MakeRoom, workflow.RegisterOptions{Name: preemption.MakeRoomWorkflowName})
}

// Register adds the workflow and its activities to a worker.
func Register(r worker.Registry, a *Activities) {
	RegisterWorkflows(r)
	r.RegisterActivityWithOptions(a.ReadRoomAsks, activity.RegisterOptions{Name: "ReadRoomAsks"})
	r.RegisterActivityWithOptions(a.PowerOnAsker, activity.RegisterOptions{Name: "PowerOnAsker"})
	r.RegisterActivityWithOptions(a.HoldRoom, activity.RegisterOptions{Name: "HoldRoom"})
	r.RegisterActivityWithOptions(a.AdmitRoom, activity.RegisterOptions{Name: "AdmitRoom"})
	r.RegisterActivityWithOptions(a.WhoRuns, activity.RegisterOptions{Name: "WhoRuns"})
	r.RegisterActivityWithOptions(a.BringBackForRoom, activity.RegisterOptions{Name: "BringBackForRoom"})
}

// AdmitRoom asks the ledger whether a round that makes room may start, and has restores in its scope stop and look again.
func (a *Activities) AdmitRoom(ctx context.Context, r ledger.AdmitRequest) (ledger.Admission, error) {
	got, err := a.Ledger.Admit(ctx, r)
	if err != nil {
		return got, preempt.WhenEnded(ctx, err)
	}
	return got, a.holdRestores(ctx, got.Restores, "room is made in the cluster")
}

// HoldRoom tells the ledger which rooms are held, so that no restore takes them and no plan counts on them.
func (a *Activities) HoldRoom(ctx context.Context, r ledger.ActiveRequest) error {
	got, err := a.Ledger.SetActive(ctx, r)
	if err != nil {
		return preempt.WhenEnded(ctx, err)
	}
	return a.holdRestores(ctx, got.Restores, "room is made for "+preempt.Clip(r.For))
}

func (a *Activities) holdRestores(ctx context.Context, ids []string, reason string) error {
	if err := a.HoldRestores(ctx, ids, reason); err != nil {
		return preempt.WhenEnded(ctx, err)
	}
	return nil
}

// BringBackForRoom starts a restore, or tells the one under way in its scope that it may go on. It returns its id.
func (a *Activities) BringBackForRoom(ctx context.Context, in preemptapi.RestoreInput) (string, error) {
	id, err := a.StartRestore(ctx, in, "room for "+in.By+" is no longer in the way")
	if err != nil {
		return "", preempt.WhenEnded(ctx, err)
	}
	return id, nil
}
