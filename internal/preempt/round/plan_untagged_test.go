package round

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// withoutTag is a vCenter in which one VM does not carry the tag.
type withoutTag struct {
	*vcentertest.VCenter
	vm vsphere.Ref
}

func (v withoutTag) Candidates(ctx context.Context, tag string, scope vcenter.Scope) (vsphere.Snapshot, error) {
	snap, err := v.VCenter.Candidates(ctx, tag, scope)
	snap.VMs = slices.DeleteFunc(snap.VMs, func(vm vsphere.VM) bool { return vm.Ref == v.vm })
	return snap, err
}

func TestAnUntaggedVMIsCalledByItsNameHoweverItWasNamed(t *testing.T) {
	for named, calls := range map[string]struct{ fails, want string }{
		"batch-2":                      {"", `VM "batch-2" (vm-2) does not carry the tag`},
		vcentertest.Ref(2).Value:       {"", `VM "batch-2" (vm-2) does not carry the tag`},
		"vm-2 whose name is not read ": {"State", `VM "vm-2" does not carry the tag`},
	} {
		b := newBench(t, 3)
		b.acts.VCenter = withoutTag{b.vc, vcentertest.Ref(2)}
		if calls.fails != "" {
			b.vc.Fail = vcentertest.Failing(calls.fails, vcenter.Unavailable, 9)
		}
		d := demand()
		d.Person, d.VM = true, strings.Fields(named)[0]
		_, err := do[PlanResult](b, b.acts.PlanRound, PlanInput{Demand: d, RoundID: "round-1"})
		if vcentertest.TypeOf(err) != preemptapi.NotTagged || !strings.Contains(err.Error(), calls.want) {
			t.Errorf("%s: %v, want %s", named, err, calls.want)
		}
	}
}
