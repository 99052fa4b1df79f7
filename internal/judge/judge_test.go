package judge

import (
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestTheLastRoundIsThatOfTheVMsOwnClusterWhereThatIsKnown(t *testing.T) {
	cluster := func(id string) vsphere.Ref { return vsphere.Ref{Type: vsphere.TypeCluster, Value: id} }
	vm := vsphere.Ref{Type: vsphere.TypeVM, Value: "vm-1"}
	entries := []record.Entry{ // newest first
		{Kind: record.Round, ID: "of-b", Alarm: "cpu", Cluster: cluster("b")},
		{Kind: record.Restore, ID: "restore", Cluster: cluster("a"), VMs: []record.VM{{Ref: vm}}},
		{Kind: record.Round, ID: "of-a", Alarm: "memory", Cluster: cluster("a"), VMs: []record.VM{{Ref: vm}}},
	}
	for _, c := range []struct {
		vm, alarm, want string
		home            bool
	}{{"vm-1", "", "of-a", true}, {"vm-2", "", "of-b", false}, {"vm-1", "CPU", "of-b", false}, {"vm-1", "disk", "", false}} {
		last, home := LastRound(entries, c.alarm, vsphere.Ref{Type: vsphere.TypeVM, Value: c.vm})
		got := ""
		if last != nil {
			got = last.ID
		}
		if got != c.want || home != c.home {
			t.Errorf("%s of alarm %q: %s, home %v", c.vm, c.alarm, got, home)
		}
	}
}
