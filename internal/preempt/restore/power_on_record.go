package restore

import (
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// claimOn records a VM that we powered on, in its attribute too.
func (p *powering) claimOn(t policy.Return, at time.Time) {
	vm := preemptapi.RestoredVM{Return: t, Outcome: preemptapi.OutcomeRestored, OnAt: at.UTC()}
	value, err := p.restoredValue(t.Ref, vm.OnAt)
	p.recordAndDecide(vm, value, err)
}

// recordAndDecide writes a VM's attribute, and decides about the VM when that is done or given up. It holds up no other VM. err is
// why there is no value to write.
func (p *powering) recordAndDecide(vm preemptapi.RestoredVM, value string, err error) {
	p.recorded.Go(func() {
		if err == nil {
			err = p.writeRecord(vm.Ref, value)
		}
		vm.Annotated = err == nil
		p.MarkChanged()
		if err != nil {
			vm.AnnotationError = err.Error()
		}
		p.decide(vm)
	})
}

// writeRecord writes a VM's attribute. This restore writes it once and comes back to it no more, so it tries for about a minute what
// may succeed later: the record of a VM that is on would say that it was preempted until the next restore of its scope. A cancelled
// restore does not wait for that.
func (p *powering) writeRecord(ref vsphere.Ref, value string) error {
	write := func() error {
		return p.AttemptThrough(p.Ctx, func() error { return p.VCenter.Annotate(p.Ctx, ref, preemption.AttributeKey, value) })
	}
	err := write()
	for _, pause := range p.Settings.Timing.RecordPauses() {
		if !vcenter.KindOf(err).Retryable() {
			return err
		}
		clock.Sleep(p.Asked, pause) // a worker that stops tries at once
		if p.Cancelled() {
			return err
		}
		err = write()
	}
	return err
}

// restoredValue is the attribute of a VM that came back: what was there, whoever wrote it, and by what and when it
// was restored.
func (p *powering) restoredValue(ref vsphere.Ref, at time.Time) (string, error) {
	return p.valueWith(ref, map[string]any{
		"preempted": false, "restored": true, "restoredAt": at, "restoredBy": p.in.By, "restoreID": p.in.RestoreID,
	})
}

func (p *powering) decideAll(targets []policy.Return, what preemptapi.RestoreOutcome, reason policy.Explanation) {
	for _, t := range targets {
		p.decide(preemptapi.RestoredVM{Return: t, Outcome: what, Reason: reason})
	}
}

// notRestored decides that powering a VM on failed; again: for a reason that may pass.
func (p *powering) notRestored(t policy.Return, reason string, again bool) {
	p.decide(preemptapi.RestoredVM{Return: t, Outcome: preemptapi.OutcomeNotRestored, Reason: policy.InWords(reason), Again: again})
}

func (p *powering) decide(vm preemptapi.RestoredVM) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.result.VMs = append(p.result.VMs, vm)
	p.Logger(p.Asked).Info("decided", "alarm", p.in.By, "vm", vm.Name, "moref", vm.Ref.Value, "outcome", vm.Outcome, "reason", vm.Reason.String(), "annotated", vm.Annotated)
}

func returnRefs(list []policy.Return) []vsphere.Ref {
	refs := make([]vsphere.Ref, 0, len(list))
	for _, t := range list {
		refs = append(refs, t.Ref)
	}
	return refs
}
