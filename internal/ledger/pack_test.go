package ledger

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"
)

// large is a ledger at its bounds: n VMs reserved with their loads, as many scopes, evictions, requests and remedies.
func large(n int) (s State, now time.Time) {
	now = time.Date(2026, 11, 26, 11, 0, 0, 123456789, time.UTC)
	s = State{Scopes: map[string]*Scope{}, Reserved: map[string]string{}, Loads: map[string]Load{}, Acted: map[string]map[string]Acted{}}
	round := RoundEvictions{Owner: "preemption-round-0123456789abcdef0123456789abcdef", Scope: "ClusterComputeResource:domain-c8"}
	for i := range n {
		vm, host := fmt.Sprintf("VirtualMachine:vm-%d", 10000+i), fmt.Sprintf("HostSystem:host-%d", i%64)
		s.Reserved[vm] = fmt.Sprintf("preemption-round-0123456789abcdef-%04d", i%10)
		s.Loads[vm] = Load{Host: host, CPUMHz: 1200, MemoryMB: 4096}
		round.Evicted = append(round.Evicted, Evicted{VM: vm, Host: host, CPUMHz: 1200, MemoryMB: 4096, Time: now.Add(time.Duration(i))})
		s.Acted[vm] = map[string]Acted{"memory": {now.Unix(), 86400}}
	}
	for i := range min(n, maxSeen) {
		s.Seen = append(s.Seen, Seen{RequestID: fmt.Sprintf("vcenter.example.com#%d#2026-11-26T11:00:00Z#1", i), Owner: "preemption-round-0123456789abcdef0123456789abcdef", Time: now})
		s.Asked = append(s.Asked, Asked{ID: fmt.Sprintf("vcenter.example.com#%d#2026-11-26T11:00:00Z", i), By: "00000000-0000-0000-0000-000000000000", At: now.Unix()})
	}
	s.Evictions = []RoundEvictions{round}
	return s, now
}

func TestALedgerOfFiveThousandVMsFitsIntoItsNextRunAndLosesNothing(t *testing.T) {
	for _, n := range []int{10, 5000} {
		s, _ := large(n)
		state, packed := s.pack()
		if (packed != nil) != (n == 5000) {
			t.Errorf("%d VMs: packed is %v", n, packed != nil)
		}
		text, err := json.Marshal(Input{State: state, Packed: packed})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d VMs: %d bytes", n, len(text))
		if len(text) > 2<<20*9/10 {
			t.Errorf("%d VMs make %d bytes, of 2 MiB that Temporal takes", n, len(text))
		}
		var in Input
		if err := json.Unmarshal(text, &in); err != nil {
			t.Fatal(err)
		}
		if got := in.State.unpack(in.Packed); !reflect.DeepEqual(got, s) {
			t.Errorf("%d VMs: the next run knows something else", n)
		}
	}
}

func TestWhatIsOfAnotherTypeKeepsItInTheNextRun(t *testing.T) {
	s, _ := large(2000)
	s.Reserved["VirtualApp:resgroup-v7"] = "someone"
	s.Loads["VirtualApp:resgroup-v7"] = Load{Host: "ClusterComputeResource:domain-c8"}
	s.Loads["VirtualMachine:vm-1"] = Load{}
	s.Reserved["VirtualMachine:vm-1"] = "someone"
	state, packed := s.pack()
	if got := state.unpack(packed); !reflect.DeepEqual(got, s) {
		t.Error("the next run knows something else")
	}
}

// Ledger work on thousands must not take a second, or the workflow task counts as a deadlock. The bound is generous: what
// is not linear takes much longer here.
func TestALedgerOfThousandsOfHoldersIsQuick(t *testing.T) {
	const n = 5000
	s := State{Scopes: map[string]*Scope{}, Reserved: map[string]string{}}
	now := time.Date(2026, 11, 26, 11, 0, 0, 0, time.UTC)
	var owners, vms []string
	for i := range n {
		owner, vm := fmt.Sprintf("round-%05d", i), fmt.Sprintf("VirtualMachine:vm-%d", i)
		s.Scopes[fmt.Sprintf("ClusterComputeResource:domain-c%d", i)] = &Scope{Active: owner, ActiveSince: now}
		s.Reserved[vm] = owner
		owners, vms = append(owners, owner), append(vms, vm)
	}
	start := time.Now()
	s.Facts(now, FactsRequest{Owner: "round-00001", UnderWay: vms})
	s.RemedyFacts(now, RemedyFactsRequest{VMs: vms})
	if young := s.Owners(now); len(young) != 0 {
		t.Errorf("%d owners are old, want none", len(young))
	}
	if got := s.Owners(now.Add(time.Hour)); !slices.Equal(got, owners) {
		t.Errorf("%d owners, want %d", len(got), n)
	}
	s.Drop(owners, true)
	if s.Busy() || len(s.Reserved) != 0 {
		t.Error("something is held yet")
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	} else {
		t.Log(took)
	}
}

// BenchmarkLedger prints how long the dearest things that one update or sweep does take:
// go test ./internal/ledger -run NONE -bench Ledger
func BenchmarkLedger(b *testing.B) {
	for _, n := range []int{10, 100, 500, 1000, 2000, 5000} {
		for name, f := range map[string]func(State, time.Time){
			"facts": func(s State, now time.Time) { s.Facts(now, FactsRequest{Owner: "other"}) },
			"evicted": func(s State, now time.Time) {
				s.Evicted(now, EvictedRequest{Owner: "new", Evicted: s.Evictions[0].Evicted})
			},
			"sweep": func(s State, now time.Time) { s.Drop(s.Owners(now), true) },
			"pack":  func(s State, _ time.Time) { state, p := s.pack(); state.unpack(p) },
		} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					s, now := large(n)
					b.StartTimer()
					f(s, now)
				}
			})
		}
	}
}
