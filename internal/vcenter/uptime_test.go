package vcenter

import (
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

func TestAMigratedVMIsProtectedForItsMinimumRunTimeAndNoLonger(t *testing.T) {
	v, g := warm(t, small())
	refs := taggedRefs(v)
	check(t, v.ForgetBoot(toMoRef(refs[0]), 20*time.Minute))
	check(t, v.ForgetBoot(toMoRef(refs[1]), 3*time.Minute))
	check(t, v.ForgetBoot(toMoRef(refs[2]), 0)) // nothing is known
	going, spared := chosen(t, g, policy.Protect{MinRuntime: clock.Duration(10 * time.Minute)})
	if len(going) != 1 || going[0] != refs[0] {
		t.Errorf("%v go, want %v; spared %+v", going, refs[0], spared)
	}
	if s := spared[refs[1]]; s.Reason != policy.MinRuntime || !strings.Contains(s.Detail, "at least 3m of 10m") {
		t.Errorf("spared: %+v", s)
	}
	if s := spared[refs[2]]; s.Reason != policy.MinRuntime || !strings.Contains(s.Detail, "unknown") {
		t.Errorf("spared: %+v", s)
	}
	for _, ref := range refs {
		check(t, v.SetTags(toMoRef(ref), policy.CategoryProtect, "10m"))
	}
	going, spared = chosen(t, g, policy.Protect{})
	if len(going) != 1 || going[0] != refs[0] || spared[refs[1]].Reason != policy.Protected || spared[refs[2]].Reason != policy.Protected {
		t.Errorf("%v go, want %v; spared %+v", going, refs[0], spared)
	}
}
