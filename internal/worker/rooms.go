package worker

import (
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/delivery"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/notify"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/intake"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/makeroom"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/restore"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// Rooms are the activities of intake, round, restore and of making room, with the ledger that they share.
type Rooms struct {
	*preempt.Env
	Intake  *intake.Activities
	Round   *round.Activities
	Restore *restore.Activities
	Room    *makeroom.Activities
	replies *preempt.Replies
}

// NewRooms gives the activities of preemption what they need.
func NewRooms(env *preempt.Env, vc *vcenter.Gateway, sender *notify.Sender) *Rooms {
	held := ledger.NewClient(env.Temporal, env.TaskQueue, env.Settings.Timing.Sweep)
	requests := &intake.Activities{Env: env, VCenter: vc, Ledger: held}
	return &Rooms{
		Env:     env,
		Intake:  requests,
		Room:    &makeroom.Activities{Env: env, VCenter: vc, Ledger: held, Decode: requests.DecodeRoom},
		Round:   &round.Activities{Env: env, VCenter: vc, Ledger: held},
		Restore: &restore.Activities{Env: env, VCenter: vc, Ledger: held},
		replies: &preempt.Replies{Env: env, Notify: sender},
	}
}

// Register adds the workflows of preemption and their activities to a worker.
func (p *Rooms) Register(r worker.Registry) {
	intake.Register(r, p.Intake)
	round.Register(r, p.Round)
	restore.Register(r, p.Restore)
	makeroom.Register(r, p.Room)
	registerLedger(r)
	r.RegisterActivityWithOptions(p.replies.SendPreemptedEvent, activity.RegisterOptions{Name: "SendPreemptedEvent"})
	owners := &ledger.Activities{Client: p.Temporal}
	r.RegisterActivityWithOptions(owners.ClosedOwners, activity.RegisterOptions{Name: "ClosedOwners"})
}

// RegisterRooms adds the workflows of preemption alone, for a replay.
func RegisterRooms(r worker.WorkflowRegistry) {
	intake.RegisterWorkflows(r)
	round.RegisterWorkflows(r)
	restore.RegisterWorkflows(r)
	makeroom.RegisterWorkflows(r)
	delivery.RegisterWorkflows(r)
	registerLedger(r)
}

func registerLedger(r worker.WorkflowRegistry) {
	r.RegisterWorkflowWithOptions(ledger.Ledger, workflow.RegisterOptions{Name: ledger.WorkflowType})
}

// Poller returns a Temporal worker for a task queue, not yet started, to which nothing is registered.
func Poller(c client.Client, taskQueue string, stopTimeout time.Duration, onFatal func(error)) worker.Worker {
	if stopTimeout <= 0 {
		stopTimeout = 20 * time.Second
	}
	return worker.New(c, taskQueue, worker.Options{
		WorkerStopTimeout:                      stopTimeout,
		MaxHeartbeatThrottleInterval:           time.Second,
		MaxConcurrentActivityExecutionSize:     200,
		MaxConcurrentActivityTaskPollers:       4,
		MaxConcurrentWorkflowTaskPollers:       4,
		MaxConcurrentWorkflowTaskExecutionSize: 200,
		StickyScheduleToStartTimeout:           time.Second, // how long a killed worker holds up each workflow it had cached
		OnFatalError:                           onFatal,
	})
}
