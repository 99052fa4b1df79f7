package preempt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/notify"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
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

// errHandOver is the type of the error of a step that another worker is to take over.
const errHandOver = "HandOver"

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
