package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remedy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// killedAt runs a remediation whose worker process is killed at the n-th call of method, lets another worker take
// over, and returns the one decision.
func (s *site) killedAt(method string, n int64, req remedy.Request) remediateapi.Decision {
	s.t.Helper()
	s.remedy.Timing.Heartbeat = time.Second
	p := s.process()
	gone := make(chan struct{})
	s.onCall(method, n, func(types.ManagedObjectReference) {
		go func() {
			defer close(gone)
			p.kill()
		}()
		<-time.After(30 * time.Millisecond) // the call itself is served when its sender is no more
	})
	object := req.VM
	if object.Zero() {
		object = req.Source
	}
	id := remedy.WorkflowID(req.Kind, object, s.queue)
	_, err := s.c.SignalWithStartWorkflow(s.t.Context(), id, remedy.Signal, req,
		client.StartWorkflowOptions{ID: id, TaskQueue: s.queue}, remedy.WorkflowType(req.Kind))
	s.must(err)
	select {
	case <-gone:
	case <-time.After(time.Minute):
		s.t.Fatalf("the worker process made no %d calls of %s", n, method)
	}
	s.worker()
	r := s.reportOf(id)
	if len(r.Decisions) != 1 {
		s.t.Fatalf("%s", pretty(r))
	}
	return r.Decisions[0]
}

func TestKilledBetweenDetachingAndAttachingNoWishIsLost(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"detach", "attach"} {
		call = "REST POST /com/vmware/cis/tagging/tag-association/{id}?~action=" + call
		s := remedied(t)
		vm := s.vc.TaggedVMs("")[0].Ref
		s.must(s.vc.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1}))
		s.must(s.vc.SetTags(vm, remedy.CategoryCPUs, "2"))
		d := s.killedAt(call, 1, asks(remedy.KindResize, vm, func(r *remedy.Request) {
			r.Resize = &remedy.Resize{Resource: remedy.CPU, Mode: remedy.ModeTag}
		}))
		if d.State != remediateapi.Deferred {
			t.Errorf("killed at %s: %s", call, pretty(d))
		}
		s.wantWish(vm, remedy.CategoryCPUs, "3")
	}
}

func TestKilledWhileAVMIsReconfiguredItIsDoneOnce(t *testing.T) {
	t.Parallel()
	s := remedied(t)
	vm := s.vc.TaggedVMs("")[0].Ref
	s.must(s.vc.SetTags(vm, remedy.CategoryMemory, "20480"))
	s.must(s.vc.PowerOffAs(vm, "owner@example.org"))
	s.vc.SetTaskDelay(time.Second)
	d := s.killedAt("ReconfigVM_Task", 1, asks(remedy.KindReconfigure, vm, nil))
	if d.State != remediateapi.Applied || d.Before.MemoryMB != 16<<10 || d.After.MemoryMB != 20480 {
		t.Errorf("%s", pretty(d))
	}
	if a := s.lastDecision(vm); a.State != remediateapi.Applied {
		t.Errorf("the attribute says %s", pretty(a))
	}
	s.wantHardware(vm, 4, 20480)
}

func TestKilledWhileAVMMovesItIsMovedOnce(t *testing.T) {
	t.Parallel()
	s := remedied(t)
	vms := s.vc.TaggedVMs("")
	ds := s.full(vms, 220)
	s.vc.SetRelocateTime(3 * time.Second)
	total := s.vc.TotalUsed()
	d := s.killedAt("RelocateVM_Task", 1, asks(remedy.KindMove, ds, nil))
	if d.State != remediateapi.Applied || s.disksOn(vms[0].Ref, ds) || s.vc.TotalUsed() != total {
		t.Errorf("%s", pretty(d))
	}
	if n := s.calls("RelocateVM_Task"); n != 1 {
		t.Errorf("it was moved %d times", n)
	}
	if st := s.ledger(); len(st.Reserved) > 0 || strings.Contains(pretty(st), "destination") {
		t.Errorf("the ledger still holds %s", pretty(st))
	}
}
