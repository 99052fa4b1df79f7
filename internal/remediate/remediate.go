// Package remediate holds the workflows that help a VM or a datastore in alarm: resize, which scales a VM up;
// reconfigure, which applies its configuration tags while it is off; move, which takes VMs off a full datastore;
// and the reconciliation and the making of tags beside them. The ledger keeps a VM from being changed by two
// workflows at a time.
package remediate

import (
	"context"
	"log/slog"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/notify"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
)

// Settings are the worker's own: what its operator allows, whoever asks.
type Settings struct {
	Observe     bool // change nothing, whatever the rules say
	PerHour     int  // actions in an hour, after which it is only recommended; 0: no limit
	Moves       Bounds
	NeverTouch  []string // globs over names of VMs
	Self        []string // BIOS UUIDs of our own VMs
	EventSource string   // source of the CloudEvents: Temporal's address and namespace
	Timing      Timing
}

// Bounds are how many moves there may be at once.
type Bounds struct {
	PerDatastore int `json:"perDatastore"` // off one source
	PerHost      int `json:"perHost"`
	AtOnce       int `json:"atOnce"`
}

// Timing is how long things take and are waited for.
type Timing struct {
	Retry     time.Duration `json:"retry"`          // first back-off between attempts on one object
	Heartbeat time.Duration `json:"heartbeat"`      // heartbeat timeout of an activity
	Outage    time.Duration `json:"outage"`         // how long vCenter may be away before work is given up
	Wait      time.Duration `json:"wait"`           // how often it is looked whether a VM or a place among the moves is free
	Patience  time.Duration `json:"patience"`       // how long that is waited for
	Task      time.Duration `json:"task"`           // bound of one reconfiguration, or power-on
	Move      time.Duration `json:"move"`           // bound of one relocation
	ReplyFor  time.Duration `json:"replyFor"`       // how long a failing reply address is tried
	Sweep     time.Duration `json:"sweep"`          // see ledger.Input
	Tell      bool          `json:"tell,omitempty"` // the worker has channels: people are told
}

// DefaultSettings returns what holds without a configuration file.
func DefaultSettings() Settings {
	return Settings{PerHour: 20, Moves: Bounds{PerDatastore: 1, PerHost: 2, AtOnce: 4}, Timing: DefaultTiming()}
}

// DefaultTiming returns the timing of production.
func DefaultTiming() Timing {
	return Timing{
		Retry: 2 * time.Second, Heartbeat: 10 * time.Second, Outage: 24 * time.Hour, Wait: 15 * time.Second, Patience: 2 * time.Hour,
		Task: 15 * time.Minute, Move: 24 * time.Hour, ReplyFor: time.Hour, Sweep: time.Minute,
	}
}

// Activities are the steps of the workflows that reach outside: vCenter, the ledger, reply addresses.
type Activities struct {
	VCenter   VCenter
	Ledger    Ledger
	TaskQueue string
	Notify    *notify.Sender
	Settings  Settings
	Log       *slog.Logger
}

// steps names the activities for the workflows, which never call them.
var steps *Activities

func (a *Activities) attempt(ctx context.Context, f func() error) error {
	return step.Attempt(ctx, a.Settings.Timing.Retry, f)
}

func (a *Activities) beat(ctx context.Context) (stop func()) {
	return step.Beat(ctx, a.Settings.Timing.Heartbeat)
}

func (a *Activities) logger(ctx context.Context) *slog.Logger {
	info := activity.GetInfo(ctx)
	return a.Log.With("workflow_id", info.WorkflowExecution.ID, "run_id", info.WorkflowExecution.RunID)
}

// RegisterWorkflows adds the remediation workflows, for a worker or a replay.
func RegisterWorkflows(r worker.WorkflowRegistry) {
	r.RegisterWorkflowWithOptions(Resize, workflow.RegisterOptions{Name: placement.ResizeType})
	r.RegisterWorkflowWithOptions(Reconfigure, workflow.RegisterOptions{Name: placement.ReconfigureType})
	r.RegisterWorkflowWithOptions(Move, workflow.RegisterOptions{Name: placement.MoveType})
	r.RegisterWorkflowWithOptions(Reconcile, workflow.RegisterOptions{Name: remediateapi.ReconcileType})
	r.RegisterWorkflowWithOptions(Tags, workflow.RegisterOptions{Name: remediateapi.TagsType})
}

// Register adds the workflows and their activities to a worker.
func Register(r worker.Registry, a *Activities) {
	RegisterWorkflows(r)
	for name, f := range map[string]any{
		"PlanResize": a.PlanResize, "PlanCycle": a.PlanCycle, "PlanReconfigure": a.PlanReconfigure, "PlanMove": a.PlanMove, "FindUnapplied": a.FindUnapplied,
		"SetWish": a.SetWish, "ReconfigureVM": a.ReconfigureVM, "RelocateVM": a.RelocateVM, "ShutDownVM": a.ShutDownVM, "PowerOnVM": a.PowerOnVM,
		"TellRemediation": a.TellRemediation, "MakeTags": a.MakeTags, "ShowTags": a.ShowTags,
		// Local activities.
		"AcceptRemediation": a.AcceptRemediation, "TakeVM": a.TakeVM, "ReleaseVM": a.ReleaseVM, "FindWindow": a.FindWindow,
	} {
		r.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
	}
}
