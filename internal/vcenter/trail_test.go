package vcenter

import (
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

func TestTrail(t *testing.T) {
	const us, them = `VSPHERE.LOCAL\preemption`, `VSPHERE.LOCAL\owner`
	by := func(user string) types.VmEvent {
		return types.VmEvent{Event: types.Event{Key: 7, UserName: user, CreatedTime: time.Unix(1, 0)}}
	}
	offBy := func(user string) types.BaseEvent { return &types.VmPoweredOffEvent{VmEvent: by(user)} }
	shutdownBy := func(user string) types.BaseEvent { return &types.VmGuestShutdownEvent{VmEvent: by(user)} }
	cases := map[string]struct {
		events []types.BaseEvent
		event  string
		ours   bool
	}{
		"we powered it off":                        {[]types.BaseEvent{&types.VmStoppingEvent{VmEvent: by(us)}, offBy(us)}, "VmPoweredOffEvent", true},
		"somebody else did":                        {[]types.BaseEvent{offBy(them)}, "VmPoweredOffEvent", false},
		"the guest went by itself":                 {[]types.BaseEvent{offBy("")}, "VmPoweredOffEvent", false},
		"the guest went after our shutdown":        {[]types.BaseEvent{shutdownBy(us), offBy("")}, "VmPoweredOffEvent", true},
		"the guest went after theirs":              {[]types.BaseEvent{shutdownBy(them), offBy("")}, "VmPoweredOffEvent", false},
		"they cut the power after our shutdown":    {[]types.BaseEvent{shutdownBy(us), offBy(them)}, "VmPoweredOffEvent", false},
		"we asked, it has not gone yet":            {[]types.BaseEvent{shutdownBy(us)}, "", false},
		"it went, and our request comes after it":  {[]types.BaseEvent{offBy(""), shutdownBy(us)}, "VmPoweredOffEvent", true},
		"it went, and their request comes after":   {[]types.BaseEvent{offBy(""), shutdownBy(them)}, "VmPoweredOffEvent", false},
		"ours, then on again":                      {[]types.BaseEvent{offBy(us), &types.VmPoweredOnEvent{VmEvent: by(them)}}, "", false},
		"ours, on again, then by itself":           {[]types.BaseEvent{shutdownBy(us), offBy(""), &types.DrsVmPoweredOnEvent{}, offBy("")}, "VmPoweredOffEvent", false},
		"we suspended it":                          {[]types.BaseEvent{&types.VmSuspendingEvent{VmEvent: by(us)}, &types.VmSuspendedEvent{VmEvent: by(us)}}, "VmSuspendedEvent", true},
		"our name in another dress":                {[]types.BaseEvent{offBy("Preemption@vsphere.local")}, "VmPoweredOffEvent", true},
		"our name in another domain is not us":     {[]types.BaseEvent{offBy("preemption@corp.example")}, "VmPoweredOffEvent", false},
		"a user whose name only starts like ours":  {[]types.BaseEvent{offBy(us + "2")}, "VmPoweredOffEvent", false},
		"both asked, the guest went: ours as well": {[]types.BaseEvent{shutdownBy(us), shutdownBy(them), offBy("")}, "VmPoweredOffEvent", true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			tr := &trail{us: account(us)}
			for _, e := range c.events {
				tr.add(e)
			}
			if tr.evidence.Event != c.event || tr.evidence.Ours != c.ours {
				t.Errorf("got %q ours %v, want %q ours %v", tr.evidence.Event, tr.evidence.Ours, c.event, c.ours)
			}
			if c.event != "" && tr.evidence.ChainOrKey != 7 {
				t.Errorf("key %d", tr.evidence.ChainOrKey)
			}
		})
	}
	t.Run("before we know who we are nothing is ours", func(t *testing.T) {
		tr := &trail{}
		tr.add(shutdownBy(""))
		tr.add(offBy(""))
		if tr.evidence.Ours {
			t.Error("claimed")
		}
	})
}
