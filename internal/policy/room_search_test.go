package policy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// crowded is a host with n candidates of any size, in groups that may lose some, from which about a part of what they
// have is missing.
func crowded(r *rand.Rand, n int, part float64) (*place, []int) {
	p := &place{host: &vsphere.Host{CPUMHz: 96_000, MemoryMB: 512_000}}
	var sum space
	for i := range n {
		v := &vsphere.VM{CPUReservedMHz: r.Int64N(5000), MemoryReservedMB: r.Int64N(32_000)}
		c := &candidate{vm: v, priority: i * 3 / n, frees: load{r.Int64N(8000), r.Int64N(32_000)}}
		if r.IntN(3) == 0 {
			c.groups = []int{r.IntN(2)}
		}
		p.on = append(p.on, c)
		sum = sum.plus(c.gives())
	}
	for i, s := range sum {
		p.missing[i] = int64(float64(s) * part * (0.7 + 0.6*r.Float64()))
	}
	return p, []int{n / 8, n / 8}
}

// priced returns the price of a set that a search found, and false for none.
func priced(p place, set []int) (price, bool) {
	p.take(set)
	return p.price, set != nil
}

// With more candidates than are searched exhaustively, a bounded search comes close to one without bound.
func TestABoundedSearchOfAHostComesCloseToALongOne(t *testing.T) {
	const seed, cases = 3, 300
	r := rand.New(rand.NewPCG(seed, 1))
	same, moreVMs, compared := 0, 0, 0
	for n := range cases {
		p, left := crowded(r, exactUpTo+1+r.IntN(12), 0.1+0.5*r.Float64())
		most := 4 + r.IntN(12)
		long := newSweep(p, most, slices.Clone(left))
		long.steps = math.MaxInt
		best, possible := priced(*p, long.cheapest())
		got, found := priced(*p, newSweep(p, most, left).cheapest())
		if found && !possible || found && got.compare(best) < 0 {
			t.Fatalf("seed %d, case %d: got %+v (%v), a search without bound %+v (%v)", seed, n, got, found, best, possible)
		}
		if !possible {
			continue
		}
		compared++
		switch {
		case found && got.compare(best) == 0:
			same++
		case !found || got.priority != best.priority || got.ofPriority != best.ofPriority || got.all != best.all:
			moreVMs++
		}
	}
	t.Logf("seed %d: of %d cases the bounded search finds the cheapest set in %d, and one of more VMs or none in %d", seed, compared, same, moreVMs)
	if compared < cases/4 || same*100 < compared*90 || moreVMs*100 > compared*5 {
		t.Errorf("of %d cases, %d are the same, and %d take more VMs", compared, same, moreVMs)
	}
}

func TestTheSearchOfAHostIsBounded(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 1))
	for _, n := range []int{exactUpTo, exactUpTo + 1, 40, 200, 1000} {
		most, worst := 1<<20, 0
		if n > exactUpTo {
			most = sweepSteps
		}
		for i := range 60 {
			p, left := crowded(r, n, 0.1+float64(i%5)*0.15)
			w := newSweep(p, n, left)
			before := w.steps
			w.cheapest()
			worst = max(worst, before-w.steps)
		}
		t.Logf("%d candidates: at most %d steps", n, worst)
		if worst > most {
			t.Errorf("of %d candidates the search took %d steps, more than %d", n, worst, most)
		}
	}
}

// onlyCPU is a host that lacks 10 GHz, with candidates of these priorities that use so many GHz and no memory.
func onlyCPU(priorities []int, ghz ...int64) *place {
	p := &place{host: &vsphere.Host{CPUMHz: 96_000, MemoryMB: 512_000}, missing: space{10_000}}
	for i, g := range ghz {
		p.on = append(p.on, &candidate{vm: &vsphere.VM{}, priority: priorities[i], frees: load{g * 1000}})
	}
	return p
}

func TestOfTwoQuickSetsTheCheaperIsTaken(t *testing.T) {
	for name, c := range map[string]struct {
		place *place
		from  int
		want  []int
	}{
		"one that begins with the lowest":           {onlyCPU([]int{1, 1, 2, 2}, 4, 4, 5, 5), 2, []int{0, 1, 2}},
		"one that begins with those that help most": {onlyCPU([]int{1, 2, 2}, 4, 6, 10), 1, []int{2}},
		"one without a VM that is not needed":       {onlyCPU([]int{1, 1, 2}, 3, 2, 8), 2, []int{0, 2}},
		"none, as together they are too few":        {onlyCPU([]int{1, 2}, 3, 6), 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := newSweep(c.place, 4, nil).quick(c.from, len(c.place.on)); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestOnAHostWithVeryManyVMsNobodyGoesInVain(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 1))
	for n := range 20 {
		p, left := crowded(r, 600, 0.1+0.2*r.Float64())
		w := newSweep(p, 600, left)
		set := w.cheapest()
		if set == nil {
			continue
		}
		for _, i := range set {
			if rest := w.needAfter(slices.DeleteFunc(slices.Clone(set), func(j int) bool { return i == j })); w.covered(&rest) {
				t.Errorf("case %d: of %d VMs, number %d goes in vain", n, len(set), i)
			}
		}
	}
}

func BenchmarkRoomOnOneHost(b *testing.B) {
	for _, n := range []int{exactUpTo, 40, 200, 1000} {
		p, left := crowded(rand.New(rand.NewPCG(9, 9)), n, 0.3)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				newSweep(p, n, left).cheapest()
			}
		})
	}
}
