package placement_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
)

func TestWhatTagsAskToChange(t *testing.T) {
	cases := map[string]struct {
		vm   placement.VM
		want string // the change, as JSON
		bad  []placement.BadTag
	}{
		"no tags": {vm: guest(), want: `{}`},
		"all six settings": {
			vm: guest(
				tagged(placement.CategoryCPUs, "4"), tagged(placement.CategoryMemory, "8192"), tagged(placement.CategoryCoresPerSocket, "2"),
				tagged(placement.CategoryMemoryHotAdd, "true"), tagged(placement.CategoryCPUHotAdd, "TRUE"), tagged(placement.CategoryCPUHotRemove, " True "),
			),
			want: `{"cpus":4,"coresPerSocket":2,"memoryMB":8192,"cpuHotAdd":true,"cpuHotRemove":true,"memoryHotAdd":true}`,
		},
		"what it has already": {
			vm: guest(tagged(placement.CategoryCPUs, "2"), tagged(placement.CategoryMemory, "4096"), tagged(placement.CategoryCPUHotAdd, "false")), want: `{}`,
		},
		"less than it has, which its owner may ask": {vm: guest(tagged(placement.CategoryCPUs, "1"), tagged(placement.CategoryMemory, "1024")), want: `{"cpus":1,"memoryMB":1024}`},
		"hot add is turned off":                     {vm: guest(hot, tagged(placement.CategoryMemoryHotAdd, "false")), want: `{"memoryHotAdd":false}`},
		"numbers that are none, and one that is": {
			vm:   guest(tagged(placement.CategoryCPUs, "four"), tagged(placement.CategoryMemory, "8 GB"), tagged(placement.CategoryCPUHotAdd, "true")),
			want: `{"cpuHotAdd":true}`,
			bad: []placement.BadTag{
				{Category: placement.CategoryCPUs, Tag: "four", Reason: "it is not a whole number"},
				{Category: placement.CategoryMemory, Tag: "8 GB", Reason: "it is not a whole number"},
			},
		},
		"out of bounds": {
			vm: guest(tagged(placement.CategoryCPUs, "0"), tagged(placement.CategoryMemory, "25165828")), want: `{}`,
			bad: []placement.BadTag{
				{Category: placement.CategoryCPUs, Tag: "0", Reason: "it is not within 1 to 768"},
				{Category: placement.CategoryMemory, Tag: "25165828", Reason: "it is not within 4 to 25165824"},
			},
		},
		"memory that vSphere cannot give": {
			vm: guest(tagged(placement.CategoryMemory, "4098")), want: `{}`,
			bad: []placement.BadTag{{Category: placement.CategoryMemory, Tag: "4098", Reason: "it is not a multiple of 4 MB"}},
		},
		"two tags of a category": {
			vm: guest(tagged(placement.CategoryCPUs, "8", "4"), tagged(placement.CategoryMemory, "8192")), want: `{"memoryMB":8192}`,
			bad: []placement.BadTag{
				{Category: placement.CategoryCPUs, Tag: "4", Reason: "2 tags of config.hardware.numCPU, of which one is allowed"},
				{Category: placement.CategoryCPUs, Tag: "8", Reason: "2 tags of config.hardware.numCPU, of which one is allowed"},
			},
		},
		"a word that is no boolean": {
			vm: guest(tagged(placement.CategoryCPUHotRemove, "1")), want: `{}`,
			bad: []placement.BadTag{{Category: placement.CategoryCPUHotRemove, Tag: "1", Reason: "it is neither true nor false"}},
		},
		"more CPUs than any host has": {
			vm: guest(tagged(placement.CategoryCPUs, "65")), want: `{}`,
			bad: []placement.BadTag{{Category: placement.CategoryCPUs, Tag: "65", Reason: "the largest host has 64 CPUs"}},
		},
		"more CPUs than its host has": {vm: guest(tagged(placement.CategoryCPUs, "64")), want: `{"cpus":64}`},
		"as many CPUs as can be where nobody knows the hosts": {
			vm: guest(func(vm *placement.VM) { vm.HostCPUs, vm.ClusterCPUs = 0, 0 }, tagged(placement.CategoryCPUs, "768")), want: `{"cpus":768}`,
		},
		"cores that do not divide the CPUs it has": {
			vm: guest(tagged(placement.CategoryCoresPerSocket, "3")), want: `{}`,
			bad: []placement.BadTag{{Category: placement.CategoryCoresPerSocket, Tag: "3", Reason: "2 CPUs are not whole sockets of 3 cores"}},
		},
		"cores that do not divide the CPUs it shall have": {
			vm: guest(tagged(placement.CategoryCPUs, "4"), tagged(placement.CategoryCoresPerSocket, "3")), want: `{"cpus":4}`,
			bad: []placement.BadTag{{Category: placement.CategoryCoresPerSocket, Tag: "3", Reason: "4 CPUs are not whole sockets of 3 cores"}},
		},
		"CPUs that are no whole sockets": {
			vm: guest(sized(4, 4, 4096), tagged(placement.CategoryCPUs, "6")), want: `{}`,
			bad: []placement.BadTag{{Category: placement.CategoryCPUs, Tag: "6", Reason: "6 CPUs are not whole sockets of 4 cores"}},
		},
		"CPUs that are neither sockets of the cores it has nor of those it shall have": {
			vm: guest(sized(4, 4, 4096), tagged(placement.CategoryCPUs, "7"), tagged(placement.CategoryCoresPerSocket, "2")), want: `{"coresPerSocket":2}`,
			bad: []placement.BadTag{{Category: placement.CategoryCPUs, Tag: "7", Reason: "7 CPUs are not whole sockets of 2 cores"}},
		},
		"neither fits": {
			vm: guest(sized(4, 4, 4096), tagged(placement.CategoryCPUs, "7"), tagged(placement.CategoryCoresPerSocket, "3")), want: `{}`,
			bad: []placement.BadTag{
				{Category: placement.CategoryCPUs, Tag: "7", Reason: "7 CPUs are not whole sockets of 3 cores"},
				{Category: placement.CategoryCoresPerSocket, Tag: "3", Reason: "7 CPUs are not whole sockets of 3 cores"},
			},
		},
		"CPUs and cores that fit only together": {
			vm: guest(sized(4, 4, 4096), tagged(placement.CategoryCPUs, "6"), tagged(placement.CategoryCoresPerSocket, "3")), want: `{"cpus":6,"coresPerSocket":3}`,
		},
		"tags that say something else": {vm: guest(tagged(placement.CategoryMode, "off"), tagged(placement.CategoryMaxCPUs, "1")), want: `{}`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			change, bad := placement.Difference(tc.vm)
			if got := jsonOf(change); got != tc.want {
				t.Errorf("change %s, want %s", got, tc.want)
			}
			if change.Empty() != (tc.want == `{}`) {
				t.Errorf("empty is %t", change.Empty())
			}
			if !slices.Equal(bad, tc.bad) {
				t.Errorf("bad tags\n%+v, want\n%+v", bad, tc.bad)
			}
		})
	}
}

func TestWhatTagsAskForIsAlwaysPossibleAndAskedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		vm := anyVM(t)
		before, _ := json.Marshal(vm)
		change, bad := placement.Difference(vm)
		if after, _ := json.Marshal(vm); string(before) != string(after) {
			t.Fatal("the VM was changed")
		}
		possible(t, vm, change)
		after := vm
		after.Hardware = change.Apply(vm.Hardware)
		if again, _ := placement.Difference(after); !again.Empty() {
			t.Fatalf("asked again: %s after %s, bad %+v", jsonOf(again), jsonOf(change), bad)
		}
	})
}

// possible asserts what holds for every change.
func possible(t interface{ Fatalf(string, ...any) }, vm placement.VM, c placement.Change) {
	h := c.Apply(vm.Hardware)
	if (c.CPUs != nil || c.CoresPerSocket != nil) && h.CoresPerSocket > 0 && (h.CPUs < 1 || h.CPUs%h.CoresPerSocket != 0) {
		t.Fatalf("%d CPUs in sockets of %d cores", h.CPUs, h.CoresPerSocket)
	}
	if c.MemoryMB != nil && (h.MemoryMB < 4 || h.MemoryMB%4 != 0) {
		t.Fatalf("%d MB", h.MemoryMB)
	}
}

func TestVMsThatMustNotBeTouched(t *testing.T) {
	cases := map[string]struct {
		change func(*placement.VM)
		want   string
	}{
		"any other VM":     {func(*placement.VM) {}, ""},
		"a template":       {func(vm *placement.VM) { vm.Template = true }, "it is a template"},
		"its host is away": {func(vm *placement.VM) { vm.Connected = false }, "its host is not connected"},
		"managed":          {func(vm *placement.VM) { vm.ManagedBy = "com.vmware.vim.eam" }, "the extension com.vmware.vim.eam manages it"},
		"a vCLS VM":        {func(vm *placement.VM) { vm.Name = "vCLS-8a2b" }, "it belongs to vSphere Cluster Services"},
		"fault tolerant":   {func(vm *placement.VM) { vm.FaultTolerant = true }, "it is fault tolerant"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := placement.Decline(guest(tc.change)); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestVMsThatAreNotOursToChange(t *testing.T) {
	vm := guest(func(vm *placement.VM) { vm.BIOSUUID = "42AB" })
	cases := map[string]struct {
		never, self, addrs []string
		want               string
	}{
		"vCenter runs on it":          {addrs: []string{"", "VC.example.com"}, want: "vCenter runs on it"},
		"its address is another's":    {addrs: []string{"10.0.0.6"}},
		"nothing is said of it":       {never: []string{"db-*"}, self: []string{"4711"}},
		"neverTouch names it":         {never: []string{"db-*", "web-?"}, want: "neverTouch names it: web-?"},
		"a pattern that is broken":    {never: []string{"["}, want: "neverTouch names it: ["},
		"we run on it":                {self: []string{"42ab"}, want: "we run on it"},
		"it has no UUID, nor have we": {self: []string{""}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			vm := vm
			vm.GuestAddrs = tc.addrs
			if got := placement.Owner(vm, tc.never, tc.self, []string{"vc.example.com", "10.0.0.5"}); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func FuzzTags(f *testing.F) {
	for _, seed := range []string{"4", "true", "", " 8 ", "-1", "4097", "99999999999999999999", "off", "\x00", "0x10", "+8", "1_000"} {
		f.Add(seed, seed, seed, seed, 4)
	}
	f.Add("6", "3", "8", "off", 2)
	f.Fuzz(func(t *testing.T, a, b, c, d string, cores int) {
		vm := guest(hot, sized(2, cores, 4096))
		vm.Tags = map[string][]string{}
		for i, category := range placement.Categories() {
			vm.Tags[category] = [][]string{{a}, {b}, {c}, {d}, {a, b}}[(i+len(a))%5]
		}
		change, bad := placement.Difference(vm)
		possible(t, vm, change)
		for _, tag := range bad {
			if tag.Reason == "" || !slices.Contains(vm.Tags[tag.Category], tag.Tag) {
				t.Fatalf("told of %+v", tag)
			}
		}
		for _, resource := range []string{placement.CPU, placement.Memory} {
			grown(t, vm, placement.NextSize(vm, rule(resource)))
		}
		reason := placement.Owner(guest(func(vm *placement.VM) { vm.Name, vm.BIOSUUID = a, b }), []string{c}, []string{d}, []string{a})
		if b != "" && strings.EqualFold(b, d) && reason == "" {
			t.Fatalf("our own VM %q may be changed", b)
		}
	})
}
