package faults

import (
	"fmt"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
)

// The owners' limits are in the records, and the records are written first: so no crash loses them.
func TestAfterKillMinusNineAmongTheThrottlesEachVMIsClaimedOnceAndNoLimitIsLeftBehind(t *testing.T) {
	t.Parallel()
	for method, nth := range map[string][]int64{"ReconfigVM_Task": {1, 4, 6}, "SetField": {1, 3, 6}} {
		for _, n := range nth {
			t.Run(fmt.Sprintf("at %s %d", method, n), func(t *testing.T) {
				t.Parallel()
				s := sitetest.New(t, sitetest.OneCluster(6), sitetest.WithThrottle(), sitetest.Impatient)
				own := map[types.ManagedObjectReference]int64{}
				for i, vm := range s.VC.TaggedVMs("cluster-a") {
					if i < 3 {
						own[vm.Ref] = int64(20000 + i)
						s.SetLimit(vm.Ref, own[vm.Ref])
					}
				}
				r := endedAt(s, method, n, (*sitetest.Process).Kill)
				sitetest.WantState(t, r, preemptapi.RoundCompleted, 6)
				for vm, limit := range s.Limits() {
					a, _ := s.Attribute(vm)
					was, limited := own[vm]
					if !limited {
						was = -1
					}
					if a.Outcome != action.Throttled || !a.Throttle.Active(limit) || a.Throttle.WasMHz != was {
						t.Errorf("%s has a limit of %d, and had %d: %s", vm, limit, was, sitetest.Pretty(a))
					}
				}
				res, err := s.ByHand(preemptapi.RestoreInput{})
				s.Must(err)
				s.WantRestored(res, preemptapi.RestoreCompleted, 6)
				s.WantLimits(own)
			})
		}
	}
}

func TestAfterKillMinusNineWhileLimitsAreTakenBackNoneIsLeftBehind(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"ReconfigVM_Task", "SetField"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			s := sitetest.New(t, sitetest.OneCluster(6), sitetest.WithThrottle(), sitetest.Impatient)
			first := s.Worker()
			s.Preempted(6)
			first.Stop()
			p := s.Process()
			s.OnCall(method, 3, func(types.ManagedObjectReference) { p.Kill() })
			s.Change("alarm", "cluster-a", 0, "red", "green")
			<-p.Gone
			s.Worker()
			s.WantRestored(s.Restored(), preemptapi.RestoreCompleted, 6)
			s.WantLimits(nil)
		})
	}
}
