package vcenter

import (
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestEvidenceTellsOursFromTheirs(t *testing.T) {
	for name, form := range map[string]simulation.UserForm{"DOMAIN\\user": simulation.DomainForm, "user@domain": simulation.PrincipalForm} {
		t.Run(name, func(t *testing.T) {
			o := many(6)
			o.UserForm = form
			v, g := warm(t, o)
			refs, got := taggedRefs(v), newReports(t)
			since, err := g.ServerTime(t.Context())
			check(t, err)
			waits := powerOffAll(t, g, refs[:1])
			check(t, v.PowerOffAs(toMoRef(refs[1]), "owner@vsphere.local"))
			check(t, g.ShutdownGuest(t.Context(), refs[2]))
			check(t, v.PowerOffAs(toMoRef(refs[3]), "")) // from within the guest
			waits = append(waits, powerOffAll(t, g, refs[4:5])...)
			check(t, g.AwaitOff(t.Context(), append(waits, Wait{VM: refs[2]}), got.add))
			check(t, v.PowerOnAs(toMoRef(refs[4]), "owner@vsphere.local"))

			v.ResetCalls()
			var found map[vsphere.Ref]Evidence
			eventually(t, "the events are there", func() bool {
				found, err = g.PowerOffEvidence(t.Context(), append(refs, gone), since)
				check(t, err)
				return found[refs[0]].Ours && found[refs[2]].Event == "VmPoweredOffEvent"
			})
			if e := found[refs[0]]; e.Event != "VmPoweredOffEvent" || e.User != v.EventUser() || e.ChainOrKey == 0 || e.Time.Before(since.Add(-time.Minute)) {
				t.Errorf("ours: %+v", e)
			}
			if e := found[refs[1]]; e.Ours || e.User == "" {
				t.Errorf("the owner's: %+v", e)
			}
			if e := found[refs[2]]; !e.Ours || e.User != "" {
				t.Errorf("our guest shutdown: %+v", e)
			}
			if e := found[refs[3]]; e.Ours || e.Event == "" {
				t.Errorf("the guest's own: %+v", e)
			}
			for _, r := range []vsphere.Ref{refs[4], refs[5], gone} {
				if e, ok := found[r]; ok {
					t.Errorf("%v has evidence %+v", r, e)
				}
			}
		})
	}
}

func TestEvidenceOfBeforeDoesNotCount(t *testing.T) {
	v, g := warm(t, small())
	ref := taggedRefs(v)[0]
	check(t, v.PowerOffAs(toMoRef(ref), v.Username()))
	found, err := g.PowerOffEvidence(t.Context(), []vsphere.Ref{ref}, time.Now().Add(time.Hour))
	check(t, err)
	if len(found) != 0 {
		t.Errorf("found %v", found)
	}
}

func TestEvidenceCostsTheSameForAnyNumber(t *testing.T) {
	v, g := warm(t, many(40))
	refs, got := taggedRefs(v), newReports(t)
	check(t, g.AwaitOff(t.Context(), powerOffAll(t, g, refs), got.add))
	v.ResetCalls()
	found, err := g.PowerOffEvidence(t.Context(), refs, time.Now().Add(-time.Minute))
	check(t, err)
	if len(found) != len(refs) {
		t.Errorf("evidence of %d of %d", len(found), len(refs))
	}
	wantCalls(t, v, 5) // also when the destruction of the wait's collector came late
}

func TestCollectorsAreGivenBack(t *testing.T) {
	v, g := warm(t, small())
	for range 40 { // vCenter allows 32
		_, err := g.PowerOffEvidence(t.Context(), taggedRefs(v), time.Now())
		check(t, err)
	}
}

func TestAGuestThatWentOffIsOursAlthoughOurRequestComesAfterItsEnd(t *testing.T) {
	v, g := warm(t, many(1))
	ref, got := taggedRefs(v)[0], newReports(t)
	since, err := g.ServerTime(t.Context())
	check(t, err)
	v.LagEvents(simulation.LagOf(2*time.Second, "VmGuestShutdownEvent"))
	check(t, g.ShutdownGuest(t.Context(), ref))
	check(t, g.AwaitOff(t.Context(), []Wait{{VM: ref}}, got.add))
	found, err := g.AwaitEvidence(t.Context(), []vsphere.Ref{ref}, since)
	check(t, err)
	if e := found[ref]; !e.Ours || e.Event == "" || e.Asked.IsZero() {
		t.Errorf("evidence %+v", e)
	}
}
