package round

import (
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestARefusedAttributeIsWrittenLaterWhereTheVMIsStillOff(t *testing.T) {
	b := newBench(t, 3)
	b.vc.Fail = vcentertest.Failing("Annotate", vcenter.Unknown, 100)
	outcomes := b.evict(b.order(action.PowerOff)).Outcomes
	b.vc.Set(2, func(vm *vcentertest.VM) { vm.PowerState = vsphere.PoweredOn })
	b.vc.Fail = vcentertest.Failing("Annotate", vcenter.Unknown, 0)
	in := AnnotateInput{RoundID: "round-1", VMs: outcomes, Attribute: b.order(action.PowerOff).Attribute}
	res, err := do[AnnotateResult](b, b.acts.AnnotateVMs, in)
	if err != nil || res.Again || len(res.Outcomes) != 3 {
		t.Fatalf("%+v, %v", res, err)
	}
	for i := 1; i <= 3; i++ {
		if o := of(t, res.Outcomes, i); o.Annotated != (i != 2) || (o.AnnotationError == "") != (i != 2) || o.Outcome != action.PoweredOff {
			t.Errorf("VM %d: %+v", i, o)
		}
	}
	if a := b.record(3); !a.Preempted || a.RoundID != "round-1" {
		t.Errorf("VM 3 carries %+v", a)
	}
}

func TestAnAttributeIsTriedAgainOnlyWhereThatMayHelp(t *testing.T) {
	for kind, again := range map[vcenter.Kind]bool{vcenter.Busy: true, vcenter.NoPermission: false} {
		b := newBench(t, 1)
		b.vc.Fail = vcentertest.Failing("Annotate", kind, 100)
		in := AnnotateInput{VMs: b.evict(b.order(action.PowerOff)).Outcomes}
		res, err := do[AnnotateResult](b, b.acts.AnnotateVMs, in)
		if err != nil || res.Again != again || of(t, res.Outcomes, 1).Annotated || of(t, res.Outcomes, 1).AnnotationError == "" {
			t.Errorf("%s: %+v, %v", kind, res, err)
		}
	}
}

func TestARoundWritesRefusedAttributesBeforeItEnds(t *testing.T) {
	for name, c := range map[string]struct {
		succeeds, tries int // at which try; how many there are
		again           bool
		reason          string
	}{
		"at the second try": {2, 2, true, ""},
		"never":             {9, 3, true, "4 of 4 VMs could not be annotated"},
		"refused for good":  {9, 1, false, "4 of 4 VMs could not be annotated"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoundRun(t, 4, preemption.CriticalityHigh)
			r.onEvict = func(in ActInput, out *ActResult) error {
				for _, t := range in.Targets {
					o := outcome(t, action.PoweredOff)
					o.AnnotationError = "refused"
					out.Outcomes = append(out.Outcomes, o)
				}
				return nil
			}
			r.onAnnotate = func(in AnnotateInput) AnnotateResult {
				for i := range in.VMs {
					in.VMs[i].Annotated = len(r.annotations) >= c.succeeds
				}
				return AnnotateResult{Outcomes: in.VMs, Again: c.again && len(r.annotations) < c.succeeds}
			}
			res := r.run()
			if res.State != preemptapi.RoundCompleted || res.Reason != c.reason || len(r.annotations) != c.tries || len(r.completed) != 1 {
				t.Errorf("%s after %d tries: %q", res.State, len(r.annotations), res.Reason)
			}
		})
	}
}
