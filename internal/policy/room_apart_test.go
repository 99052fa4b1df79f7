package policy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// apart asks n times for the same room, each on another host.
func apart(s scenario, n int) scenario {
	room := s.demand.Rooms[0]
	room.For, room.VM, room.Apart = "", vsphere.Ref{}, "one request"
	s.demand.Rooms = slices.Repeat([]policy.Room{room}, n)
	return s
}

func TestRoomOnSeveralHostsIsMadeOnAllOrOnNone(t *testing.T) {
	low := priority("1")
	site := func() scenario {
		return roomSite(
			vm(1, on("1"), uses(13_000, 41_000), low), vm(2, on("1"), uses(13_000, 64_000), low), vm(3, on("2"), uses(13_000, 41_000), priority("2")),
			vm(4, on("3"), uses(6000, 20_500), priority("3")), vm(5, on("3"), uses(6000, 20_500), priority("3")),
		)
	}
	for name, c := range map[string]struct {
		s     scenario
		hosts string
		goes  int
		says  string
	}{
		"on two, the cheapest": {apart(site(), 2), "esx-1 esx-2", 2, ""},
		"on all three":         {apart(site(), 3), "esx-1 esx-2 esx-3", 4, ""},
		"on four of three":     {apart(site(), 4), "", 0, "3 of 4 hosts can have it: no host can take it: esx-1: it is one of the hosts that have it"},
		"of so few VMs": {
			apart(site(), 3).with(func(s *scenario) { s.policy.MaxVMs = 3 }), "", 0,
			"2 of 3 hosts can have it: on esx-3, which comes closest, it takes more than the one VM that maxVMs allows",
		},
		"beside another that asks": {apart(site(), 4).with(func(s *scenario) {
			s.demand.Rooms = append(s.demand.Rooms, policy.Room{For: "db-1", Priority: 500, CPUs: 8, MemoryMB: 64_000})
		}), "esx-1", 1, "3 of 4 hosts"},
	} {
		t.Run(name, func(t *testing.T) {
			plan := policy.Choose(c.s.snapshot, c.s.demand, c.s.policy)
			var hosts []string
			for _, room := range plan.Rooms {
				if room.Enough {
					hosts = append(hosts, room.HostName)
				} else if !strings.HasPrefix(room.Refusal, c.says) {
					t.Errorf("refused: %q, want %q", room.Refusal, c.says)
				}
			}
			if got := strings.Join(hosts, " "); got != c.hosts || len(plan.Targets) != c.goes || len(plan.Rooms) != len(c.s.demand.Rooms) {
				t.Errorf("rooms on %q, want %q; %v go", got, c.hosts, refsOf(plan))
			}
			if len(plan.Targets)+len(plan.Spared) != len(c.s.snapshot.VMs) {
				t.Errorf("%d chosen and %d spared are not all", len(plan.Targets), len(plan.Spared))
			}
		})
	}
}
