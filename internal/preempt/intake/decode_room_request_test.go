package intake

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
)

func roomSettings() preempt.Settings {
	set := preempt.DefaultSettings()
	set.MakeRoom.MaxCPUs, set.MakeRoom.MaxMemoryMB = 16, 64<<10
	return set
}

func TestARequestForRoomIsCheckedAgainstTheFile(t *testing.T) {
	a := &Activities{Env: &preempt.Env{Settings: roomSettings()}}
	for name, c := range map[string]struct{ text, refused string }{
		"as it should be":      {`{"id":"1","room":{"for":"db-1"},"tag":"preemptible","criticality":"HIGH","powerOn":true,"hold":"1h"}`, ""},
		"sizes":                {`{"id":"1","room":{"cpus":16,"memoryMB":65536,"cluster":"domain-c7"},"tag":"preemptible","criticality":"LOW"}`, ""},
		"rubbish":              {`{"room":`, "no RoomRequest"},
		"no room":              {`{"id":"1","tag":"preemptible","criticality":"HIGH"}`, "room is missing"},
		"no id":                {`{"room":{"for":"db-1"},"tag":"preemptible","criticality":"HIGH"}`, "id is missing"},
		"too many CPUs":        {`{"id":"1","room":{"cpus":17},"tag":"preemptible","criticality":"HIGH"}`, "makeRoom.maxCPUs"},
		"too much memory":      {`{"id":"1","room":{"memoryMB":65537},"tag":"preemptible","criticality":"HIGH"}`, "makeRoom.maxMemoryMB"},
		"an unknown policy":    {`{"id":"1","room":{"for":"db-1"},"tag":"preemptible","criticality":"HIGH","policy":"nosuch"}`, "unknown policy"},
		"a hold for days":      {`{"id":"1","room":{"for":"db-1"},"tag":"preemptible","criticality":"HIGH","hold":"72h"}`, "no duration of up to"},
		"a wait without end":   {`{"id":"1","room":{"for":"db-1"},"tag":"preemptible","criticality":"HIGH","wait":"-1s"}`, "no duration of up to"},
		"another task queue":   {`{"id":"1","room":{"for":"db-1"},"tag":"preemptible","criticality":"HIGH","taskQueue":"other"}`, "meant for task queue"},
		"an event that is bad": {`{"id":"1","room":{"for":"db-1"},"tag":"preemptible","criticality":"HIGH","event":{"id":"x"}}`, "CloudEvent"},
		"a long rule":          {`{"id":"1","room":{"for":"db-1"},"tag":"preemptible","criticality":"HIGH","rule":"` + strings.Repeat("x", 513) + `"}`, "at most 512 bytes"},
	} {
		d, err := a.DecodeRoom(json.RawMessage(c.text))
		if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: %v, want %q", name, err, c.refused)
		}
		if err == nil && (d.Hold <= 0 || d.Wait.D() != 10*time.Minute || len(d.Demand.Rooms) != 1 || d.Demand.RequestID != "id|1") {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestRoomIsMadeByTheFirstStepThatTurnsVMsOff(t *testing.T) {
	set := roomSettings()
	p := policy.Default()
	p.Criticality.High = policy.Treatment{Action: action.Throttle}
	p.Criticality.Medium = policy.Treatment{Steps: []policy.Step{{Action: action.Throttle}, {Action: action.Suspend}, {Action: action.PowerOff}}}
	set.Policies = map[string]policy.Policy{"default": p}
	a := &Activities{Env: &preempt.Env{Settings: set}}
	if _, err := a.DecodeRoom(json.RawMessage(`{"id":"1","room":{"for":"db-1"},"tag":"preemptible","criticality":"HIGH"}`)); err == nil || !strings.Contains(err.Error(), "makes no room") {
		t.Errorf("a throttle makes room: %v", err)
	}
	d, err := a.DecodeRoom(json.RawMessage(`{"id":"1","room":{"for":"db-1"},"tag":"preemptible","criticality":"MEDIUM"}`))
	if got := d.Demand.Policy.Criticality.Medium; err != nil || got.Action != action.Suspend || len(got.Steps) > 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzDecodeRoom(f *testing.F) {
	f.Add([]byte(`{"id":"1","room":{"for":"db-1"},"tag":"preemptible","criticality":"HIGH","powerOn":true,"hold":"1h","event":{"specversion":"1.0","id":"1","source":"s","type":"t"}}`))
	f.Add([]byte(`{"id":"1","room":{"cpus":4,"memoryMB":1024,"cluster":"ClusterComputeResource:domain-c7"},"tag":"a:b","criticality":"low","rule":"r","forTag":"critical"}`))
	f.Add([]byte(`{"id":"1","room":{"cpus":4,"hosts":3,"cluster":"domain-c7"},"tag":"spot","criticality":"low"}`))
	a := &Activities{Env: &preempt.Env{Settings: roomSettings()}}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := a.DecodeRoom(data)
		if err != nil {
			return
		}
		if n := len(d.Demand.Rooms); n < 1 || n > 16 || n > 1 && n != d.Demand.Rooms[0].Hosts || d.Hold < 0 || d.Wait < 0 || d.Demand.Rooms[0].CPUs > 16 || d.Demand.Rooms[0].MemoryMB > 64<<10 ||
			d.PowerOn && d.Demand.Rooms[0].For == "" || len(d.Demand.Event) > preemption.MaxRequestBytes {
			t.Errorf("%s was taken as %+v", data, d)
		}
	})
}
