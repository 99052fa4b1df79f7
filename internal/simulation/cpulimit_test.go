package simulation_test

import (
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

func TestAVMWithACPULimitUsesNoMoreAndItsHostNeither(t *testing.T) {
	v := start(t, small())
	c, vm := login(t, v), v.VM("cluster-a-batch-01")
	before, _ := v.Usage("cluster-a")
	for _, step := range []struct {
		limit int64
		less  bool
	}{{1000, true}, {1 << 30, false}, {1000, true}, {-1, false}} {
		spec := types.VirtualMachineConfigSpec{CpuAllocation: &types.ResourceAllocationInfo{Limit: types.NewInt64(step.limit)}}
		if err := reconfigure(t, c, vm, spec); err != nil {
			t.Fatal(err)
		}
		if now, _ := v.Usage("cluster-a"); (now < before) != step.less || now > before {
			t.Errorf("with a limit of %d the cluster uses %.1f %%, without %.1f %%", step.limit, now, before)
		}
	}
}
