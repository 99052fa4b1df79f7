package restore

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/timestamppb"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// books is a ledger that grants everything, unless a test says otherwise.
type books struct {
	mu       sync.Mutex
	facts    ledger.Facts
	err      error
	grant    func(ledger.ReserveRequest) ledger.Reservation
	reserved []ledger.ReserveRequest
	stood    []ledger.ActiveRequest
}

func (b *books) Facts(context.Context, ledger.FactsRequest) (ledger.Facts, error) {
	return b.facts, b.err
}

func (b *books) Reserve(_ context.Context, r ledger.ReserveRequest) (ledger.Reservation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reserved = append(b.reserved, r)
	if b.grant == nil {
		return ledger.Reservation{Granted: true}, nil
	}
	return b.grant(r), nil
}

func (b *books) SetActive(_ context.Context, r ledger.ActiveRequest) (ledger.ActiveAnswer, error) {
	b.stood = append(b.stood, r)
	return ledger.ActiveAnswer{}, nil
}

// temporalServer knows which intakes run, and which have ended long ago.
type temporalServer struct {
	client.Client
	running, ended string
}

func (s temporalServer) DescribeWorkflowExecution(_ context.Context, id, _ string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	info := &workflowpb.WorkflowExecutionInfo{}
	switch id {
	case s.running:
		info.Status = enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
	case s.ended:
		info.Status, info.CloseTime = enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, timestamppb.New(time.Now().Add(-time.Hour))
	default:
		return nil, serviceerror.NewNotFound("no such workflow")
	}
	return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: info}, nil
}

// bench is a restore's activities, on a vCenter in memory.
type bench struct {
	t     *testing.T
	vc    *vcentertest.VCenter
	books *books
	acts  *Activities
	ctx   context.Context // of the activities
	end   context.CancelCauseFunc
}

// newBench has VMs that a round has powered off an hour ago.
func newBench(t *testing.T, vms int) *bench {
	b := &bench{t: t, vc: vcentertest.New(vms), books: &books{facts: ledger.Facts{Now: time.Now(), Version: 1}}}
	set := preempt.DefaultSettings()
	set.Timing.Retry, set.Timing.Heartbeat, set.Timing.Outage = time.Millisecond, time.Second, 5*time.Second
	env := &preempt.Env{Settings: set, Log: slog.New(slog.DiscardHandler), Temporal: temporalServer{}, TaskQueue: "queue"}
	b.acts = &Activities{Env: env, VCenter: b.vc, Ledger: b.books}
	b.ctx, b.end = context.WithCancelCause(t.Context())
	t.Cleanup(func() { b.end(nil) })
	off := time.Now().Add(-time.Hour).UTC()
	for i := 1; i <= vms; i++ {
		b.vc.Set(i, func(vm *vcentertest.VM) {
			vm.PowerState = vsphere.PoweredOff
			vm.Off = vcenter.Evidence{Time: off, Event: "VmPoweredOffEvent", User: vcentertest.User, Ours: true}
		})
		b.write(i, preempt.Attribute{
			Preempted: true, Tag: "spot", RoundID: "round-1", PreemptedAt: off, Scope: vcentertest.Cluster.String(), InstanceUUID: b.vc.Get(i).InstanceUUID,
			CPUMHz: 1000, MemoryMB: 1000,
		})
	}
	return b
}

// write gives a VM the record.
func (b *bench) write(i int, a preempt.Attribute) {
	b.t.Helper()
	text, err := json.Marshal(a)
	if err != nil {
		b.t.Fatal(err)
	}
	b.vc.Set(i, func(vm *vcentertest.VM) { vm.Attributes[preemption.AttributeKey] = string(text) })
}

// record is what the VM's attribute says.
func (b *bench) record(i int) (a preempt.Attribute) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(b.vc.Get(i).Attributes[preemption.AttributeKey]), &a); err != nil {
		b.t.Fatal(err)
	}
	return a
}

func (b *bench) stop() { b.end(vcentertest.Cancelled()) }

func must[T any](b *bench, f, in any) T {
	b.t.Helper()
	out, err := vcentertest.Run[T](b.ctx, f, in)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func restorePolicy() policy.Policy {
	p := policy.Default()
	p.Restore = policy.DefaultRestore()
	return p
}
