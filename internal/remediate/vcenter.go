package remediate

import (
	"context"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// VCenter is what remediation needs of vCenter. A *vcenter.Gateway has it all.
type VCenter interface {
	Inventory
	Power
	Reconfiguration
	Storage
	Labels
}

// Inventory finds VMs and reads them.
type Inventory interface {
	FindVM(ctx context.Context, nameOrPathOrMoRef string) (vsphere.Ref, error)
	Hardware(ctx context.Context, vms []vsphere.Ref) (map[vsphere.Ref]placement.VM, error)
	WithTags(ctx context.Context, categories []string) ([]vsphere.Ref, error)
	TagsOf(ctx context.Context, vms []vsphere.Ref, categories ...string) (map[vsphere.Ref]map[string][]string, error)
	Foreign(ctx context.Context, e vcenter.AlarmEvent) (reason string, err error)
	Addresses() []string
}

// Power shuts VMs down and powers them on.
type Power interface {
	ShutdownGuest(ctx context.Context, vm vsphere.Ref) error
	AwaitOff(ctx context.Context, waits []vcenter.Wait, report func(vsphere.Ref, vcenter.WaitResult)) error
	AwaitEvidence(ctx context.Context, vms []vsphere.Ref, since time.Time) (map[vsphere.Ref]vcenter.Evidence, error)
	PowerOn(ctx context.Context, vm vsphere.Ref) (task vsphere.Ref, err error)
	AwaitOn(ctx context.Context, waits []vcenter.Wait, report func(vsphere.Ref, vcenter.WaitResult)) error
}

// Reconfiguration changes the hardware of a VM, and follows tasks.
type Reconfiguration interface {
	Reconfigure(ctx context.Context, vm vsphere.Ref, c placement.Change, changeVersion string) (task vsphere.Ref, err error)
	RunningTask(ctx context.Context, vm vsphere.Ref, operation string) (task vsphere.Ref, found bool, err error)
	AwaitTask(ctx context.Context, task vsphere.Ref, progress func(percent int)) error
}

// Storage reads datastores and moves VMs between them.
type Storage interface {
	Datastore(ctx context.Context, nameOrMoRef string) (vsphere.Ref, error)
	Storage(ctx context.Context, source, vm vsphere.Ref) (placement.Storage, error)
	RecommendDatastore(ctx context.Context, vm, pod vsphere.Ref) (to vsphere.Ref, ok bool, err error)
	Relocate(ctx context.Context, vm, source, destination vsphere.Ref) (task vsphere.Ref, err error)
	RefreshDatastore(ctx context.Context, datastore vsphere.Ref) error
}

// Labels writes what a VM carries: its tags, and its custom attribute.
type Labels interface {
	SetTag(ctx context.Context, vm vsphere.Ref, category, value string) error
	EnsureTags(ctx context.Context, values map[string][]string, dryRun bool) (created, existed []vcenter.TagName, err error)
	Annotate(ctx context.Context, vm vsphere.Ref, name, value string) error
}

// Ledger knows what holds across workflows. A ledger.Client is one.
type Ledger interface {
	RemedyFacts(context.Context, ledger.RemedyFactsRequest) (ledger.RemedyFacts, error)
	Remedy(context.Context, ledger.RemedyRequest) (ledger.RemedyGrant, error)
	Remedied(context.Context, ledger.RemediedRequest) error
}
