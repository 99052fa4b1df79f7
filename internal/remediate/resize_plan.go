package remediate

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// PlanInput is a request to plan for.
type PlanInput struct {
	Request placement.Request `json:"request"`
	By      string            `json:"by"` // the asking; see ledger.RemedyFactsRequest
	// Without are VMs that are not to be moved, and why, by Ref.String.
	Without map[string]string `json:"without,omitempty"`
}

// Verdict is what a plan comes to where there is nothing to be done; an empty state means there is.
type Verdict struct {
	State  remediateapi.State `json:"state,omitempty"`
	Reason string             `json:"reason,omitempty"`
	Quiet  bool               `json:"quiet,omitempty"` // nobody needs to be told
}

// What a resize does.
const (
	doHot = "hot" // add it now
	doTag = "tag" // leave it as a tag
)

// ResizePlan is what to do about a VM in alarm.
type ResizePlan struct {
	Verdict
	Do     string              `json:"do,omitempty"`
	VM     placement.VM        `json:"vm"`
	Sized  placement.Sized     `json:"sized"`
	Before *placement.Hardware `json:"before,omitempty"`
	After  *placement.Hardware `json:"after,omitempty"`
	Until  time.Time           `json:"until,omitzero"` // end of the cooldown
}

// PlanResize looks at the VM and the ledger, and decides. It changes nothing.
func (a *Activities) PlanResize(ctx context.Context, in PlanInput) (plan ResizePlan, err error) {
	defer a.beat(ctx)()
	req := in.Request
	l := look{Activities: a, in: in, what: req.Resize.Resource, cooldown: req.Resize.Cooldown.D()}
	if plan.Verdict, err = a.foreign(ctx, req.Cause); err != nil || plan.State != "" {
		return plan, err
	}
	if plan.Verdict, err = l.vm(ctx); err != nil || plan.State != "" {
		plan.VM, plan.Until = l.found, l.until
		return plan, err
	}
	vm := l.found
	plan.VM, plan.Until = vm, l.until
	plan.Sized = placement.NextSize(vm, *req.Resize)
	s := plan.Sized
	plan.Before = &vm.Hardware
	after := vm.Hardware
	if s.Next > 0 {
		after = changeOf(s.Resource, s.Next).Apply(after)
	}
	plan.After = &after
	plan.Verdict, plan.Do = a.choose(s, req, l)
	return plan, nil
}

// choose turns a size into what to do.
func (a *Activities) choose(s placement.Sized, req placement.Request, l look) (Verdict, string) {
	switch s.Verdict {
	case placement.AtLimit:
		return Verdict{State: remediateapi.AtLimit, Reason: s.Reason}, ""
	case placement.Infeasible:
		return Verdict{State: remediateapi.Infeasible, Reason: s.Reason}, ""
	case placement.Skip:
		return Verdict{State: remediateapi.Skipped, Reason: s.Reason}, ""
	}
	switch {
	case req.DryRun:
		return Verdict{State: remediateapi.Planned, Reason: s.Reason + dryWords(s)}, ""
	case s.Mode == placement.ModeRecommend:
		return Verdict{State: remediateapi.Planned, Reason: s.Reason + "; the mode is recommend"}, ""
	}
	if v := a.held(l.facts, s.Reason); v.State != "" {
		return v, ""
	}
	if s.Hot && s.Mode != placement.ModeTag {
		return Verdict{}, doHot
	}
	return Verdict{}, doTag
}

// PlanCycle looks again when the window is open, for days may have passed: whether the VM is still to be turned off
// and on, by its owner's word and ours, and whether there is anything left to do it for. It changes nothing.
func (a *Activities) PlanCycle(ctx context.Context, in PlanInput) (Verdict, error) {
	defer a.beat(ctx)()
	l := look{Activities: a, in: in}
	v, err := l.vm(ctx)
	if err != nil || v.State != "" {
		return v, err
	}
	change, bad := placement.Difference(l.found)
	switch mode := placement.Mode(l.found); {
	case mode != "" && mode != placement.ModePowerCycle:
		return Verdict{State: remediateapi.Skipped, Reason: "when the window opened, its tag " + placement.CategoryMode + " did not let it be turned off: " + mode}, nil
	case change.Empty():
		return Verdict{State: remediateapi.Skipped, Reason: "when the window opened, nothing was left to turn it off for" + badWords(bad)}, nil
	}
	return a.held(l.facts, changes(l.found.Hardware, change.Apply(l.found.Hardware))), nil
}

// held tells why what was decided is only recommended; empty: it is not.
func (a *Activities) held(f ledger.RemedyFacts, reason string) Verdict {
	switch {
	case a.Settings.Observe:
		return Verdict{State: remediateapi.Planned, Reason: reason + "; the worker only observes (mode: observe)"}
	case !f.Tripped.IsZero():
		return Verdict{State: remediateapi.Planned, Reason: reason + "; " + tripped(a.Settings.PerHour, f.Tripped)}
	}
	return Verdict{}
}

func dryWords(s placement.Sized) string {
	switch {
	case s.Mode == placement.ModeRecommend:
		return "; nothing would be changed: the mode is recommend"
	case s.Mode == placement.ModeTag:
		return "; it would be left as a tag for the next power-off"
	case s.Hot:
		return "; it would be added hot"
	}
	return "; it would be left as a tag for the next power-off: " + s.WhyNot
}

func changeOf(resource string, size int) placement.Change {
	if resource == placement.Memory {
		return placement.Change{MemoryMB: &size}
	}
	return placement.Change{CPUs: &size}
}

// look is what all plans about one VM begin with.
type look struct {
	*Activities
	in       PlanInput
	what     string // for the cooldown; "": it has none
	cooldown time.Duration
	found    placement.VM
	facts    ledger.RemedyFacts
	until    time.Time // end of the cooldown
}

// vm reads the VM, and tells where nothing may be done about it.
func (l *look) vm(ctx context.Context) (Verdict, error) {
	ref, err := l.resolve(ctx)
	if err != nil {
		return Verdict{}, err
	}
	l.found.Ref = ref
	if err := l.ask(ctx, ref); err != nil {
		return Verdict{}, err
	}
	if l.facts.Duplicate {
		return Verdict{State: remediateapi.Skipped, Reason: "the same event was dealt with before", Quiet: true}, nil
	}
	var all map[vsphere.Ref]placement.VM
	if err := l.attempt(ctx, func() (err error) {
		all, err = l.VCenter.Hardware(ctx, []vsphere.Ref{ref})
		return err
	}); err != nil {
		return Verdict{}, step.Typed(err)
	}
	vm, ok := all[ref]
	if !ok {
		return Verdict{State: remediateapi.Infeasible, Reason: "the VM does not exist (any more)"}, nil
	}
	l.found = vm
	if reason := l.decline(vm); reason != "" {
		return Verdict{State: remediateapi.Skipped, Reason: reason}, nil
	}
	if last, ok := l.facts.Last[ref.String()+"|"+l.what]; ok && l.what != "" && !l.in.Request.DryRun {
		if until := last.Add(l.cooldown); until.After(l.facts.Now) {
			l.until = until.UTC()
			return Verdict{State: remediateapi.Skipped, Reason: cooling(until)}, nil
		}
	}
	return Verdict{}, nil
}

// resolve finds the VM that a person named.
func (l *look) resolve(ctx context.Context) (ref vsphere.Ref, err error) {
	req := l.in.Request
	if !req.VM.Zero() {
		return req.VM, nil
	}
	err = l.attempt(ctx, func() (err error) {
		ref, err = l.VCenter.FindVM(ctx, req.Target)
		return err
	})
	return ref, step.Typed(err)
}

// ask reads what the ledger knows. A dry run leaves no trace there.
func (l *look) ask(ctx context.Context, vms ...vsphere.Ref) (err error) {
	req := ledger.RemedyFactsRequest{RequestID: l.in.Request.ID, By: l.in.By, PerHour: l.Settings.PerHour}
	if l.in.Request.DryRun {
		req.RequestID = ""
	}
	for _, vm := range vms {
		req.VMs = append(req.VMs, vm.String())
	}
	if l.facts, err = l.Ledger.RemedyFacts(ctx, req); err != nil {
		return fmt.Errorf("ask the ledger: %w", err)
	}
	return nil
}

// notOurs tells why a VM is none that may be changed at all.
func (a *Activities) notOurs(vm placement.VM) string {
	return placement.Owner(vm, a.Settings.NeverTouch, a.Settings.Self, a.VCenter.Addresses())
}

// decline tells why a VM is never touched.
func (a *Activities) decline(vm placement.VM) string {
	return cmp.Or(a.notOurs(vm), placement.Decline(vm))
}

// TakeVM reserves a VM in the ledger, or tells why not.
func (a *Activities) TakeVM(ctx context.Context, r ledger.RemedyRequest) (ledger.RemedyGrant, error) {
	return a.Ledger.Remedy(ctx, r)
}

// ReleaseVM gives it back.
func (a *Activities) ReleaseVM(ctx context.Context, r ledger.RemediedRequest) error {
	return a.Ledger.Remedied(ctx, r)
}
