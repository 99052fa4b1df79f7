package placement_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

const gib = int64(1 << 30)

func dsRef(n int) vsphere.Ref {
	return vsphere.Ref{Type: "Datastore", Value: fmt.Sprintf("datastore-%d", n)}
}

func vmRef(n int) vsphere.Ref {
	return vsphere.Ref{Type: vsphere.TypeVM, Value: fmt.Sprintf("vm-%d", n)}
}

func hostRef(n int) vsphere.Ref {
	return vsphere.Ref{Type: vsphere.TypeHost, Value: fmt.Sprintf("host-%d", n)}
}

var cluster = vsphere.Ref{Type: vsphere.TypeCluster, Value: "domain-c1"}

// datastore is ds-n with 1000 GiB, of which so much is used, mounted on both hosts.
func datastore(n int, used int64, changes ...func(*placement.Datastore)) placement.Datastore {
	ds := placement.Datastore{
		Ref: dsRef(n), Name: fmt.Sprintf("ds-%d", n), Kind: "VMFS", Accessible: true,
		Capacity: 1000 * gib, Free: (1000 - used) * gib, Provisioned: used * gib, Hosts: []vsphere.Ref{hostRef(1), hostRef(2)},
	}
	for _, c := range changes {
		c(&ds)
	}
	return ds
}

// stored is web-n on ds-1 with one thick disk of so many GiB.
func stored(n int, used int64, changes ...func(*placement.StoredVM)) placement.StoredVM {
	vm := placement.StoredVM{
		VM: placement.VM{
			Ref: vmRef(n), Name: fmt.Sprintf("web-%d", n), PowerState: vsphere.PoweredOn, Connected: true, Host: hostRef(1), Cluster: cluster,
		},
		Home: dsRef(1), Disks: []placement.Disk{{Label: "Hard disk 1", Datastore: dsRef(1), Used: used * gib, Provisioned: used * gib}},
	}
	for _, c := range changes {
		c(&vm)
	}
	return vm
}

func storage(stores []placement.Datastore, vms ...placement.StoredVM) placement.Storage {
	return placement.Storage{
		Datastores: stores, VMs: vms,
		Hosts:    map[string]vsphere.Ref{hostRef(1).String(): cluster, hostRef(2).String(): cluster},
		Clusters: map[string][]vsphere.Ref{cluster.String(): {hostRef(1), hostRef(2)}},
	}
}

// full is ds-1, 900 of 1000 GiB used, and an empty ds-2. To come below 70 %, more than 200 GiB must go.
func full(vms ...placement.StoredVM) placement.Storage {
	return storage([]placement.Datastore{datastore(1, 900), datastore(2, 0)}, vms...)
}

// alarm is the demand of ds-1.
func alarm(changes ...func(*placement.Demand)) placement.Demand {
	d := placement.Demand{Source: dsRef(1)}
	for _, c := range changes {
		c(&d)
	}
	return d
}

func flight(vm, from, to int, used int64) func(*placement.Demand) {
	return func(d *placement.Demand) {
		d.Flights = append(d.Flights, placement.Flight{VM: vmRef(vm), Source: dsRef(from), Destination: dsRef(to), Used: used * gib, Provisioned: used * gib})
	}
}

// told is a plan in short: web-1→ds-2 and so on.
func told(m placement.Moves) string {
	var words []string
	for _, r := range m.Moves {
		words = append(words, r.Name+"→"+r.DestinationName)
	}
	return strings.Join(words, " ")
}

func stayOf(m placement.Moves, n int) placement.Stay {
	for _, s := range m.Stay {
		if s.VM == vmRef(n) {
			return s
		}
	}
	return placement.Stay{}
}

func TestWhichVMsLeaveAFullDatastore(t *testing.T) {
	cases := map[string]struct {
		st     placement.Storage
		demand placement.Demand
		want   string
		short  string // part of the reason where the target is not reached; empty: it is
	}{
		"the smallest that alone suffices":           {st: full(stored(1, 300), stored(2, 250), stored(3, 10)), demand: alarm(), want: "web-2→ds-2"},
		"exactly to the target is not below it":      {st: full(stored(1, 200), stored(2, 201)), demand: alarm(), want: "web-2→ds-2"},
		"of equals the first":                        {st: full(stored(2, 250), stored(1, 250)), demand: alarm(), want: "web-1→ds-2"},
		"the largest, and the smallest for the rest": {st: full(stored(1, 150), stored(2, 60), stored(3, 55), stored(4, 20)), demand: alarm(), want: "web-1→ds-2 web-3→ds-2"},
		"what is freed too much is given back":       {st: full(stored(1, 190), stored(2, 160), stored(3, 80), stored(4, 50)), demand: alarm(), want: "web-2→ds-2 web-4→ds-2"},
		"all that can go, where that is not enough":  {st: full(stored(1, 100), stored(2, 20)), demand: alarm(), want: "web-1→ds-2 web-2→ds-2", short: "the moves free 120.0 GB; to come below 70 %, 200.0 GB must go"},
		"none can go":                                   {st: full(stored(1, 300, func(vm *placement.StoredVM) { vm.Snapshots = true })), demand: alarm(), short: "no VM on ds-1 can be moved; to come below 70 %, 200.0 GB must go"},
		"nothing is on it":                              {st: full(), demand: alarm(), short: "no VM on ds-1 can be moved"},
		"what is leaving already counts as gone":        {st: full(stored(1, 300), stored(2, 150)), demand: alarm(flight(1, 1, 2, 300)), want: ""},
		"what is leaving is not enough":                 {st: full(stored(1, 100), stored(2, 150), stored(3, 300)), demand: alarm(flight(1, 1, 2, 100)), want: "web-2→ds-2"},
		"what is arriving counts as there":              {st: full(stored(1, 210), stored(2, 250)), demand: alarm(flight(9, 3, 1, 20)), want: "web-2→ds-2"},
		"it is not full":                                {st: storage([]placement.Datastore{datastore(1, 600), datastore(2, 0)}, stored(1, 300)), demand: alarm()},
		"nobody knows the datastore":                    {st: full(), demand: placement.Demand{Source: dsRef(7)}, short: "the datastore Datastore:datastore-7 is not known"},
		"nobody knows its capacity":                     {st: storage([]placement.Datastore{{Ref: dsRef(1), Name: "ds-1"}}), demand: alarm(), short: "the capacity of ds-1 is not known"},
		"a VM asked for by name, however much it frees": {st: full(stored(1, 300), stored(2, 10)), demand: placement.Demand{VM: vmRef(2)}, want: "web-2→ds-2"},
		"a VM that may not go": {
			st: full(stored(1, 300, func(vm *placement.StoredVM) { vm.Busy = true }), stored(2, 300)), demand: placement.Demand{VM: vmRef(1)},
			short: "web-1 stays: another operation is under way on it",
		},
		"a VM that nobody knows":                   {st: full(), demand: placement.Demand{VM: vmRef(1)}, short: "the VM VirtualMachine:vm-1 is not known"},
		"a VM that is on no datastore of the list": {st: storage([]placement.Datastore{datastore(2, 0)}, stored(1, 10)), demand: placement.Demand{VM: vmRef(1)}, short: "none of the datastores that web-1 is on is known"},
		"a VM that is not on the source":           {st: full(stored(1, 300)), demand: placement.Demand{Source: dsRef(2), VM: vmRef(1)}, short: "it keeps nothing on ds-2"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			m := placement.ChooseMoves(tc.st, tc.demand, placement.Move{})
			if got := told(m); got != tc.want {
				t.Errorf("moves %q, want %q", got, tc.want)
			}
			if m.Enough != (tc.short == "") || !strings.Contains(m.Reason, tc.short) {
				t.Errorf("enough %t: %q, want %q", m.Enough, m.Reason, tc.short)
			}
			if len(m.Moves) == 0 && m.Reason == "" {
				t.Error("nothing moves, and nobody says why")
			}
		})
	}
}

func TestAVMThatMustNotBeMovedStaysForAStableReason(t *testing.T) {
	vm := func(change func(*placement.StoredVM)) placement.StoredVM { return stored(1, 300, change) }
	disk := func(change func(*placement.Disk)) placement.StoredVM {
		return vm(func(vm *placement.StoredVM) {
			vm.Disks = append(vm.Disks, placement.Disk{Label: "Hard disk 2", Datastore: dsRef(3)})
			change(&vm.Disks[1])
		})
	}
	mode := func(tags ...string) placement.StoredVM {
		return vm(func(vm *placement.StoredVM) { tagged(placement.CategoryMode, tags...)(&vm.VM) })
	}
	cases := map[string]struct {
		vm     placement.StoredVM
		demand placement.Demand
		want   string
		detail string
	}{
		"snapshots":      {vm: vm(func(vm *placement.StoredVM) { vm.Snapshots = true }), want: "snapshots"},
		"a linked clone": {vm: vm(func(vm *placement.StoredVM) { vm.LinkedClone = true }), want: "linked_clone"},
		"an image on the source": {vm: vm(func(vm *placement.StoredVM) {
			vm.Media, vm.MediaSources = []string{"[ds-1] a.iso"}, []string{"datastore-1"}
		}), want: "media_on_source"},
		"an independent disk":        {vm: disk(func(d *placement.Disk) { d.Independent = true }), want: "independent_disk", detail: "Hard disk 2"},
		"a raw device mapping":       {vm: disk(func(d *placement.Disk) { d.Raw = true }), want: "raw_mapping", detail: "Hard disk 2"},
		"a shared disk":              {vm: disk(func(d *placement.Disk) { d.Shared = true }), want: "shared_disk", detail: "Hard disk 2"},
		"fault tolerant":             {vm: vm(func(vm *placement.StoredVM) { vm.FaultTolerant = true }), want: "fault_tolerant"},
		"a template":                 {vm: vm(func(vm *placement.StoredVM) { vm.Template = true }), want: "template"},
		"busy":                       {vm: vm(func(vm *placement.StoredVM) { vm.Busy = true }), want: "pending_task"},
		"on the move already":        {vm: stored(1, 300), demand: alarm(flight(1, 2, 1, 1)), want: "pending_task", detail: "a move of it is under way"},
		"its host is away":           {vm: vm(func(vm *placement.StoredVM) { vm.Connected = false }), want: "disconnected"},
		"managed by an extension":    {vm: vm(func(vm *placement.StoredVM) { vm.ManagedBy = "com.vmware.vim.eam" }), want: "managed"},
		"its owner opted out":        {vm: mode("off"), want: "opted_out", detail: "is off"},
		"its owner wants to be told": {vm: mode("recommend"), want: "opted_out", detail: "is recommend"},
		"nobody can read its mode":   {vm: mode("maybe"), want: "opted_out", detail: `its tag "maybe"`},
		"its owner says two things":  {vm: mode("tag", "hotAddOnly"), want: "opted_out", detail: "2 tags"},
		"it is in its cooldown":      {vm: stored(1, 300), demand: alarm(func(d *placement.Demand) { d.Excluded = map[string]string{vmRef(1).String(): "moved 2h ago"} }), want: "excluded", detail: "moved 2h ago"},
		"there is no room for it":    {vm: stored(1, 850), want: "no_destination", detail: "ds-2 would be 85.0 % used, at most 80 %"},
		"it frees nothing":           {vm: stored(1, 0), want: "not_needed", detail: "moving it frees nothing"},
		"an image somewhere else":    {vm: vm(func(vm *placement.StoredVM) { vm.MediaSources = []string{"datastore-2"} })},
		"its owner opted in":         {vm: mode("hotAddOnly")},
		"parts of it are elsewhere":  {vm: disk(func(d *placement.Disk) { d.Used = 500 * gib })},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if tc.demand.Source.Zero() {
				tc.demand = alarm()
			}
			m := placement.ChooseMoves(full(tc.vm), tc.demand, placement.Move{})
			if got := stayOf(m, 1); got.Reason != tc.want || !strings.Contains(got.Detail, tc.detail) || tc.want != "" && got.Detail == "" {
				t.Errorf("stays: %+v, want %q: %q", got, tc.want, tc.detail)
			}
			if (len(m.Moves) == 1) != (tc.want == "") {
				t.Errorf("moves %q", told(m))
			}
		})
	}
}

func TestWhereAVMMayGo(t *testing.T) {
	second := func(used int64, changes ...func(*placement.Datastore)) []placement.Datastore {
		return []placement.Datastore{datastore(1, 900), datastore(2, used, changes...)}
	}
	cases := map[string]struct {
		stores []placement.Datastore
		vm     placement.StoredVM
		demand placement.Demand
		move   placement.Move
		want   string // its destination
		miss   string // why there is none
	}{
		"the one with the most room":      {stores: append(second(100), datastore(3, 50), datastore(4, 99)), vm: stored(1, 300), want: "ds-3"},
		"of equals the first":             {stores: append(second(100), datastore(10, 50), datastore(3, 50)), vm: stored(1, 300), want: "ds-10"},
		"just 80 % used":                  {stores: second(500), vm: stored(1, 300), want: "ds-2"},
		"a little more than 80 % used":    {stores: second(501), vm: stored(1, 300), miss: "ds-2 would be 80.1 % used, at most 80 %"},
		"little free of a small one":      {stores: second(0, func(ds *placement.Datastore) { ds.Capacity, ds.Free = 100*gib, 100*gib }), vm: stored(1, 51), miss: "ds-2 would have 49.0 GB free, at least 50.0 GB"},
		"just enough free of a small one": {stores: second(0, func(ds *placement.Datastore) { ds.Capacity, ds.Free = 100*gib, 100*gib }), vm: stored(1, 50), want: "ds-2"},
		"not accessible":                  {stores: second(0, func(ds *placement.Datastore) { ds.Accessible = false }), vm: stored(1, 300), miss: "ds-2 is not accessible"},
		"in maintenance":                  {stores: second(0, func(ds *placement.Datastore) { ds.Maintenance = true }), vm: stored(1, 300), miss: "ds-2 is in maintenance"},
		"of another kind":                 {stores: second(0, func(ds *placement.Datastore) { ds.Kind = "NFS" }), vm: stored(1, 300), miss: "ds-2 is of kind NFS, the source of VMFS"},
		"not on its host":                 {stores: second(0, func(ds *placement.Datastore) { ds.Hosts = []vsphere.Ref{hostRef(2)} }), vm: stored(1, 300), miss: "ds-2 is not mounted"},
		"not on a host of its cluster":    {stores: second(0, func(ds *placement.Datastore) { ds.Hosts = []vsphere.Ref{hostRef(1)} }), vm: stored(1, 300), miss: "ds-2 is not mounted"},
		"a host that stands alone": {
			stores: second(0, func(ds *placement.Datastore) { ds.Hosts = []vsphere.Ref{hostRef(9)} }), vm: stored(1, 300, func(vm *placement.StoredVM) { vm.Host, vm.Cluster = hostRef(9), vsphere.Ref{} }), want: "ds-2",
		},
		"space on its way there counts":           {stores: second(0), vm: stored(1, 300), demand: alarm(flight(9, 3, 2, 501)), miss: "ds-2 would be 80.1 % used"},
		"space that is about to be free does not": {stores: second(600), vm: stored(1, 300), demand: alarm(flight(9, 2, 3, 500)), miss: "ds-2 would be 90.0 % used"},
		"thin disks count as they may grow": {
			stores: second(0, func(ds *placement.Datastore) { ds.Provisioned = 1400 * gib }), vm: stored(1, 300, func(vm *placement.StoredVM) { vm.Disks[0].Used = 220 * gib }),
			miss: "ds-2 would be provisioned with 1700.0 GB of 1000.0 GB, at most 150 %",
		},
		"thin disks may grow further where the rule allows it": {
			stores: second(0, func(ds *placement.Datastore) { ds.Provisioned = 1400 * gib }), vm: stored(1, 300), move: placement.Move{OverCommit: 170}, want: "ds-2",
		},
		"nothing is gained": {
			stores: []placement.Datastore{datastore(1, 800), datastore(2, 460)}, vm: stored(1, 300), miss: "ds-2 would be 76.0 % used, which is not 5 points less than the 80.0 % of ds-1",
		},
		"just enough is gained":    {stores: []placement.Datastore{datastore(1, 800), datastore(2, 450)}, vm: stored(1, 300), want: "ds-2"},
		"the nearest miss is told": {stores: append(second(700), datastore(3, 600), datastore(4, 0, func(ds *placement.Datastore) { ds.Maintenance = true })), vm: stored(1, 250), miss: "ds-3 would be 85.0 % used, at most 80 %"},
		"there is no other":        {stores: []placement.Datastore{datastore(1, 900)}, vm: stored(1, 300), miss: "there is no other datastore"},
		"an automated cluster of datastores": {stores: second(0, func(ds *placement.Datastore) {
			ds.Pod, ds.PodMode = vsphere.Ref{Type: "StoragePod", Value: "group-p1"}, placement.PodAutomated
		}), vm: stored(1, 300), want: "ds-2"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if tc.demand.Source.Zero() {
				tc.demand = alarm()
			}
			st := storage(tc.stores, tc.vm)
			m := placement.ChooseMoves(st, tc.demand, tc.move)
			if tc.want == "" {
				if got := stayOf(m, 1); got.Reason != "no_destination" || !strings.Contains(got.Detail, tc.miss) || tc.miss == "" {
					t.Errorf("stays: %+v, want %q", got, tc.miss)
				}
			} else if len(m.Moves) != 1 || m.Moves[0].DestinationName != tc.want {
				t.Errorf("moves %q, want to %s; %+v", told(m), tc.want, m.Stay)
			}
			r, reason := placement.Destination(st, tc.vm, vsphere.Ref{}, tc.demand, tc.move)
			if r.DestinationName != tc.want || !strings.Contains(reason, tc.miss) || (reason == "") != (tc.want != "") {
				t.Errorf("destination %q, %q, want %q, %q", r.DestinationName, reason, tc.want, tc.miss)
			}
		})
	}
}

func TestAMoveTellsWhatGoesWhere(t *testing.T) {
	vm := stored(1, 200, func(vm *placement.StoredVM) {
		vm.Other = 10 * gib
		vm.Disks = append(vm.Disks,
			placement.Disk{Label: "Hard disk 2", Datastore: dsRef(1), Used: 5 * gib, Provisioned: 50 * gib},
			placement.Disk{Label: "Hard disk 3", Datastore: dsRef(2), Used: 70 * gib, Provisioned: 70 * gib})
	})
	got := placement.ChooseMoves(full(vm), alarm(), placement.Move{})
	want := placement.Relocation{
		VM: vmRef(1), Name: "web-1", Source: dsRef(1), SourceName: "ds-1", Destination: dsRef(2), DestinationName: "ds-2", Host: hostRef(1), Cluster: vsphere.Ref{Type: vsphere.TypeCluster, Value: "domain-c1"},
		Used: 215 * gib, Provisioned: 260 * gib, UsageAfter: 22, Why: "frees 215.0 GB of ds-1; ds-2 will be 22 % used",
	}
	if len(got.Moves) != 1 || got.Moves[0] != want {
		t.Errorf("moves %+v\nwant  %+v", got.Moves, want)
	}
	usage := placement.Usage{Ref: dsRef(1), Name: "ds-1", Capacity: 1000 * gib, Used: 900 * gib, After: 685 * gib, Target: 70}
	if got.Source != usage || !got.Enough || got.Reason != "" {
		t.Errorf("source %+v\nwant   %+v; %s", got.Source, usage, got.Reason)
	}
}

func TestMovesChosenEarlierCount(t *testing.T) {
	st := storage([]placement.Datastore{datastore(1, 900), datastore(2, 600), datastore(3, 610)}, stored(1, 150), stored(2, 120), stored(3, 110))
	m := placement.ChooseMoves(st, alarm(), placement.Move{})
	if got := told(m); got != "web-2→ds-2 web-3→ds-3" {
		t.Errorf("moves %q", got)
	}
	m = placement.ChooseMoves(st, alarm(), placement.Move{TargetUsage: 60})
	if got := told(m); got != "web-1→ds-2 web-2→ds-3" || m.Enough {
		t.Errorf("moves %q, enough %t", got, m.Enough)
	}
	if stay := stayOf(m, 3); stay.Reason != "no_destination" || !strings.Contains(stay.Detail, "with the other moves ds-3 would be 84.0 % used") {
		t.Errorf("stays: %+v", stay)
	}
}

func TestAVMLeavesTheFullestOfItsDatastores(t *testing.T) {
	spread := stored(1, 100, func(vm *placement.StoredVM) {
		vm.Disks = append(vm.Disks, placement.Disk{Label: "Hard disk 2", Datastore: dsRef(2), Used: 30 * gib, Provisioned: 30 * gib})
	})
	st := storage([]placement.Datastore{datastore(1, 700), datastore(2, 900), datastore(3, 100), datastore(4, 950)}, spread)
	for name, tc := range map[string]struct {
		demand placement.Demand
		want   vsphere.Ref
	}{
		"the fullest":               {placement.Demand{VM: vmRef(1)}, dsRef(2)},
		"the one that is asked for": {placement.Demand{VM: vmRef(1), Source: dsRef(1)}, dsRef(1)},
	} {
		t.Run(name, func(t *testing.T) {
			m := placement.ChooseMoves(st, tc.demand, placement.Move{})
			if m.Source.Ref != tc.want || len(m.Moves) != 1 || m.Moves[0].Source != tc.want || m.Moves[0].DestinationName != "ds-3" {
				t.Errorf("source %s, moves %+v", m.Source.Name, m.Moves)
			}
			if r, reason := placement.Destination(st, spread, vsphere.Ref{}, tc.demand, placement.Move{}); reason != "" || r.Source != tc.want {
				t.Errorf("from %s: %s", r.SourceName, reason)
			}
		})
	}
}

func TestStorageDRSHasASay(t *testing.T) {
	pod := vsphere.Ref{Type: "StoragePod", Value: "group-p1"}
	of := func(mode string, m placement.Move) placement.Moves {
		source := datastore(1, 900, func(ds *placement.Datastore) { ds.Pod, ds.PodMode = pod, mode })
		return placement.ChooseMoves(storage([]placement.Datastore{source, datastore(2, 0)}, stored(1, 300)), alarm(), m)
	}
	if m := of(placement.PodAutomated, placement.Move{}); len(m.Moves) != 1 || m.Moves[0].Pod != pod || m.Moves[0].DestinationName != "ds-2" || m.RecommendOnly != "" {
		t.Errorf("automated: it is not asked first: %+v", m)
	}
	if m := of(placement.PodManual, placement.Move{}); len(m.Moves) != 1 || !m.Moves[0].Pod.Zero() || !strings.Contains(m.RecommendOnly, "works manually") {
		t.Errorf("manual: %+v", m)
	}
	if m := of("", placement.Move{}); len(m.Moves) != 1 || !m.Moves[0].Pod.Zero() || m.RecommendOnly != "" {
		t.Errorf("off: %+v", m)
	}
	if m := of("", placement.Move{Mode: placement.ModeRecommend}); m.RecommendOnly != "the rule only recommends" {
		t.Errorf("a rule that only tells: %+v", m)
	}
}

func TestADestinationIsCheckedAgainBeforeTheMove(t *testing.T) {
	st := storage([]placement.Datastore{datastore(1, 900), datastore(2, 0), datastore(3, 700)}, stored(1, 300))
	cases := map[string]struct {
		vm     placement.StoredVM
		to     vsphere.Ref
		demand placement.Demand
		want   string // the reason against it
	}{
		"it may go there":                    {vm: stored(1, 300), to: dsRef(2), demand: alarm()},
		"its own reservation is this move":   {vm: stored(1, 300), to: dsRef(2), demand: alarm(flight(1, 1, 2, 300), flight(2, 1, 2, 300))},
		"others took the room":               {vm: stored(1, 300), to: dsRef(2), demand: alarm(flight(2, 1, 2, 600)), want: "ds-2 would be 90.0 % used, which is not 5 points less"},
		"there is no room":                   {vm: stored(1, 300), to: dsRef(3), demand: alarm(), want: "ds-3 would be 100.0 % used"},
		"it is there":                        {vm: stored(1, 300), to: dsRef(1), demand: alarm(), want: "ds-1 is the source"},
		"nobody knows the destination":       {vm: stored(1, 300), to: dsRef(9), demand: alarm(), want: "the datastore Datastore:datastore-9 is not known"},
		"nobody knows the source":            {vm: stored(1, 300), to: dsRef(2), demand: placement.Demand{Source: dsRef(9)}, want: "the datastore Datastore:datastore-9 is not known"},
		"nobody knows where it is":           {vm: stored(1, 300, func(vm *placement.StoredVM) { vm.Home, vm.Disks = dsRef(9), nil }), to: dsRef(2), want: "none of the datastores"},
		"it has left the source":             {vm: stored(1, 300, func(vm *placement.StoredVM) { vm.Home, vm.Disks = dsRef(2), nil }), to: dsRef(2), demand: alarm(), want: "it keeps nothing on ds-1"},
		"somebody took a snapshot meanwhile": {vm: stored(1, 300, func(vm *placement.StoredVM) { vm.Snapshots = true }), to: dsRef(2), demand: alarm(), want: "it has snapshots"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			r, reason := placement.Destination(st, tc.vm, tc.to, tc.demand, placement.Move{})
			if (reason == "") != (tc.want == "") || !strings.Contains(reason, tc.want) || (reason == "") != (r.Destination == tc.to && !r.VM.Zero()) {
				t.Errorf("%+v, %q, want %q", r, reason, tc.want)
			}
		})
	}
}
