package standalone

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// errMismatch tells that vCenter contradicts the reported result.
var errMismatch = errors.New("vCenter contradicts the reported result")

// check compares what vCenter says of every VM with what was reported, and says so.
func (a *act) check(r preemptapi.RoundResult) error {
	after := states(a.vcenter)
	wrong := mismatches(a.before, after, r)
	for _, text := range wrong {
		a.out.say("mismatch", "%s", text)
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%w in %d points, listed above", errMismatch, len(wrong))
	}
	n := len(r.Preempted())
	a.out.say("checked", "vCenter agrees with the result about all %d VMs: %d are off and annotated, %d are as before", len(after), n, len(after)-n)
	return nil
}

// mismatches lists every point in which vCenter's word about a VM differs from the result: the VMs that the round
// claims must be off and carry its attribute, all others must be as they were.
func mismatches(before, after []vmState, r preemptapi.RoundResult) (wrong []string) {
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	claims := map[vsphere.Ref]preemptapi.VMOutcome{}
	for _, t := range r.Targets {
		if _, twice := claims[t.Ref]; twice {
			add("%s is in the result twice", t.Name)
		}
		claims[t.Ref] = t
	}
	now := map[types.ManagedObjectReference]vmState{}
	for _, vm := range after {
		now[vm.Ref] = vm
	}
	for _, was := range before {
		is, exists := now[was.Ref]
		claim := claims[ref(was.Ref)]
		delete(claims, ref(was.Ref))
		delete(now, was.Ref)
		switch {
		case !exists:
			add("%s no longer exists", was.Name)
		case claim.Outcome.Ours():
			wrong = append(wrong, claimed(is, claim, r)...)
		default:
			wrong = append(wrong, unchanged(was, is)...)
		}
	}
	for _, t := range r.Targets {
		if _, left := claims[t.Ref]; left {
			add("%s is reported %s, and vCenter does not know it", t.Name, t.Outcome)
		}
	}
	for _, vm := range after {
		if _, extra := now[vm.Ref]; extra {
			add("%s was not there before", vm.Name)
		}
	}
	return wrong
}

// claimed checks a VM that the round says it has turned off or throttled.
func claimed(vm vmState, claim preemptapi.VMOutcome, r preemptapi.RoundResult) (wrong []string) {
	add := func(format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf("%s is reported %s, ", vm.Name, claim.Outcome)+fmt.Sprintf(format, args...))
	}
	want := types.VirtualMachinePowerStatePoweredOff
	if claim.Outcome.StaysOn() {
		want = types.VirtualMachinePowerStatePoweredOn
	}
	if vm.Power != want {
		add("and is %s", vm.Power)
	}
	if claim.Annotated != (vm.Attribute != "") {
		add("annotated: %s, and carries the attribute: %s", yes(claim.Annotated), yes(vm.Attribute != ""))
	}
	if vm.Attribute == "" || !claim.Annotated {
		return wrong
	}
	var a preempt.Attribute
	if err := json.Unmarshal([]byte(vm.Attribute), &a); err != nil {
		add("and its attribute is no JSON: %v", err)
		return wrong
	}
	if !a.Preempted || a.RoundID != r.RoundID || a.Tag != r.Tag || a.Criticality != r.Criticality || a.ForcedShutdown != claim.Forced {
		add("and its attribute tells otherwise: preempted %s, round %s, tag %s, criticality %s, forced %s",
			yes(a.Preempted), a.RoundID, a.Tag, a.Criticality, yes(a.ForcedShutdown))
	}
	return wrong
}

// unchanged checks a VM that the round does not claim.
func unchanged(was, is vmState) (wrong []string) {
	if is.Power != was.Power {
		wrong = append(wrong, fmt.Sprintf("%s is %s and was %s, and nothing is reported of it", is.Name, is.Power, was.Power))
	}
	if is.Attribute != was.Attribute {
		wrong = append(wrong, fmt.Sprintf("%s got the custom attribute, and nothing is reported of it", is.Name))
	}
	return wrong
}
