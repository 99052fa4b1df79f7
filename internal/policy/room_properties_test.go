package policy_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// eachRoom draws inventories, small and large ones, and gives each with its plan.
func eachRoom(t *testing.T, check func(t *testing.T, s scenario, plan policy.Plan)) {
	t.Helper()
	const seed = 7
	for name, c := range map[string]struct {
		drawn
		cases int
	}{
		"small inventories":                     {drawn{hosts: 4, vmsEach: 7, priorities: 5}, 1000},
		"bounded resource pools":                {drawn{hosts: 3, vmsEach: 7, priorities: 4, pools: true}, 400},
		"few slots":                             {drawn{hosts: 3, vmsEach: 6, priorities: 5, slots: true}, 600},
		"more VMs than the exact search covers": {drawn{hosts: 3, vmsEach: 45, priorities: 6}, 150},
		"more hosts than the plan lists":        {drawn{hosts: 60, vmsEach: 4, priorities: 3}, 60},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, uint64(c.vmsEach)))
			made := 0
			for n := range c.cases {
				s := c.draw(r)
				plan := policy.Choose(s.snapshot, s.demand, s.policy)
				if made += min(1, len(plan.Targets)); t.Failed() {
					t.Fatalf("seed %d, before case %d", seed, n)
				}
				check(t, s, plan)
			}
			if made*5 < c.cases {
				t.Errorf("VMs go in only %d of %d cases: the cases test little", made, c.cases)
			}
		})
	}
}

func found(s scenario, ref vsphere.Ref) vsphere.VM {
	return s.snapshot.VMs[slices.IndexFunc(s.snapshot.VMs, func(v vsphere.VM) bool { return v.Ref == ref })]
}

func TestNobodyOfTheAskersPriorityOrAboveMakesRoom(t *testing.T) {
	eachRoom(t, func(t *testing.T, s scenario, plan policy.Plan) {
		for _, target := range plan.Targets {
			v := found(s, target.Ref)
			if priorityOf(v) >= s.demand.Rooms[0].Priority || len(v.Tags[policy.CategoryProtect]) > 0 || v.Host != plan.Rooms[0].Host {
				t.Errorf("for a VM of priority %d on %s goes %+v", s.demand.Rooms[0].Priority, plan.Rooms[0].HostName, v)
			}
		}
	})
}

func TestNobodyMakesRoomInVain(t *testing.T) {
	eachRoom(t, func(t *testing.T, s scenario, plan policy.Plan) {
		for _, o := range plan.Rooms[0].Hosts {
			host := s.snapshot.Hosts[slices.IndexFunc(s.snapshot.Hosts, func(h vsphere.Host) bool { return h.Ref == o.Host })]
			left := missingOn(s, host)
			for _, ref := range o.Targets {
				for r, g := range givenBy(found(s, ref)) {
					left[r] -= g
				}
			}
			if (max(left[0], left[1], left[2], left[3]) > 0 || !admitted(s, o.Targets...)) && o.Why == "" {
				t.Errorf("on %s, %v are still missing when %v have gone", o.Name, left, o.Targets)
			}
			for i, ref := range o.Targets {
				without, others := left, slices.Delete(slices.Clone(o.Targets), i, i+1)
				for r, g := range givenBy(found(s, ref)) {
					without[r] += g
				}
				if max(without[0], without[1], without[2], without[3]) <= 0 && admitted(s, others...) {
					t.Errorf("on %s, %v goes in vain", o.Name, ref)
				}
			}
		}
	})
}

func TestRoomKeepsTheLimits(t *testing.T) {
	eachRoom(t, func(t *testing.T, s scenario, plan policy.Plan) {
		for _, o := range plan.Rooms[0].Hosts {
			gone := map[string]int{}
			for _, ref := range o.Targets {
				for _, g := range found(s, ref).Tags[policy.CategoryGroup] {
					gone[g]++
				}
			}
			if len(o.Targets) > 0 && !withinLimits(s, len(o.Targets), gone) {
				t.Errorf("%v go from %s, against maxVMs %d, %d already, and %+v", o.Targets, o.Name, s.policy.MaxVMs, s.demand.Already, s.policy.Budgets)
			}
		}
		if spared := policy.RecheckAll(s.snapshot, s.demand, s.policy, refsOf(plan)); len(spared) > 0 {
			t.Errorf("just chosen, and already %+v", spared)
		}
	})
}

func TestTheOrderOfTheInventoryDoesNotMatterForRoom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	shuffle := func(n int, swap func(i, j int)) { r.Shuffle(n, swap) }
	eachRoom(t, func(t *testing.T, s scenario, plan policy.Plan) {
		hosts, vms, credits := slices.Clone(s.snapshot.Hosts), slices.Clone(s.snapshot.VMs), slices.Clone(s.demand.Credits)
		shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
		shuffle(len(vms), func(i, j int) { vms[i], vms[j] = vms[j], vms[i] })
		shuffle(len(credits), func(i, j int) { credits[i], credits[j] = credits[j], credits[i] })
		s.snapshot.Hosts, s.snapshot.VMs, s.demand.Credits = hosts, vms, credits
		if was, is := asJSON(t, plan), asJSON(t, policy.Choose(s.snapshot, s.demand, s.policy)); was != is {
			t.Errorf("the order of the input matters:\n%s\n%s", was, is)
		}
	})
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestARoomPlanSaysWhatBecomesOfEachHostAndCandidate(t *testing.T) {
	eachRoom(t, func(t *testing.T, s scenario, plan policy.Plan) {
		room := plan.Rooms[0]
		if len(plan.Targets)+len(plan.Spared) != len(s.snapshot.VMs) {
			t.Errorf("%d chosen + %d spared != %d", len(plan.Targets), len(plan.Spared), len(s.snapshot.VMs))
		}
		for _, spared := range plan.Spared {
			if !spared.Reason.Known() {
				t.Errorf("%s stays for an unknown reason: %+v", spared.Name, spared)
			}
		}
		if len(room.Hosts)+room.OtherHosts != len(s.snapshot.Hosts) || len(room.Hosts) > 20 {
			t.Errorf("%d hosts are listed, and %d more, of %d", len(room.Hosts), room.OtherHosts, len(s.snapshot.Hosts))
		}
		if room.Enough == (room.Refusal != "") || room.Enough == room.Host.Zero() || !room.Enough && len(plan.Targets) > 0 {
			t.Errorf("enough: %v on %q, refused: %q, and %d VMs go", room.Enough, room.HostName, room.Refusal, len(plan.Targets))
		}
		if first := room.Hosts[0]; room.Enough != (first.Why == "") || room.Enough && (first.Host != room.Host || fmt.Sprint(first.Targets) != fmt.Sprint(refsOf(plan))) {
			t.Errorf("the first option is %+v, and the plan takes %v on %v", first, refsOf(plan), room.Host)
		}
		if !slices.IsSortedFunc(room.Hosts, func(a, b policy.RoomOption) int { return min(1, len(a.Why)) - min(1, len(b.Why)) }) {
			t.Errorf("hosts that cannot are listed before hosts that can: %+v", room.Hosts)
		}
	})
}
