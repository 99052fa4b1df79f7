package policy_test

import (
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

func TestAUsageBelowItsTargetSaysSoInNumbers(t *testing.T) {
	for name, c := range map[string]struct {
		usage []policy.Usage
		want  string
	}{
		"nothing measured": {nil, ""},
		"no target":        {[]policy.Usage{{CPU: policy.Load{Capacity: 100, Used: 54}}}, ""},
		"one resource": {
			[]policy.Usage{{Name: "cluster-a", CPU: policy.Load{Capacity: 100_000, Used: 54_000, Target: 80}}},
			"CPU usage is 54 %, below the target of 80 %: nobody must go",
		},
		"two resources": {
			[]policy.Usage{{CPU: policy.Load{Capacity: 100, Used: 54, Target: 80}, Memory: policy.Load{Capacity: 1000, Used: 700, Credited: 300, Target: 85}}},
			"CPU usage is 54 % and memory usage is 40 %, below the targets of 80 % and 85 %: nobody must go",
		},
		"a share of what is not kept for a host to fail": {
			[]policy.Usage{{CPU: policy.Load{Capacity: 100, Kept: 50, Used: 25, Target: 80}}}, "CPU usage is 50 %, below the target of 80 %: nobody must go",
		},
		"just there": {[]policy.Usage{{CPU: policy.Load{Capacity: 100, Used: 80, Target: 80}}}, "CPU usage is 80 %, not above the target of 80 %: nobody must go"},
		"a host and its cluster": {
			[]policy.Usage{{Name: "esx-1", CPU: policy.Load{Capacity: 10, Used: 5, Target: 80}}, {Name: "cluster-a", CPU: policy.Load{Capacity: 100, Used: 40, Target: 80}}},
			"esx-1: CPU usage is 50 %, below the target of 80 %; cluster-a: CPU usage is 40 %, below the target of 80 %: nobody must go",
		},
		"one of two is short": {
			[]policy.Usage{{CPU: policy.Load{Capacity: 10, Used: 5, Target: 80}}, {CPU: policy.Load{Capacity: 100, Used: 90, Target: 80, Shortfall: 10}}}, "",
		},
	} {
		if got := policy.BelowTarget(c.usage); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
