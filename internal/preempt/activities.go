package preempt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/notify"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// Settings are the worker's own: what its operator allows, whoever asks.
type Settings struct {
	Policies       map[string]policy.Policy
	AllowedTags    []string               // empty: any
	MaxCriticality preemption.Criticality // empty: HIGH
	Self           []string               // BIOS UUIDs of our own VMs
	Observe        bool                   // touch no VM, whatever the policies say
	Timing         Timing
	EventSource    string // source of the CloudEvents we send: Temporal's address and namespace
}

// DefaultSettings returns what holds without a configuration file.
func DefaultSettings() Settings {
	return Settings{
		Policies:       map[string]policy.Policy{"default": policy.Default()},
		MaxCriticality: preemption.CriticalityHigh,
		Timing:         DefaultTiming(),
	}
}

// Activities are the steps of the workflows that reach outside: vCenter, Temporal, reply addresses.
type Activities struct {
	VCenter   *vcenter.Gateway
	Temporal  client.Client
	TaskQueue string
	Namespace string
	Notify    *notify.Sender
	Settings  Settings
	Log       *slog.Logger

	attrs     attributeCheck
	preempted preempted
}

func (a *Activities) ledger() ledger.Client {
	return ledger.Client{Temporal: a.Temporal, TaskQueue: a.TaskQueue, Sweep: a.Settings.Timing.Sweep}
}

// The types of the errors by which a round fails before it acts, besides those of vcenter.Kind.
const (
	errReserve = "ReservationFailed"
	errRound   = "RoundFailed"
)

// tries is how often one object is tried before its failure is final. Time during which vCenter is away
// does not count.
const tries = 3

// typed turns an error of the gateway into a Temporal error named by its kind. An outage is retried by
// Temporal; everything else has had its attempts and is final.
func typed(err error) error {
	if err == nil {
		return nil
	}
	kind := vcenter.KindOf(err)
	if kind.Outage() {
		return temporal.NewApplicationErrorWithOptions(err.Error(), string(kind), temporal.ApplicationErrorOptions{})
	}
	return temporal.NewNonRetryableApplicationError(err.Error(), string(kind), nil)
}

// attempt calls f up to three times, with growing pauses between, as long as its error is worth it. An
// outage is returned at once: who calls decides how long to wait it out.
func (a *Activities) attempt(ctx context.Context, f func() error) error {
	pause := a.Settings.Timing.Retry
	for i := 1; ; i++ {
		err := f()
		kind := vcenter.KindOf(err)
		if err == nil || i == tries || kind.Outage() || !kind.Retryable() {
			return err
		}
		if !sleep(ctx, pause) {
			return err
		}
		pause *= 2
	}
}

// sleep waits for d; it returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// cancelled tells whether Temporal's server cancelled the activity. A stopping worker and lost
// heartbeats end the context too, and mean nothing for any VM.
func cancelled(ctx context.Context) bool {
	return ctx.Err() != nil && temporal.IsCanceledError(context.Cause(ctx))
}

// beat heartbeats until the returned function is called, so that a dead worker is noticed within the
// heartbeat timeout and a cancellation arrives. It goes on after a cancellation and while the worker
// stops: with the activity's own context the SDK would send no more, and the server would give up work
// that is still under way.
func (a *Activities) beat(ctx context.Context) (stop func()) {
	ctx = context.WithoutCancel(ctx)
	every := min(a.Settings.Timing.Heartbeat/4, time.Second)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				activity.RecordHeartbeat(ctx)
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// logger returns the activity's logger with its workflow's id.
func (a *Activities) logger(ctx context.Context) *slog.Logger {
	info := activity.GetInfo(ctx)
	return a.Log.With("workflow_id", info.WorkflowExecution.ID, "run_id", info.WorkflowExecution.RunID)
}

// attributeCheck remembers whether the search attributes are registered.
type attributeCheck struct {
	mu         sync.Mutex
	registered bool
}

// CheckAttributes looks whether the namespace knows our search attributes. Where it does not, the
// workflows go without them, so that an unprepared namespace never blocks one. The worker calls it at
// its start and from time to time.
func (a *Activities) CheckAttributes(ctx context.Context, namespace string) error {
	list, err := searchAttributes(ctx, a.Temporal, namespace)
	if err != nil {
		return fmt.Errorf("list the search attributes of namespace %s: %w", namespace, err)
	}
	var missing []error
	for _, name := range SearchAttributes() {
		if list[name] != "Keyword" {
			missing = append(missing, fmt.Errorf("search attribute %s of type Keyword is not registered", name))
		}
	}
	a.attrs.mu.Lock()
	defer a.attrs.mu.Unlock()
	a.attrs.registered = len(missing) == 0
	return errors.Join(missing...)
}

func (a *Activities) attributesRegistered() bool {
	a.attrs.mu.Lock()
	defer a.attrs.mu.Unlock()
	return a.attrs.registered
}
