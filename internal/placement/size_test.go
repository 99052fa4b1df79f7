package placement_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// guest is a VM that is on, with 2 CPUs and 4096 MB, on a host with 32 CPUs and 256 GB.
func guest(changes ...func(*placement.VM)) placement.VM {
	vm := placement.VM{
		Ref: vsphere.Ref{Type: vsphere.TypeVM, Value: "vm-1"}, Name: "web-1", PowerState: vsphere.PoweredOn, Connected: true,
		Hardware: placement.Hardware{CPUs: 2, CoresPerSocket: 1, MemoryMB: 4096},
		HostCPUs: 32, HostMemoryMB: 262144, ClusterCPUs: 64, ClusterMemoryMB: 524288,
	}
	for _, c := range changes {
		c(&vm)
	}
	return vm
}

// hot lets a VM take both while it is on; memory up to 64 GB in steps of 128 MB.
func hot(vm *placement.VM) {
	vm.CPUHotAdd, vm.MemoryHotAdd, vm.HotMemoryLimitMB, vm.HotMemoryStepMB = true, true, 65536, 128
}

func sized(cpus, cores, memory int) func(*placement.VM) {
	return func(vm *placement.VM) { vm.CPUs, vm.CoresPerSocket, vm.MemoryMB = cpus, cores, memory }
}

func tagged(category string, tags ...string) func(*placement.VM) {
	return func(vm *placement.VM) {
		if vm.Tags == nil {
			vm.Tags = map[string][]string{}
		}
		vm.Tags[category] = append(vm.Tags[category], tags...)
	}
}

func rule(resource string, changes ...func(*placement.Resize)) placement.Resize {
	s := placement.Resize{Resource: resource}
	for _, c := range changes {
		c(&s)
	}
	return s.WithDefaults("")
}

func as(mode string) func(*placement.Resize) { return func(s *placement.Resize) { s.Mode = mode } }
func upTo(most int) func(*placement.Resize)  { return func(s *placement.Resize) { s.Max = most } }
func original(s *placement.Resize)           { s.Sizing = placement.SizingOriginal }

func TestTheNextSizeOfAVM(t *testing.T) {
	const grow, atLimit = placement.Grow, placement.AtLimit
	cases := map[string]struct {
		vm      placement.VM
		rule    placement.Resize
		verdict string
		next    int
		by      string // what bounds it; empty: not compared
		reason  string // part of it
	}{
		"one socket more":                        {vm: guest(), rule: rule(placement.CPU), verdict: grow, next: 3, by: "default", reason: "from 2 CPUs to 3 CPUs"},
		"one socket of four cores more":          {vm: guest(sized(4, 4, 4096)), rule: rule(placement.CPU), verdict: grow, next: 8},
		"an odd number becomes whole sockets":    {vm: guest(sized(5, 4, 4096)), rule: rule(placement.CPU), verdict: grow, next: 8},
		"vSphere chooses the sockets":            {vm: guest(sized(2, 0, 4096)), rule: rule(placement.CPU), verdict: grow, next: 3},
		"1024 MB more of little memory":          {vm: guest(sized(2, 1, 2048)), rule: rule(placement.Memory), verdict: grow, next: 3072, reason: "from 2048 MB to 3072 MB"},
		"a quarter more of much memory":          {vm: guest(sized(2, 1, 16384)), rule: rule(placement.Memory), verdict: grow, next: 20480},
		"memory in multiples of 4 MB":            {vm: guest(sized(2, 1, 4100)), rule: rule(placement.Memory), verdict: grow, next: 5128},
		"a quarter is rounded up":                {vm: guest(sized(2, 1, 8199)), rule: rule(placement.Memory), verdict: grow, next: 10252},
		"memory in steps that it takes hot":      {vm: guest(hot, sized(2, 1, 5000)), rule: rule(placement.Memory), verdict: grow, next: 6280},
		"a step is added to the waiting wish":    {vm: guest(tagged(placement.CategoryCPUs, "4")), rule: rule(placement.CPU), verdict: grow, next: 5, reason: "from 4 CPUs, of which 2 CPUs wait"},
		"a wish for less does not count":         {vm: guest(tagged(placement.CategoryCPUs, "1")), rule: rule(placement.CPU), verdict: grow, next: 3},
		"a wish that cannot be read":             {vm: guest(tagged(placement.CategoryCPUs, "many")), rule: rule(placement.CPU), verdict: grow, next: 3},
		"two wishes are none":                    {vm: guest(tagged(placement.CategoryCPUs, "4", "8")), rule: rule(placement.CPU), verdict: grow, next: 3},
		"the wish has reached the bound":         {vm: guest(tagged(placement.CategoryCPUs, "16")), rule: rule(placement.CPU), verdict: atLimit, by: "default", reason: "it has 2 CPUs, 16 CPUs wait for its next power-off, and the default allows 16 CPUs"},
		"the rule's bound":                       {vm: guest(), rule: rule(placement.CPU, upTo(2)), verdict: atLimit, by: "rule", reason: "it has 2 CPUs, and the rule allows 2 CPUs"},
		"the owner's bound is smaller":           {vm: guest(tagged(placement.CategoryMaxCPUs, "2")), rule: rule(placement.CPU), verdict: atLimit, by: "tag"},
		"the owner's bound is larger":            {vm: guest(sized(16, 1, 4096), tagged(placement.CategoryMaxCPUs, "32")), rule: rule(placement.CPU), verdict: atLimit, by: "default"},
		"the owner's bound cannot be read":       {vm: guest(tagged(placement.CategoryMaxCPUs, "some")), rule: rule(placement.CPU), verdict: atLimit, by: "tag", reason: `the tag "some" of remediation-max-cpus that bounds it cannot be read`},
		"the owner has two bounds":               {vm: guest(tagged(placement.CategoryMaxCPUs, "4", "8")), rule: rule(placement.CPU), verdict: atLimit, by: "tag", reason: "2 tags of remediation-max-cpus"},
		"the bound of the other resource":        {vm: guest(tagged(placement.CategoryMaxMemory, "some")), rule: rule(placement.CPU), verdict: grow, next: 3},
		"its host has no more CPUs":              {vm: guest(func(vm *placement.VM) { vm.HostCPUs = 2 }), rule: rule(placement.CPU), verdict: atLimit, by: "host"},
		"no host of its cluster has more":        {vm: guest(func(vm *placement.VM) { vm.HostCPUs, vm.ClusterCPUs = 0, 2 }), rule: rule(placement.CPU), verdict: atLimit, by: "cluster"},
		"nobody knows the hosts":                 {vm: guest(func(vm *placement.VM) { vm.HostMemoryMB, vm.ClusterMemoryMB = 0, 0 }), rule: rule(placement.Memory), verdict: grow, next: 5120, by: "default"},
		"the rest up to the bound":               {vm: guest(), rule: rule(placement.Memory, upTo(4500)), verdict: grow, next: 4500, by: "rule"},
		"the rest in steps that it takes hot":    {vm: guest(hot), rule: rule(placement.Memory, upTo(4500)), verdict: grow, next: 4480, by: "rule"},
		"the rest is less than a step":           {vm: guest(hot), rule: rule(placement.Memory, upTo(4200)), verdict: atLimit, by: "rule"},
		"the rest is less than a socket":         {vm: guest(sized(4, 4, 4096)), rule: rule(placement.CPU, upTo(7)), verdict: atLimit, by: "rule"},
		"it is larger than the bound":            {vm: guest(sized(24, 1, 4096)), rule: rule(placement.CPU), verdict: atLimit, by: "default"},
		"as the original: one CPU more":          {vm: guest(sized(3, 1, 4096)), rule: rule(placement.CPU, original), verdict: grow, next: 4, by: "default"},
		"as the original: four CPUs at most":     {vm: guest(sized(4, 1, 4096)), rule: rule(placement.CPU, original), verdict: atLimit, by: "default"},
		"as the original: whole sockets":         {vm: guest(sized(2, 2, 4096)), rule: rule(placement.CPU, original), verdict: grow, next: 4},
		"as the original: sockets too large":     {vm: guest(sized(3, 3, 4096)), rule: rule(placement.CPU, original), verdict: atLimit},
		"as the original: more of its own":       {vm: guest(sized(4, 1, 4096)), rule: rule(placement.CPU, original, upTo(6)), verdict: grow, next: 5, by: "rule"},
		"as the original: a power of two":        {vm: guest(sized(2, 1, 3000)), rule: rule(placement.Memory, original), verdict: grow, next: 4096},
		"as the original: the next one":          {vm: guest(), rule: rule(placement.Memory, original), verdict: grow, next: 8192},
		"as the original: 8192 MB at most":       {vm: guest(sized(2, 1, 8192)), rule: rule(placement.Memory, original), verdict: atLimit, by: "default"},
		"unlike the original: never scaled down": {vm: guest(sized(2, 1, 16384)), rule: rule(placement.Memory, original), verdict: atLimit, reason: "it has 16384 MB, and the default allows 8192 MB"},
		"a template":                             {vm: guest(func(vm *placement.VM) { vm.Template = true }), rule: rule(placement.CPU), verdict: placement.Skip, reason: "it is a template"},
		"its host is away":                       {vm: guest(func(vm *placement.VM) { vm.Connected = false }), rule: rule(placement.CPU), verdict: placement.Skip, reason: "its host is not connected"},
		"it is fault tolerant":                   {vm: guest(func(vm *placement.VM) { vm.FaultTolerant = true }), rule: rule(placement.CPU), verdict: placement.Infeasible, reason: "it is fault tolerant"},
		"it is busy, which is for others to ask": {vm: guest(func(vm *placement.VM) { vm.Busy = true }), rule: rule(placement.CPU), verdict: grow, next: 3},
		"nobody knows its size":                  {vm: guest(sized(0, 0, 0)), rule: rule(placement.CPU), verdict: placement.Skip, reason: "its size is not known"},
		"nobody knows the resource":              {vm: guest(), rule: rule("disk"), verdict: placement.Infeasible, reason: `resource "disk" is neither cpu nor memory`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := placement.NextSize(tc.vm, tc.rule)
			if got.Verdict != tc.verdict || got.Next != tc.next || tc.by != "" && got.BoundBy != tc.by || !strings.Contains(got.Reason, tc.reason) {
				t.Errorf("got %+v, want %s %d bound by %s: %s", got, tc.verdict, tc.next, tc.by, tc.reason)
			}
		})
	}
}

func TestAVMTakesItsNextSizeHotOrTheReasonIsTold(t *testing.T) {
	cases := map[string]struct {
		vm   placement.VM
		rule placement.Resize
		why  string // empty: hot
	}{
		"CPUs":                                 {vm: guest(hot), rule: rule(placement.CPU)},
		"memory":                               {vm: guest(hot), rule: rule(placement.Memory)},
		"memory of which vCenter says nothing": {vm: guest(func(vm *placement.VM) { vm.MemoryHotAdd = true }), rule: rule(placement.Memory)},
		"CPUs are not enabled":                 {vm: guest(), rule: rule(placement.CPU), why: "CPU hot add is not enabled"},
		"memory is not enabled":                {vm: guest(), rule: rule(placement.Memory), why: "memory hot add is not enabled"},
		"it is off":                            {vm: guest(hot, func(vm *placement.VM) { vm.PowerState = vsphere.PoweredOff }), rule: rule(placement.CPU), why: "it is off"},
		"it is suspended":                      {vm: guest(hot, func(vm *placement.VM) { vm.PowerState = vsphere.Suspended }), rule: rule(placement.CPU), why: "it is suspended"},
		"beyond what it takes hot":             {vm: guest(hot, func(vm *placement.VM) { vm.HotMemoryLimitMB = 5000 }), rule: rule(placement.Memory), why: "it takes no more than 5000 MB while it is on"},
		"a power of two that is no step":       {vm: guest(hot, sized(2, 1, 3000)), rule: rule(placement.Memory, original), why: "it takes memory in steps of 128 MB while it is on"},
		"a Linux guest up to 3072 MB":          {vm: guest(hot, sized(2, 1, 2048), func(vm *placement.VM) { vm.Linux = true }), rule: rule(placement.Memory)},
		"a Linux guest beyond 3072 MB":         {vm: guest(hot, sized(2, 1, 2560), func(vm *placement.VM) { vm.Linux = true }), rule: rule(placement.Memory), why: "a Linux guest with less than 3072 MB"},
		"a Linux guest that has 3072 MB":       {vm: guest(hot, sized(2, 1, 3072), func(vm *placement.VM) { vm.Linux = true }), rule: rule(placement.Memory)},
		"another guest beyond 3072 MB":         {vm: guest(hot, sized(2, 1, 2560)), rule: rule(placement.Memory)},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := placement.NextSize(tc.vm, tc.rule)
			if got.Verdict != placement.Grow || got.Hot != (tc.why == "") || !strings.Contains(got.WhyNot, tc.why) {
				t.Errorf("got %+v, want why not: %q", got, tc.why)
			}
			tc.rule.Mode = placement.ModeHotAdd
			only := placement.NextSize(tc.vm, tc.rule)
			if tc.why != "" && (only.Verdict != placement.Infeasible || only.Next != 0 || !strings.Contains(only.Reason, tc.why)) {
				t.Errorf("with hot add only: got %+v, want infeasible: %q", only, tc.why)
			}
			if tc.why == "" && (only.Verdict != placement.Grow || only.Next != got.Next) {
				t.Errorf("with hot add only: got %+v, want to grow to %d", only, got.Next)
			}
		})
	}
}

func TestTheModeIsThatOfTheVMsTagElseOfTheRule(t *testing.T) {
	window := func(s *placement.Resize) { s.Window, s.Duration = "0 2 * * SUN", clock.Duration(time.Hour) }
	cases := map[string]struct {
		tags    []string
		rule    placement.Resize
		mode    string
		verdict string
		bad     string
	}{
		"no tag":                             {rule: rule(placement.CPU, as(placement.ModeTag)), mode: placement.ModeTag, verdict: placement.Grow},
		"opted in to more":                   {tags: []string{"hotAddOrNextPowerOff"}, rule: rule(placement.CPU), mode: placement.ModeHotOrOff, verdict: placement.Grow},
		"opted out of changes":               {tags: []string{"recommend"}, rule: rule(placement.CPU, as(placement.ModeTag)), mode: placement.ModeRecommend, verdict: placement.Grow},
		"opted out":                          {tags: []string{"off"}, rule: rule(placement.CPU), mode: placement.ModeOff, verdict: placement.Skip},
		"a mode that nobody knows":           {tags: []string{"Off"}, rule: rule(placement.CPU, as(placement.ModeTag)), mode: placement.ModeRecommend, verdict: placement.Grow, bad: "it is not one of recommend, tag,"},
		"two modes":                          {tags: []string{"off", "tag"}, rule: rule(placement.CPU, as(placement.ModeTag)), mode: placement.ModeRecommend, verdict: placement.Grow, bad: "2 tags of remediation-mode"},
		"a power cycle in the rule's window": {tags: []string{"powerCycleInWindow"}, rule: rule(placement.CPU, window), mode: placement.ModePowerCycle, verdict: placement.Grow},
		"a power cycle at no time":           {tags: []string{"powerCycleInWindow"}, rule: rule(placement.CPU), mode: placement.ModeRecommend, verdict: placement.Grow, bad: "the rule has no window"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := placement.NextSize(guest(tagged(placement.CategoryMode, tc.tags...)), tc.rule)
			if got.Mode != tc.mode || got.Verdict != tc.verdict {
				t.Errorf("got %+v, want %s in mode %s", got, tc.verdict, tc.mode)
			}
			if len(got.Bad) > 0 != (tc.bad != "") || tc.bad != "" && !strings.Contains(got.Bad[0].Reason, tc.bad) {
				t.Errorf("bad tags %+v, want %q", got.Bad, tc.bad)
			}
		})
	}
}

// anyVM draws a VM of any size with any tags, sensible or not.
func anyVM(t *rapid.T) placement.VM {
	cores := rapid.IntRange(0, 8).Draw(t, "cores")
	vm := guest(sized(rapid.IntRange(1, 64).Draw(t, "cpus"), cores, rapid.IntRange(1, 100_000).Draw(t, "memory")))
	vm.PowerState = rapid.SampledFrom([]string{vsphere.PoweredOn, vsphere.PoweredOff}).Draw(t, "power")
	vm.CPUHotAdd, vm.MemoryHotAdd = rapid.Bool().Draw(t, "hotCPU"), rapid.Bool().Draw(t, "hotMemory")
	vm.Linux = rapid.Bool().Draw(t, "linux")
	vm.HotMemoryStepMB = rapid.SampledFrom([]int{0, 1, 6, 128}).Draw(t, "step")
	vm.HotMemoryLimitMB = rapid.IntRange(0, 100_000).Draw(t, "limit")
	vm.HostCPUs, vm.ClusterCPUs = rapid.IntRange(0, 64).Draw(t, "hostCPUs"), rapid.IntRange(0, 64).Draw(t, "clusterCPUs")
	vm.HostMemoryMB = rapid.IntRange(0, 200_000).Draw(t, "hostMemory")
	vm.Tags = map[string][]string{}
	value := rapid.OneOf(rapid.Map(rapid.IntRange(-2, 100_000), strconv.Itoa), rapid.SampledFrom([]string{"true", "FALSE", "off", "tag", "", "x", " 8 "}))
	for _, category := range placement.Categories() {
		if rapid.Bool().Draw(t, category) {
			vm.Tags[category] = rapid.SliceOfN(value, 1, 2).Draw(t, "tags")
		}
	}
	return vm
}

func anyRule(t *rapid.T) placement.Resize {
	return placement.Resize{
		Resource: rapid.SampledFrom([]string{placement.CPU, placement.Memory}).Draw(t, "resource"),
		Sizing:   rapid.SampledFrom([]string{placement.SizingSteps, placement.SizingOriginal}).Draw(t, "sizing"),
		Mode:     rapid.SampledFrom([]string{placement.ModeRecommend, placement.ModeHotAdd}).Draw(t, "mode"),
		Max:      rapid.IntRange(0, 50_000).Draw(t, "max"),
	}
}

func TestAVMOnlyEverGrowsAndOnlyWithinItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		vm, s := anyVM(t), anyRule(t)
		before, _ := json.Marshal(vm)
		z := placement.NextSize(vm, s)
		if after, _ := json.Marshal(vm); string(before) != string(after) {
			t.Fatal("the VM was changed")
		}
		grown(t, vm, z)
		for category := range vm.Tags {
			slices.Reverse(vm.Tags[category])
		}
		if again := placement.NextSize(vm, s); jsonOf(again) != jsonOf(z) {
			t.Fatalf("in another order %+v, was %+v", again, z)
		}
	})
}

// grown asserts what holds for every next size.
func grown(t interface{ Fatalf(string, ...any) }, vm placement.VM, z placement.Sized) {
	if z.Reason == "" || z.Mode == "" {
		t.Fatalf("not explained: %+v", z)
	}
	if z.Verdict != placement.Grow {
		if z.Next != 0 || z.Hot {
			t.Fatalf("%s names a size: %+v", z.Verdict, z)
		}
		return
	}
	if z.Next <= z.Current || z.Next <= z.Pending || z.Next > z.Bound {
		t.Fatalf("not larger, or beyond its bound: %+v", z)
	}
	if z.Resource == placement.CPU && z.Next%max(1, vm.CoresPerSocket) != 0 {
		t.Fatalf("not whole sockets of %d: %+v", vm.CoresPerSocket, z)
	}
	if z.Resource == placement.Memory && z.Next%4 != 0 {
		t.Fatalf("not a multiple of 4 MB: %+v", z)
	}
	if z.Hot == (z.WhyNot != "") {
		t.Fatalf("hot or not: %+v", z)
	}
}

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}
