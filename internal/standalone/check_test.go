package standalone

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
)

const (
	on  = types.VirtualMachinePowerStatePoweredOn
	off = types.VirtualMachinePowerStatePoweredOff
)

func vm(name string, power types.VirtualMachinePowerState, attribute string) vmState {
	return vmState{Ref: types.ManagedObjectReference{Type: "VirtualMachine", Value: name}, Name: name, Power: power, Attribute: attribute}
}

func record(round string, forced bool) string {
	b, _ := json.Marshal(preempt.Attribute{Preempted: true, Tag: "t", Criticality: "HIGH", RoundID: round, ForcedShutdown: forced, Event: []byte("{}")})
	return string(b)
}

func target(name, outcome string, annotated bool) preempt.VMOutcome {
	return preempt.VMOutcome{Ref: policy.Ref{Type: "VirtualMachine", Value: name}, Name: name, Outcome: outcome, Forced: outcome == preempt.OutcomePoweredOff, Annotated: annotated}
}

func TestMismatches(t *testing.T) {
	before := []vmState{vm("a", on, ""), vm("b", on, ""), vm("c", off, "")}
	ours := []preempt.VMOutcome{target("a", preempt.OutcomePoweredOff, true)}
	tests := map[string]struct {
		after   []vmState
		targets []preempt.VMOutcome
		want    []string // a part of each mismatch
	}{
		"as reported": {[]vmState{vm("a", off, record("r", true)), before[1], before[2]}, ours, nil},
		"off and honestly not annotated": {
			[]vmState{vm("a", off, ""), before[1], before[2]},
			[]preempt.VMOutcome{target("a", preempt.OutcomePoweredOff, false)},
			nil,
		},
		"spared and untouched":      {before, []preempt.VMOutcome{target("a", preempt.OutcomeSpared, false)}, nil},
		"still on":                  {[]vmState{vm("a", on, record("r", true)), before[1], before[2]}, ours, []string{"and is poweredOn"}},
		"annotation only claimed":   {[]vmState{vm("a", off, ""), before[1], before[2]}, ours, []string{"annotated: yes"}},
		"annotated by another":      {[]vmState{vm("a", off, record("x", true)), before[1], before[2]}, ours, []string{"round x"}},
		"forced is not recorded":    {[]vmState{vm("a", off, record("r", false)), before[1], before[2]}, ours, []string{"forced no"}},
		"an attribute that is none": {[]vmState{vm("a", off, "{"), before[1], before[2]}, ours, []string{"no JSON"}},
		"one went unreported":       {[]vmState{vm("a", off, record("r", true)), vm("b", off, ""), before[2]}, ours, []string{"b is poweredOff and was poweredOn"}},
		"one came unreported":       {[]vmState{vm("a", off, record("r", true)), before[1], vm("c", on, "")}, ours, []string{"c is poweredOn"}},
		"one annotated unreported":  {[]vmState{vm("a", off, record("r", true)), vm("b", on, "{}"), before[2]}, ours, []string{"b got the custom attribute"}},
		"one is gone":               {[]vmState{vm("a", off, record("r", true)), before[1]}, ours, []string{"c no longer exists"}},
		"one is new":                {[]vmState{vm("a", off, record("r", true)), before[1], before[2], vm("d", on, "")}, ours, []string{"d was not there"}},
		"claimed twice": {
			[]vmState{vm("a", off, record("r", true)), before[1], before[2]}, append(ours, ours...), []string{"a is in the result twice"},
		},
		"claimed and unknown": {
			[]vmState{vm("a", off, record("r", true)), before[1], before[2]},
			append([]preempt.VMOutcome{target("z", preempt.OutcomePoweredOff, true)}, ours...),
			[]string{"z is reported powered_off"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := mismatches(before, tc.after, preempt.RoundResult{RoundID: "r", Tag: "t", Criticality: "HIGH", Targets: tc.targets})
			if len(got) != len(tc.want) {
				t.Fatalf("got %q, want %q", got, tc.want)
			}
			for i := range got {
				if !strings.Contains(got[i], tc.want[i]) {
					t.Errorf("got %q, want %q", got[i], tc.want[i])
				}
			}
		})
	}
}
