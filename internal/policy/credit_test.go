package policy

import (
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestAVMThatIsBackIsNoLongerCreditedWhoeverPoweredItOn(t *testing.T) {
	host, vm := vsphere.Ref{Type: vsphere.TypeHost, Value: "host-1"}, vsphere.Ref{Type: vsphere.TypeVM, Value: "vm-1"}
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	s := vsphere.Snapshot{Time: now, Hosts: []vsphere.Host{{Ref: host, Connected: true, CPUMHz: 10000, CPUUsedMHz: 9000, MemoryMB: 1000}}}
	for name, c := range map[string]struct {
		state string
		at    time.Time
		want  int64
	}{
		"still off":                        {vsphere.PoweredOff, now.Add(-30 * time.Second), 5000},
		"on again":                         {vsphere.PoweredOn, now.Add(-30 * time.Second), 9000},
		"it went while the state was read": {vsphere.PoweredOn, now.Add(-time.Second), 5000},
	} {
		s.VMs = []vsphere.VM{{Ref: vm, PowerState: c.state}}
		d := Demand{Credits: []Credit{{VM: vm, At: c.at, Host: host, CPUMHz: 4000}}}
		if u := usageOf(&s, &d, host); u.CPU.After != c.want {
			t.Errorf("%s: the host uses %d MHz, want %d", name, u.CPU.After, c.want)
		}
	}
}
