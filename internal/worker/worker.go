// Package worker assembles a worker: its workflows and activities, the takeover of what other programs left, and what
// answers doctor. Every program and every test that runs a worker runs this one.
package worker

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/vsphere-preemption/vsphere-preemption/internal/channel"
	"github.com/vsphere-preemption/vsphere-preemption/internal/delivery"
	"github.com/vsphere-preemption/vsphere-preemption/internal/doctor"
	"github.com/vsphere-preemption/vsphere-preemption/internal/health"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/notify"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remediate"
	"github.com/vsphere-preemption/vsphere-preemption/internal/repair"
	"github.com/vsphere-preemption/vsphere-preemption/internal/takeover"
	"github.com/vsphere-preemption/vsphere-preemption/internal/telemetry"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
)

// cached bounds the workflows that a process keeps at hand. One that has ended at another worker stays until it is pushed
// out: with the SDK's default of 10,000 they can outgrow the memory that a worker is given.
const cached = 1000

// guardOnce has the default client replaced once: others may be using it.
var guardOnce sync.Once

// Prepare sets what holds for all workers of a process. Call it before New.
func Prepare(build telemetry.Build, sender *notify.Sender) {
	worker.SetBinaryChecksum(build.ID()) // else the SDK reads and hashes the whole program at the start
	worker.SetStickyWorkflowCacheSize(cached)
	// By it the library of the channels calls the hosts that a file may name, without a deadline of its own, and follows redirects.
	guardOnce.Do(func() { *http.DefaultClient = sender.Client(channel.Patience, channel.SlackHost) })
}

// Config is what a worker is made of. What is not said to be optional is required.
type Config struct {
	Temporal    client.Client
	Namespace   string
	TaskQueue   string
	VCenter     *vcenter.Gateway
	VCenterHost string // by which the events that the watch reads name vCenter
	Notify      *notify.Sender
	Preempt     preempt.Settings
	Remediate   remediate.Settings
	Rules       []trigger.Rule // optional: without rules, no alarm is acted upon
	Channels    *channel.Book  // optional: where people are told; Preempt.Timing.Tell says that there are some
	Identity    string         // of this process, and
	Version     string         // of the program, both as doctor shows them
	Log         *slog.Logger
	Tracer      *tracing.Tracer // optional: has a span for each event that is acted upon; the client has the interceptors

	TookOver      func(what string)     // optional: counts takeovers
	TakeoverEvery time.Duration         // optional: how often the worker looks for what other programs left; default a minute
	StopTimeout   time.Duration         // optional: how long running activities may go on when the worker stops; default 20 s
	OnFatal       func(error)           // optional: called when Temporal refuses the worker
	Engine        func(*trigger.Engine) // optional: changes how the watch hands events over, for tests
}

// Worker is an assembled worker. Start it once its Preempt.CheckAttributes has been called.
type Worker struct {
	worker.Worker
	Preempt   *Rooms
	Takeovers *takeover.Keeper
}

// New assembles a worker, and looks for workflows that other programs left, until ctx ends. It does not start the worker.
func New(ctx context.Context, c Config) *Worker {
	env := &preempt.Env{Temporal: c.Temporal, TaskQueue: c.TaskQueue, Namespace: c.Namespace, Settings: c.Preempt, Log: c.Log, Tracer: c.Tracer}
	w := &Worker{Preempt: NewRooms(env, c.VCenter, c.Notify), Worker: Poller(c.Temporal, c.TaskQueue, c.StopTimeout, c.OnFatal)}
	w.Preempt.Register(w)
	remediate.Register(w, &remediate.Activities{
		VCenter: c.VCenter, Ledger: ledger.NewClient(c.Temporal, c.TaskQueue, c.Remediate.Timing.Sweep),
		TaskQueue: c.TaskQueue, Notify: c.Notify, Settings: c.Remediate, Log: c.Log,
	})
	if c.Channels == nil {
		c.Channels = &channel.Book{}
	}
	delivery.Register(w, &delivery.Activities{Channels: c.Channels, Tags: c.VCenter, Log: c.Log})
	w.Takeovers = takeover.Start(ctx, takeover.Config{
		Temporal: c.Temporal, Namespace: c.Namespace, TaskQueue: c.TaskQueue, Sweep: c.Preempt.Timing.Sweep, Every: c.TakeoverEvery, Log: c.Log,
		Count: c.TookOver,
	})
	doctor.Register(w, &doctor.Activities{
		VCenter: c.VCenter, Rules: c.Rules, Policies: c.Preempt.Policies, Allowed: c.Preempt.AllowedTags, Observe: c.Preempt.Observe,
		Worker: c.Identity, Version: c.Version, Takeovers: w.Takeovers.Report, Channels: c.Channels.Checks,
	})
	follower := watch.NewActivities(c.VCenter, c.Temporal, c.TaskQueue, c.Rules, c.VCenterHost, c.Log).Checked(w.Preempt.Intake.WhyRejected)
	follower.Engine.Tracer = c.Tracer
	if c.Engine != nil {
		c.Engine(follower.Engine)
	}
	watch.Register(w, follower)
	health.Register(w)
	repair.Register(w, &repair.Activities{VCenter: c.VCenter, Temporal: c.Temporal, Namespace: c.Namespace, TaskQueue: c.TaskQueue, Log: c.Log})
	return w
}
