package placement_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// anyStorage draws datastores and VMs, some of which must not be moved, and moves under way.
func anyStorage(t *rapid.T) (placement.Storage, placement.Demand) {
	count := rapid.IntRange(1, 6).Draw(t, "datastores")
	anyDS := func(label string) vsphere.Ref { return dsRef(rapid.IntRange(1, count).Draw(t, label)) }
	space := func(label string, most int) int64 { return int64(rapid.IntRange(0, most).Draw(t, label)) * gib }
	var stores []placement.Datastore
	for n := 1; n <= count; n++ {
		stores = append(stores, datastore(n, 0, func(ds *placement.Datastore) {
			ds.Capacity = gib * int64(rapid.IntRange(100, 3000).Draw(t, "capacity"))
			ds.Free = min(ds.Capacity, space("free", 3000))
			ds.Provisioned = ds.Capacity - ds.Free + space("thin", 1000)
			ds.Accessible = rapid.IntRange(0, 9).Draw(t, "accessible") > 0
			ds.Maintenance = rapid.IntRange(0, 9).Draw(t, "maintenance") == 0
			ds.Kind = rapid.SampledFrom([]string{"VMFS", "VMFS", "VMFS", "NFS"}).Draw(t, "kind")
			ds.PodMode = rapid.SampledFrom([]string{"", placement.PodAutomated, placement.PodManual}).Draw(t, "pod")
		}))
	}
	var vms []placement.StoredVM
	for n := 1; n <= rapid.IntRange(0, 12).Draw(t, "vms"); n++ {
		vms = append(vms, stored(n, 0, func(vm *placement.StoredVM) {
			vm.Home, vm.Other = anyDS("home"), space("other", 20)
			vm.Snapshots = rapid.IntRange(0, 9).Draw(t, "snapshots") == 0
			vm.Disks = nil
			for i := range rapid.IntRange(0, 2).Draw(t, "disks") {
				used := space("used", 400)
				vm.Disks = append(vm.Disks, placement.Disk{Label: fmt.Sprintf("Hard disk %d", i), Datastore: anyDS("datastore"), Used: used, Provisioned: used + space("grows", 100)})
			}
		}))
	}
	d := placement.Demand{Source: anyDS("source")}
	for range rapid.IntRange(0, 3).Draw(t, "flights") {
		used := space("flight", 200)
		d.Flights = append(d.Flights, placement.Flight{VM: vmRef(rapid.IntRange(1, 20).Draw(t, "flies")), Source: anyDS("from"), Destination: anyDS("to"), Used: used, Provisioned: used})
	}
	if len(vms) > 0 && rapid.IntRange(0, 3).Draw(t, "one") == 0 {
		d.VM = vms[0].Ref
	}
	return storage(stores, vms...), d
}

func TestPlansKeepEveryDestinationWithinItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st, d := anyStorage(t)
		before := jsonOf([]any{st, d})
		m := placement.ChooseMoves(st, d, placement.Move{})
		if jsonOf([]any{st, d}) != before {
			t.Fatal("an argument was changed")
		}
		stores := map[vsphere.Ref]placement.Datastore{}
		var total int64
		for _, ds := range st.Datastores {
			stores[ds.Ref] = ds
			total += ds.Capacity - ds.Free
		}
		source := stores[d.Source]
		nowUsed := float64(source.Capacity-source.Free) * 100 / float64(source.Capacity)
		vms := map[vsphere.Ref]placement.StoredVM{}
		for _, vm := range st.VMs {
			vms[vm.Ref] = vm
		}
		var freed int64
		for _, r := range m.Moves { // apply it
			from, to := stores[r.Source], stores[r.Destination]
			from.Free += r.Used
			to.Free -= r.Used
			to.Provisioned += r.Provisioned
			stores[r.Source], stores[r.Destination] = from, to
			freed += r.Used
			vm := vms[r.VM]
			delete(vms, r.VM) // once
			if r.Source == r.Destination || vm.Snapshots || vm.Ref.Zero() || r.Source != m.Source.Ref {
				t.Fatalf("must not move: %+v", r)
			}
		}
		for _, r := range m.Moves {
			to := stores[r.Destination]
			var arriving, provisioned int64
			for _, f := range d.Flights {
				if f.Destination == r.Destination {
					arriving, provisioned = arriving+f.Used, provisioned+f.Provisioned
				}
			}
			free := to.Free - arriving
			percent := float64(to.Capacity-free) * 100 / float64(to.Capacity)
			if percent > 80 || free < 50*gib || r.UsageAfter > 80 || to.Provisioned+provisioned > to.Capacity/2*3 || !to.Accessible || to.Maintenance || to.Kind != source.Kind && d.VM.Zero() {
				t.Fatalf("%+v: %.1f %% used, %d GiB free, %d GiB provisioned of %+v", r, percent, free/gib, to.Provisioned/gib, to)
			}
			if d.VM.Zero() && percent+5 > nowUsed {
				t.Fatalf("%+v: %.1f %% used, the source was %.1f %%", r, percent, nowUsed)
			}
		}
		for _, ds := range stores {
			total -= ds.Capacity - ds.Free
		}
		if total != 0 || m.Source.After != max(0, m.Source.Used-freed) {
			t.Fatalf("%d bytes lost; the source has %d after %d", total, m.Source.After, m.Source.Used)
		}
		if d.VM.Zero() && m.Enough != (m.Source.After*100 < m.Source.Capacity*70) {
			t.Fatalf("enough is %t: %+v", m.Enough, m.Source)
		}
		if (len(m.Moves) == 0 || !m.Enough) && m.Reason == "" {
			t.Fatalf("not explained: %+v", m)
		}
		for _, s := range m.Stay {
			if _, ok := vms[s.VM]; !ok || s.Reason == "" || s.Detail == "" {
				t.Fatalf("stays: %+v", s)
			}
			delete(vms, s.VM)
		}
		for _, vm := range vms {
			if vm.Home == m.Source.Ref || slices.ContainsFunc(vm.Disks, func(d placement.Disk) bool { return d.Datastore == m.Source.Ref }) {
				t.Fatalf("%s neither goes nor stays", vm.Name)
			}
		}
		seed := rapid.Uint64().Draw(t, "seed")
		shuffled(&st, &d, rand.New(rand.NewPCG(seed, 0)))
		if again := placement.ChooseMoves(st, d, placement.Move{}); jsonOf(again) != jsonOf(m) {
			t.Fatalf("in another order\n%s, was\n%s", jsonOf(again), jsonOf(m))
		}
	})
}

// shuffled puts all lists into another order.
func shuffled(st *placement.Storage, d *placement.Demand, r *rand.Rand) {
	shuffle := func(n int, swap func(i, j int)) { r.Shuffle(n, swap) }
	shuffle(len(st.Datastores), func(i, j int) { st.Datastores[i], st.Datastores[j] = st.Datastores[j], st.Datastores[i] })
	shuffle(len(st.VMs), func(i, j int) { st.VMs[i], st.VMs[j] = st.VMs[j], st.VMs[i] })
	shuffle(len(d.Flights), func(i, j int) { d.Flights[i], d.Flights[j] = d.Flights[j], d.Flights[i] })
	for n := range st.VMs {
		slices.Reverse(st.VMs[n].Disks)
	}
	for n := range st.Datastores {
		slices.Reverse(st.Datastores[n].Hosts)
	}
}

func TestNoPlanMovesMoreThanOneVMWhereOneSuffices(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st, d := anyStorage(t)
		d.VM = vsphere.Ref{}
		m := placement.ChooseMoves(st, d, placement.Move{})
		var smallest int64
		for _, vm := range st.VMs {
			alone := d
			alone.VM = vm.Ref
			one := placement.ChooseMoves(st, alone, placement.Move{})
			if one.Enough && one.Source.After*100 < one.Source.Capacity*70 && (smallest == 0 || one.Moves[0].Used < smallest) {
				smallest = one.Moves[0].Used
			}
		}
		if m.Source.Used*100 >= m.Source.Capacity*70 && smallest > 0 && (len(m.Moves) != 1 || m.Moves[0].Used != smallest) {
			t.Fatalf("one VM of %d GiB suffices: %+v", smallest/gib, m.Moves)
		}
	})
}

func BenchmarkChooseMoves(b *testing.B) {
	const hosts = 32
	r := rand.New(rand.NewPCG(1, 2))
	st := placement.Storage{Hosts: map[string]vsphere.Ref{}, Clusters: map[string][]vsphere.Ref{}}
	for n := range hosts {
		st.Hosts[hostRef(n).String()] = cluster
		st.Clusters[cluster.String()] = append(st.Clusters[cluster.String()], hostRef(n))
	}
	for n := 1; n <= 50; n++ {
		st.Datastores = append(st.Datastores, datastore(n, 300+r.Int64N(400), func(ds *placement.Datastore) {
			ds.Capacity, ds.Free, ds.Provisioned = ds.Capacity*20, ds.Free*20, ds.Provisioned*20
			ds.Hosts = st.Clusters[cluster.String()]
		}))
	}
	st.Datastores[0].Free = 100 * gib
	for n := range 2000 {
		st.VMs = append(st.VMs, stored(n, 1+r.Int64N(15), func(vm *placement.StoredVM) { vm.Host = hostRef(n % hosts) }))
	}
	for b.Loop() {
		if m := placement.ChooseMoves(st, alarm(), placement.Move{}); !m.Enough {
			b.Fatal(m.Reason)
		}
	}
}
