package vcenter

import (
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

const owner = "owner@vsphere.local"

func TestATouchOfOthersIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		event string
		made  func(types.VmEvent) types.BaseEvent
	}{
		"reset":        {"VmResettingEvent", func(e types.VmEvent) types.BaseEvent { return &types.VmResettingEvent{VmEvent: e} }},
		"reconfigured": {"VmReconfiguredEvent", func(e types.VmEvent) types.BaseEvent { return &types.VmReconfiguredEvent{VmEvent: e} }},
		"given more memory": {"VmReconfiguredEvent", func(e types.VmEvent) types.BaseEvent {
			return &types.VmReconfiguredEvent{VmEvent: e, ConfigSpec: types.VirtualMachineConfigSpec{MemoryMB: 4096, Annotation: "mine"}}
		}},
		"given another network": {"VmReconfiguredEvent", func(e types.VmEvent) types.BaseEvent {
			return &types.VmReconfiguredEvent{VmEvent: e, ConfigSpec: devices(&types.VirtualVmxnet3{})}
		}},
		"renamed": {"VmRenamedEvent", func(e types.VmEvent) types.BaseEvent { return &types.VmRenamedEvent{VmEvent: e} }},
		"reverted": {reverted, func(e types.VmEvent) types.BaseEvent {
			return &types.EventEx{Event: e.Event, EventTypeId: reverted}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			v, g := warm(t, small())
			ref := taggedRefs(v)[0]
			since, err := g.ServerTime(t.Context())
			check(t, err)
			check(t, v.TouchAs(toMoRef(ref), owner, c.made))
			touched, err := g.TouchedSince(t.Context(), []vsphere.Ref{ref}, since)
			check(t, err)
			if touch := touched[ref]; touch.Ours || touch.Event != c.event || touch.User != `VSPHERE.LOCAL\owner` {
				t.Errorf("touched %+v", touch)
			}
		})
	}
}

func TestWhatWeDoIsNoTouchOfOthers(t *testing.T) {
	v, g := warm(t, many(6))
	refs, got := taggedRefs(v), newReports(t)
	check(t, v.PowerOffAs(toMoRef(refs[4]), owner))
	since := time.Now().Add(time.Millisecond)
	time.Sleep(2 * time.Millisecond)
	check(t, g.AwaitOff(t.Context(), powerOffAll(t, g, refs[:1]), got.add))
	check(t, g.SetGuestInfo(t.Context(), refs[0], noticeKey, "x"))
	check(t, g.SetGuestInfo(t.Context(), refs[1], noticeKey, "x"))
	check(t, v.ReconfigureAs(toMoRef(refs[1]), owner))
	check(t, g.ClearGuestInfo(t.Context(), refs[1], noticeKey))
	check(t, v.PowerOffAs(toMoRef(refs[2]), owner))
	check(t, v.PowerOnAs(toMoRef(refs[2]), owner))
	check(t, v.PowerOffAs(toMoRef(refs[3]), "")) // from within the guest
	touched, err := g.TouchedSince(t.Context(), append(refs, gone), since)
	check(t, err)
	if touch := touched[refs[0]]; !touch.Ours || touch.Event != "VmReconfiguredEvent" || touch.Time.Before(since) {
		t.Errorf("ours: %+v", touch)
	}
	if touch := touched[refs[1]]; touch.Ours || touch.Event != "VmReconfiguredEvent" || touch.User != `VSPHERE.LOCAL\owner` {
		t.Errorf("reconfigured between our notice and its end: %+v", touch)
	}
	if touch := touched[refs[2]]; touch.Ours || touch.Event != "VmPoweredOnEvent" {
		t.Errorf("powered on by its owner: %+v", touch)
	}
	if len(touched) != 3 {
		t.Errorf("touched %+v", touched)
	}
}

func TestTouchesCostTheSameForAnyNumber(t *testing.T) {
	for _, n := range []int{1, 40} {
		v, g := warm(t, many(n))
		for _, ref := range taggedRefs(v) {
			check(t, v.ReconfigureAs(toMoRef(ref), owner))
		}
		v.ResetCalls()
		touched, err := g.TouchedSince(t.Context(), taggedRefs(v), time.Now().Add(-time.Minute))
		check(t, err)
		if len(touched) != n {
			t.Errorf("%d of %d are touched", len(touched), n)
		}
		wantCalls(t, v, 4)
	}
}
