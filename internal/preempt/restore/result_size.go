package restore

import (
	"slices"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/payload"
)

// fittedRestore returns a restore's result that fits into one payload.
func fittedRestore(r preemptapi.RestoreResult) preemptapi.RestoreResult {
	size := 0
	for _, vm := range r.VMs {
		size += 260 + payload.JSONLen(vm.Name) + payload.JSONLen(vm.Reason) + payload.JSONLen(vm.AnnotationError)
	}
	if size <= payload.Max {
		return r
	}
	r.Left = payload.ShortSpared(r.Left)
	r.VMs = slices.Clone(r.VMs)
	most := payload.TextRoom(len(r.VMs))
	for i := range r.VMs {
		vm := &r.VMs[i]
		vm.Name, vm.Reason, vm.AnnotationError = payload.Cut(vm.Name, most), payload.Cut(vm.Reason, most), payload.Cut(vm.AnnotationError, most)
	}
	return r
}

// firstWaves leaves the later waves of a plan that is carried out to the plan after it, where there are many VMs.
func firstWaves(out PlanResult) PlanResult {
	all := out.Returns.Returns
	if len(all) <= payload.MaxInFull {
		return out
	}
	n := 0
	for n < len(all) && all[n].Wave == 1 {
		n++
	}
	out.Returns.Returns, out.Beyond = all[:n:n], len(all)-n
	return out
}
