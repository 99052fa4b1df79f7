package remedies

import (
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// killedAt runs a remediation whose worker process is killed at the n-th call of method, lets another worker take
// over, and returns the one decision.
func killedAt(s *sitetest.Site, method string, n int64, req placement.Request) remediateapi.Decision {
	s.T.Helper()
	s.Remedy.Timing.Heartbeat = time.Second
	p := s.Process()
	gone := make(chan struct{})
	s.OnCall(method, n, func(types.ManagedObjectReference) {
		go func() {
			defer close(gone)
			p.Kill()
		}()
		<-time.After(30 * time.Millisecond) // the call itself is served when its sender is no more
	})
	object := req.VM
	if object.Zero() {
		object = req.Source
	}
	id := placement.WorkflowID(req.Kind, object, s.Queue)
	_, err := s.Temporal.SignalWithStartWorkflow(s.T.Context(), id, placement.Signal, req,
		client.StartWorkflowOptions{ID: id, TaskQueue: s.Queue}, placement.WorkflowType(req.Kind))
	s.Must(err)
	select {
	case <-gone:
	case <-time.After(time.Minute):
		s.T.Fatalf("the worker process made no %d calls of %s", n, method)
	}
	s.Worker()
	r := s.ReportOf(id)
	if len(r.Decisions) != 1 {
		s.T.Fatalf("%s", sitetest.Pretty(r))
	}
	return r.Decisions[0]
}

func TestKilledBetweenDetachingAndAttachingNoWishIsLost(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"detach", "attach"} {
		call = "REST POST /com/vmware/cis/tagging/tag-association/{id}?~action=" + call
		s := sitetest.Remedied(t)
		vm := s.VC.TaggedVMs("")[0].Ref
		s.Must(s.VC.SetHardware(vm, simulation.Hardware{CPUs: 2, CoresPerSocket: 1}))
		s.Must(s.VC.SetTags(vm, placement.CategoryCPUs, "2"))
		d := killedAt(s, call, 1, sitetest.RemedyRequest(placement.KindResize, vm, func(r *placement.Request) {
			r.Resize = &placement.Resize{Resource: placement.CPU, Mode: placement.ModeTag}
		}))
		if d.State != remediateapi.Deferred {
			t.Errorf("killed at %s: %s", call, sitetest.Pretty(d))
		}
		wantWish(s, vm, placement.CategoryCPUs, "3")
	}
}

func TestKilledWhileAVMIsReconfiguredItIsDoneOnce(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t)
	vm := s.VC.TaggedVMs("")[0].Ref
	s.Must(s.VC.SetTags(vm, placement.CategoryMemory, "20480"))
	s.Must(s.VC.PowerOffAs(vm, "owner@example.org"))
	s.VC.SetTaskDelay(time.Second)
	d := killedAt(s, "ReconfigVM_Task", 1, sitetest.RemedyRequest(placement.KindReconfigure, vm, nil))
	if d.State != remediateapi.Applied || d.Before.MemoryMB != 16<<10 || d.After.MemoryMB != 20480 {
		t.Errorf("%s", sitetest.Pretty(d))
	}
	if a := lastDecision(s, vm); a.State != remediateapi.Applied {
		t.Errorf("the attribute says %s", sitetest.Pretty(a))
	}
	s.WantHardware(vm, 4, 20480)
}

func TestKilledWhileAVMMovesItIsMovedOnce(t *testing.T) {
	t.Parallel()
	s := sitetest.Remedied(t)
	vms := s.VC.TaggedVMs("")
	ds := s.Full(vms, 220)
	s.VC.SetRelocateTime(3 * time.Second)
	total := s.VC.TotalUsed()
	d := killedAt(s, "RelocateVM_Task", 1, sitetest.RemedyRequest(placement.KindMove, ds, nil))
	if d.State != remediateapi.Applied || s.DisksOn(vms[0].Ref, ds) || s.VC.TotalUsed() != total {
		t.Errorf("%s", sitetest.Pretty(d))
	}
	if n := s.Calls("RelocateVM_Task"); n != 1 {
		t.Errorf("it was moved %d times", n)
	}
	if st := s.Ledger(); len(st.Reserved) > 0 || strings.Contains(sitetest.Pretty(st), "destination") {
		t.Errorf("the ledger still holds %s", sitetest.Pretty(st))
	}
}
