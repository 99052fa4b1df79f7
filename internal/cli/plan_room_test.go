package cli_test

import (
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// fakeRoom plans room: for huge there is none, for free it is there already.
func fakeRoom(r *preemptapi.RoundResult, room preemption.Room) {
	host := vsphere.Ref{Type: vsphere.TypeHost, Value: "host-1"}
	r.Rooms = []policy.RoomPlan{{Host: host, HostName: "esx-1", Enough: true, Hosts: []policy.RoomOption{
		{Host: host, Name: "esx-1", Targets: []vsphere.Ref{ref("vm-2")}, Priority: 10, OfPriority: 1, Beyond: policy.Resources{CPUMHz: 500, MemoryMB: 1024}},
		{Host: host, Name: "esx-2", Why: "it is in maintenance"},
	}}}
	switch {
	case room.For == "huge" || room.MemoryMB > 1<<20:
		r.Rooms = []policy.RoomPlan{{Refusal: "none of 2 hosts can have it", Hosts: r.Rooms[0].Hosts[1:]}}
	case room.For == "free" || room.Cluster == "domain-c7" && room.CPUs == 16 && room.MemoryMB == 128<<10:
		r.Rooms[0].HostName = "esx-3"
	case room.Hosts > 1:
		r.Rooms = append(r.Rooms, policy.RoomPlan{Host: host, HostName: "esx-4", Enough: true, Targets: []vsphere.Ref{ref("vm-2")}})
	default:
		r.Targets = append(r.Targets, preemptapi.VMOutcome{Ref: ref("vm-2"), Name: "web-2", Outcome: "would_powerOff", Why: "rank 1: priority 10; makes room for " + room.For + " on esx-1"})
	}
}

func TestAPlanForRoomShowsWhatEachHostCosts(t *testing.T) {
	s := newSite(t, true)
	for name, c := range map[string]struct {
		args   []string
		code   int
		stream string
		says   []string
	}{
		"for a VM": {[]string{"--room-for", "db-1"}, 0, "stdout", []string{
			"on esx-1, once the VMs below are off", "esx-1   1", "10, of 1 VM", "0.5 GHz, 1.0 GiB", "esx-2   -", "it is in maintenance", "makes room for db-1",
		}},
		"by sizes, in a cluster":     {[]string{"--room-cpus", "16", "--room-memory", "128GiB", "--cluster", "domain-c7"}, 0, "stdout", []string{"esx-3 has it already"}},
		"that is there":              {[]string{"--room-for", "free"}, 0, "stdout", []string{"esx-3 has it already"}},
		"that is nowhere":            {[]string{"--room-for", "huge"}, 4, "stderr", []string{"no room: none of 2 hosts can have it"}},
		"as JSON":                    {[]string{"--room-for", "db-1", "-o", "json"}, 0, "stdout", []string{`"hostName": "esx-1"`, `"enough": true`}},
		"on two hosts":               {[]string{"--room-cpus", "4", "--room-hosts", "2"}, 0, "stdout", []string{"esx-1 has it already", "on esx-4, once the VMs below are off"}},
		"on too many hosts":          {[]string{"--room-cpus", "4", "--room-hosts", "99"}, 2, "stderr", []string{"--room-hosts 99 is not within 1 to 16"}},
		"for a VM on two hosts":      {[]string{"--room-for", "db-1", "--room-hosts", "2"}, 2, "stderr", []string{"a VM runs on one host"}},
		"for a VM and by sizes":      {[]string{"--room-for", "db-1", "--room-cpus", "4"}, 2, "stderr", []string{"takes the sizes of the VM"}},
		"of a size without a unit":   {[]string{"--room-memory", "128"}, 2, "stderr", []string{`"128" has no unit`}},
		"of a size that is none":     {[]string{"--room-memory", "GiB"}, 2, "stderr", []string{"is no size"}},
		"of no CPUs":                 {[]string{"--room-cpus", "0"}, 2, "stderr", []string{"--room-cpus 0 is not positive"}},
		"in a cluster, by its name":  {[]string{"--room-for", "db-1", "--cluster", "west"}, 0, "stdout", []string{"on esx-1"}},
		"for a VM without a name":    {[]string{"--room-for", ""}, 2, "stderr", []string{"--room-for is empty"}},
		"with an event":              {[]string{"--room-for", "db-1", "--event", "{}"}, 2, "stderr", []string{"--event, --fail-empty and --headroom"}},
		"with fail-empty":            {[]string{"--room-cpus", "4", "--fail-empty"}, 2, "stderr", []string{"--event, --fail-empty and --headroom"}},
		"in a cluster without name":  {[]string{"--room-for", "db-1", "--cluster", ""}, 2, "stderr", []string{"--cluster is empty"}},
		"of more memory than exists": {[]string{"--room-memory", "2TiB"}, 4, "stderr", []string{"no room"}},
	} {
		t.Run(name, func(t *testing.T) {
			s.run(append([]string{"workflow", "plan"}, c.args...)...).want(t, c.code, c.stream, c.says...)
		})
	}
}
