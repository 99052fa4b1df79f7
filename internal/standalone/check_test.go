package standalone

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
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

func target(name string, outcome action.Outcome, annotated bool) preemptapi.VMOutcome {
	return preemptapi.VMOutcome{Ref: vsphere.Ref{Type: "VirtualMachine", Value: name}, Name: name, Outcome: outcome, Forced: outcome == action.PoweredOff, Annotated: annotated}
}

func TestMismatches(t *testing.T) {
	before := []vmState{vm("a", on, ""), vm("b", on, ""), vm("c", off, "")}
	ours := []preemptapi.VMOutcome{target("a", action.PoweredOff, true)}
	tests := map[string]struct {
		after   []vmState
		targets []preemptapi.VMOutcome
		want    []string // a part of each mismatch
	}{
		"as reported": {[]vmState{vm("a", off, record("r", true)), before[1], before[2]}, ours, nil},
		"off and honestly not annotated": {
			[]vmState{vm("a", off, ""), before[1], before[2]},
			[]preemptapi.VMOutcome{target("a", action.PoweredOff, false)},
			nil,
		},
		"spared and untouched":      {before, []preemptapi.VMOutcome{target("a", action.Spared, false)}, nil},
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
			append([]preemptapi.VMOutcome{target("z", action.PoweredOff, true)}, ours...),
			[]string{"z is reported powered_off"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := mismatches(before, tc.after, preemptapi.RoundResult{RoundID: "r", Tag: "t", Criticality: "HIGH", Targets: tc.targets})
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
