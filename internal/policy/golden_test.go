package policy_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

var update = flag.Bool("update", false, "write the golden plans anew")

// scenario is an inventory with rules, whose plan is kept in testdata.
type scenario struct {
	snapshot vsphere.Snapshot
	demand   policy.Demand
	policy   policy.Policy
}

func host(n string, cluster vsphere.Ref, cpu, memory int64, changes ...func(*vsphere.Host)) vsphere.Host {
	h := vsphere.Host{
		Ref: vsphere.Ref{Type: vsphere.TypeHost, Value: "host-" + n}, Name: "esx-" + n, Cluster: cluster, Connected: true,
		CPUMHz: 50_000, MemoryMB: 512_000, CPUUsedMHz: cpu, MemoryUsedMB: memory,
	}
	for _, c := range changes {
		c(&h)
	}
	return h
}

func on(n string) func(*vsphere.VM) {
	return func(v *vsphere.VM) { v.Host = vsphere.Ref{Type: vsphere.TypeHost, Value: "host-" + n} }
}

// site is clusterA at 90 % CPU and 60 % memory, against a target of 80 % with a margin of 5: 15 GHz are to be
// freed of 100.
func site(vms ...vsphere.VM) scenario {
	p := policy.Default()
	p.Target = policy.Goal{CPU: 80, Memory: 80, Margin: 5}
	return scenario{
		snapshot: vsphere.Snapshot{
			Time: now, Scope: clusterA, ScopeName: "cluster-a", VMs: vms,
			Hosts: []vsphere.Host{host("1", clusterA, 48_000, 300_000), host("2", clusterA, 42_000, 314_400), host("3", clusterB, 50_000, 512_000)},
		},
		demand: policy.Demand{Tag: "preemptible", Scope: clusterA, Now: now},
		policy: p,
	}
}

func (s scenario) with(changes ...func(*scenario)) scenario {
	for _, change := range changes {
		change(&s)
	}
	return s
}

func scenarios() map[string]scenario {
	gib := int64(1024)
	mixed := []vsphere.VM{
		vm(1, on("1"), uses(9000, 16*gib), priority("10"), up(5*time.Hour)), vm(2, on("1"), uses(2000, 4*gib), priority("10"), up(4*time.Hour)),
		vm(3, on("2"), uses(6000, 8*gib), priority("10"), up(3*time.Hour)), vm(4, on("2"), uses(8000, 32*gib), up(2*time.Hour)),
		vm(5, on("2"), uses(20_000, 64*gib), tagged(policy.CategoryProtect, "do-not-preempt")), vm(6, on("1"), uses(12_000, 8*gib), priority("ten")),
	}
	return map[string]scenario{
		"the fewest of the lowest priority cover the shortfall": site(mixed...),
		"a higher priority helps where the lower does not suffice, and what is not needed is given back": site(mixed[1:]...).with(func(s *scenario) {
			s.policy.Target.CPU = 83
		}),
		"of equally many the better fit goes": site(vm(1, on("1"), uses(30_000, gib)), vm(2, on("1"), uses(16_000, gib)), vm(3, on("1"), uses(15_500, gib)), vm(4, uses(14_000, gib))),
		"fewer earlier preemptions come before the better fit": site(vm(1, uses(30_000, gib)), vm(2, uses(16_000, gib)), vm(3, uses(15_500, gib))).with(func(s *scenario) {
			s.demand.Preempted = map[string]int{"VirtualMachine:vm-2": 2, "VirtualMachine:vm-3": 1}
		}),
		"what cannot be covered is done in part": site(append(mixed[1:4:4], vm(8, uses(0, gib)))...).with(func(s *scenario) { s.policy.Target.CPU = 70 }),
		"what cannot be covered is left alone if the policy says so": site(mixed[1:4]...).with(func(s *scenario) {
			s.policy.Target.CPU, s.policy.Target.IfShort = 70, policy.ShortNone
		}),
		"a limit that priorities use up is kept by going up in priority": site(mixed[0], mixed[1], mixed[2], mixed[3]).with(func(s *scenario) {
			s.policy.MaxVMs, s.policy.Target.CPU = 2, 78
		}),
		"a limit leaves the plan in part": site(mixed...).with(func(s *scenario) { s.policy.MaxVMs = 1 }),
		"a group budget holds back the best fit": site(append(mixed[:4:4], vm(7, uses(16_000, gib), priority("10"), group("web")))...).with(func(s *scenario) {
			s.policy.Budgets = []policy.Budget{{Group: "*", MinAvailable: policy.Amount{N: 50, Percent: true}}}
			s.snapshot.Groups = map[string]vsphere.Group{"web": {Total: 4, Up: []vsphere.Ref{{Type: vsphere.TypeVM, Value: "vm-7"}, {Type: vsphere.TypeVM, Value: "vm-70"}}}}
		}),
		"what is on its way counts as freed": site(mixed...).with(func(s *scenario) {
			s.demand.Credits = []policy.Credit{{Host: s.snapshot.Hosts[0].Ref, CPUMHz: 9000, MemoryMB: 16 * gib}, {Host: s.snapshot.Hosts[2].Ref, CPUMHz: 9000}}
		}),
		"nothing is needed": site(mixed...).with(func(s *scenario) { s.policy.Target.CPU = 95 }),
		"hosts in maintenance or away do not count, one that is entering it does": site(mixed...).with(func(s *scenario) {
			s.snapshot.Hosts = []vsphere.Host{
				host("1", clusterA, 48_000, 300_000), host("2", clusterA, 42_000, 314_400, func(h *vsphere.Host) { h.EnteringMaintenance = true }),
				host("4", clusterA, 0, 0, func(h *vsphere.Host) { h.InMaintenance = true }), host("5", clusterA, 9000, 0, func(h *vsphere.Host) { h.Connected = false }),
			}
		}),
		"nobody goes where nothing can be measured": site(mixed...).with(func(s *scenario) { s.snapshot.Hosts = s.snapshot.Hosts[2:] }),
		"of a host's alarm the larger shortfall counts": site(mixed...).with(func(s *scenario) {
			s.snapshot.Hosts[1].CPUUsedMHz = 25_000
			s.demand.Host = s.snapshot.Hosts[0].Ref
		}),
		"a host's own scope is measured with its cluster": site(mixed...).with(func(s *scenario) {
			s.demand.Scope, s.snapshot.Scope, s.snapshot.ScopeName = s.snapshot.Hosts[1].Ref, s.snapshot.Hosts[1].Ref, "esx-2"
		}),
		"everything is measured where nothing names a scope": site(mixed...).with(func(s *scenario) {
			s.demand.Scope, s.snapshot.Scope, s.snapshot.ScopeName = vsphere.Ref{}, vsphere.Ref{}, ""
		}),
		"without a target the limit decides, and the usage is shown all the same": site(mixed...).with(func(s *scenario) {
			s.policy.Target, s.policy.MaxVMs = policy.Goal{}, 2
		}),
	}
}

func TestGoldenPlans(t *testing.T) { checkGolden(t, "plans", scenarios()) }

// checkGolden compares the plan of each scenario with its file in a folder of testdata, and the files with the scenarios.
func checkGolden(t *testing.T, folder string, scenarios map[string]scenario) {
	t.Helper()
	seen := map[string]bool{}
	for name, s := range scenarios {
		file := filepath.Join("testdata", folder, strings.NewReplacer(" ", "-", ",", "", "'", "").Replace(name)+".json")
		seen[file] = true
		t.Run(name, func(t *testing.T) {
			if err := s.policy.Validate(); err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(policy.Choose(s.snapshot, s.demand, s.policy), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("the plan is not that of %s; look, then go test ./internal/policy -run TestGolden -update\n%s", file, got)
			}
		})
	}
	files, err := filepath.Glob("testdata/" + folder + "/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !seen[file] {
			t.Errorf("%s belongs to no scenario", file)
		}
	}
}
