package round

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// books is a ledger that grants everything, unless a test says otherwise.
type books struct {
	mu        sync.Mutex
	facts     func(ledger.FactsRequest) (ledger.Facts, error)
	grant     func(ledger.ReserveRequest) (ledger.Reservation, error)
	reserved  []ledger.ReserveRequest
	evicted   []ledger.EvictedRequest
	completed []ledger.CompleteRequest
}

func (b *books) Facts(_ context.Context, r ledger.FactsRequest) (ledger.Facts, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.facts == nil {
		return ledger.Facts{Now: time.Now(), Version: 1}, nil
	}
	return b.facts(r)
}

func (b *books) Reserve(_ context.Context, r ledger.ReserveRequest) (ledger.Reservation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reserved = append(b.reserved, r)
	if b.grant == nil {
		return ledger.Reservation{Granted: true}, nil
	}
	return b.grant(r)
}

func (b *books) Evicted(_ context.Context, r ledger.EvictedRequest) error {
	b.evicted = append(b.evicted, r)
	return nil
}

func (b *books) Complete(_ context.Context, r ledger.CompleteRequest) error {
	b.completed = append(b.completed, r)
	return nil
}

// bench is a round's activities, on a vCenter in memory.
type bench struct {
	t     *testing.T
	vc    *vcentertest.VCenter
	books *books
	acts  *Activities
	ctx   context.Context // of the activities
	end   context.CancelCauseFunc
}

func newBench(t *testing.T, vms int) *bench {
	b := &bench{t: t, vc: vcentertest.New(vms), books: &books{}}
	set := preempt.DefaultSettings()
	set.Timing.Retry, set.Timing.Heartbeat, set.Timing.Outage = time.Millisecond, time.Second, 5*time.Second
	b.acts = &Activities{Env: &preempt.Env{Settings: set, Log: slog.New(slog.DiscardHandler)}, VCenter: b.vc, Ledger: b.books}
	b.ctx, b.end = context.WithCancelCause(t.Context())
	t.Cleanup(func() { b.end(nil) })
	return b
}

// withdraw cancels the activity, as the workflow does.
func (b *bench) withdraw() { b.end(vcentertest.Cancelled()) }

// stopWorker ends the activity's context, as a stopping worker does.
func (b *bench) stopWorker() { b.end(errors.New("the worker is shutting down")) }

// do runs an activity.
func do[T any](b *bench, f, in any) (out T, err error) {
	b.t.Helper()
	return vcentertest.Run[T](b.ctx, f, in)
}

func must[T any](b *bench, f, in any) T {
	b.t.Helper()
	out, err := do[T](b, f, in)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// targets are the VMs of the bench, as a plan chose them.
func (b *bench) targets() (list []ActTarget) {
	for i := 1; ; i++ {
		ref := vcentertest.Ref(i)
		now, _ := b.vc.State(b.t.Context(), "", []vsphere.Ref{ref})
		vm, ok := now[ref]
		if !ok {
			return list
		}
		list = append(list, ActTarget{Target: policy.Target{
			Ref: ref, Name: vm.Name, InstanceUUID: vm.InstanceUUID, ToolsRunning: vm.ToolsRunning, CPUMHz: vm.CPUMHz, MemoryMB: vm.MemoryMB, Host: vm.Host,
		}})
	}
}

// order is what a round asks for: to act on all VMs of the bench.
func (b *bench) order(a action.Action) ActInput {
	p := policy.Default()
	p.PowerOffTimeout = clock.Duration(50 * time.Millisecond)
	return ActInput{
		RoundID: "round-1", Tag: "spot", Scope: vcentertest.Cluster, Action: a, Targets: b.targets(), Policy: p, PlannedAt: time.Now(),
		Attribute: preempt.Attribute{Tag: "spot", RoundID: "round-1", Criticality: preemption.CriticalityHigh, WorkflowID: "intake-1"},
		Asked:     time.Now(),
	}
}

func (b *bench) evict(in ActInput) ActResult {
	b.t.Helper()
	return must[ActResult](b, b.acts.EvictVMs, in)
}

// record is what the VM's attribute says.
func (b *bench) record(i int) (a preempt.Attribute) {
	b.t.Helper()
	text := b.vc.Get(i).Attributes[preemption.AttributeKey]
	if text == "" {
		return a
	}
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		b.t.Fatal(err)
	}
	return a
}

// of returns what became of the VM.
func of(t *testing.T, outcomes []preemptapi.VMOutcome, i int) preemptapi.VMOutcome {
	t.Helper()
	k := slices.IndexFunc(outcomes, func(o preemptapi.VMOutcome) bool { return o.Ref == vcentertest.Ref(i) })
	if k < 0 {
		t.Fatalf("nothing became of VM %d: %+v", i, outcomes)
	}
	return outcomes[k]
}
