package policy

import (
	"cmp"
	"slices"
)

// Limits on the search for the fewest VMs. If one is reached, the result has at most one VM too many.
const (
	weighings  = 16        // of CPU against memory
	maxNodes   = 50_000    // of the exact search
	maxPasses  = 16        // over the set while looking for a closer fit
	maxSwaps   = 4_000_000 // comparisons while doing so, or one pass
	tinyExcess = 1e-9      // of rounding
)

// search finds the fewest candidates of a pool that cover what is missing.
//
// For one resource the largest suffice. For two, candidates are weighed: the share of the missing CPU that
// each frees, times w, plus that of the missing memory, times 1-w. For the best w the heaviest are at most one
// more than the fewest possible, as the linear relaxation has at most two fractional variables; w is found by
// halving. A bounded exact search then decides whether one fewer would do.
type search struct {
	s       *selection
	missing load
	pool    []int
	w       float64 // the weight of CPU
	low     int     // at least so many are needed
	best    []int
}

// fewest returns the fewest of a part of the candidates that cover what is missing, and of equally many those
// that come first in order; nil if they cannot.
func (s *selection) fewest(from, to int) []int {
	f := search{s: s, missing: s.missing(), low: 1}
	var sum load
	for i := from; i < to; i++ {
		if s.may(i) && s.helps(i) {
			f.pool = append(f.pool, i)
			sum = sum.plus(s.all[i].frees)
		}
	}
	if f.missing.beyond(sum) != (load{}) {
		return nil
	}
	f.weigh()
	f.exact()
	if f.best == nil {
		return nil
	}
	return f.refine(from, to)
}

// weigh tries weights of CPU against memory, and narrows the pool.
func (f *search) weigh() {
	low, high := 0.0, 1.0
	for range weighings {
		f.w = (low + high) / 2
		if f.missing[0] == 0 || f.missing[1] == 0 {
			f.w = float64(min(f.missing[0], 1))
		}
		scores := f.scores()
		f.bound(scores)
		if f.low > f.s.room {
			f.best = nil
			return
		}
		set, lacking := f.heaviest(scores)
		if set != nil && (f.best == nil || len(set) < len(f.best)) {
			f.best = set
			f.prune(len(set))
		}
		if len(f.best) == f.low || f.missing[0] == 0 || f.missing[1] == 0 {
			return
		}
		if lacking == 0 {
			low = f.w
		} else {
			high = f.w
		}
	}
}

// score is the weight of a candidate.
type score struct {
	weight float64
	i      int
}

// weight is the share of what is missing that this much frees, weighed. No candidate counts for more than is
// missing.
func (f *search) weight(l load) (sum float64) {
	for r, w := range [2]float64{f.w, 1 - f.w} {
		if f.missing[r] > 0 {
			sum += w * float64(min(l[r], f.missing[r])) / float64(f.missing[r])
		}
	}
	return sum
}

// scores returns the pool, the heaviest first.
func (f *search) scores() []score {
	list := make([]score, len(f.pool))
	for n, i := range f.pool {
		list[n] = score{f.weight(f.s.all[i].frees), i}
	}
	slices.SortFunc(list, func(a, b score) int { return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.i, b.i)) })
	return list
}

// bound raises the least number: the heaviest must together weigh as much as what is missing.
func (f *search) bound(scores []score) {
	sum := 0.0
	for n, sc := range scores {
		if sum += sc.weight; sum >= 1-tinyExcess {
			f.low = max(f.low, n+1)
			return
		}
	}
	f.low = max(f.low, len(scores)+1)
}

// heaviest takes the heaviest that the limits allow until they cover what is missing; nil if they do not.
// lacking is the resource that was missing longest.
func (f *search) heaviest(scores []score) (set []int, lacking int) {
	t := selection{all: f.s.all, need: f.missing, room: f.s.room, left: slices.Clone(f.s.left), in: make([]bool, len(f.s.all))}
	for _, sc := range scores {
		missing := t.missing()
		if missing == (load{}) {
			break
		}
		lacking = 0
		if float64(missing[1])*float64(f.missing[0]) > float64(missing[0])*float64(f.missing[1]) {
			lacking = 1
		}
		if t.room == 0 {
			break
		}
		if t.may(sc.i) && t.helps(sc.i) {
			t.take(sc.i)
		}
	}
	if !t.covered() {
		return nil, lacking
	}
	return t.chosen, lacking
}

// prune drops candidates that another one can replace in any set of up to size: those for which size others, not
// limited by a group, free more of both resources.
func (f *search) prune(size int) {
	slices.SortFunc(f.pool, func(a, b int) int {
		x, y := f.s.all[a].frees, f.s.all[b].frees
		return cmp.Or(cmp.Compare(y[0], x[0]), cmp.Compare(y[1], x[1]), cmp.Compare(a, b))
	})
	var most []int64 // memory of those that free at least as much CPU: the size largest, in falling order
	f.pool = slices.DeleteFunc(f.pool, func(i int) bool {
		c := &f.s.all[i]
		if len(most) == size && most[size-1] >= c.frees[1] {
			return true
		}
		if len(c.groups) == 0 {
			at, _ := slices.BinarySearchFunc(most, c.frees[1], func(have, want int64) int { return cmp.Compare(want, have) })
			most = slices.Insert(most, at, c.frees[1])
			most = most[:min(len(most), size)]
		}
		return false
	})
}

// exact looks for smaller sets than the best, or for any set if there is none yet.
func (f *search) exact() {
	if f.best != nil && len(f.best) == f.low || f.low > f.s.room {
		return
	}
	scores := f.scores()
	x := exactSearch{
		search: f, scores: scores, left: slices.Clone(f.s.left),
		prefix: make([]float64, len(scores)+1), largest: make([]load, len(scores)+1),
	}
	for n, sc := range scores {
		x.prefix[n+1] = x.prefix[n] + sc.weight
	}
	for n, sc := range slices.Backward(scores) {
		c, next := f.s.all[sc.i].frees, x.largest[n+1]
		x.largest[n] = load{max(c[0], next[0]), max(c[1], next[1])}
	}
	if f.best == nil {
		for size := f.low; f.best == nil && size <= min(f.s.room, len(scores)) && x.nodes < maxNodes; size++ {
			x.try(size)
		}
		return
	}
	for len(f.best) > f.low && x.try(len(f.best)-1) {
		continue
	}
}

// exactSearch tries sets in order of weight, and backtracks if the rest cannot cover what is missing.
type exactSearch struct {
	*search
	scores  []score
	prefix  []float64 // of the weights
	largest []load    // of what follows, per resource
	left    []int
	set     []int
	nodes   int
}

// try keeps a set of at most size that covers what is missing as the best, if it finds one.
func (x *exactSearch) try(size int) bool {
	x.set = nil
	if !x.from(0, size, x.missing) {
		return false
	}
	x.best = slices.Clone(x.set)
	copy(x.left, x.s.left)
	return true
}

func (x *exactSearch) from(n, size int, missing load) bool {
	if missing == (load{}) {
		return true
	}
	for ; n < len(x.scores) && size > 0; n++ {
		if x.nodes++; x.nodes > maxNodes {
			return false
		}
		last := min(n+size, len(x.scores))
		if x.prefix[last]-x.prefix[n] < x.weight(missing)-tinyExcess ||
			x.largest[n][0]*int64(size) < missing[0] || x.largest[n][1]*int64(size) < missing[1] {
			return false
		}
		c := &x.s.all[x.scores[n].i]
		if slices.ContainsFunc(c.groups, func(g int) bool { return x.left[g] == 0 }) {
			continue
		}
		x.hold(c, -1)
		x.set = append(x.set, x.scores[n].i)
		if x.from(n+1, size-1, missing.beyond(c.frees)) {
			return true
		}
		x.set = x.set[:len(x.set)-1]
		x.hold(c, 1)
	}
	return false
}

func (x *exactSearch) hold(c *candidate, n int) {
	for _, g := range c.groups {
		x.left[g] += n
	}
}

// refine swaps members of the best set for candidates that come before them in order: of lower priority,
// preempted less often, of closer fit, younger. The set stays as small and covers as much as is missing.
func (f *search) refine(from, to int) []int {
	t := f.s.fresh()
	t.need = f.missing
	t.takeAll(f.best)
	passes := min(maxPasses, maxSwaps/(len(f.best)*(to-from))+1)
	for changed := true; changed && passes > 0; passes-- {
		changed = false
		for n, was := range slices.Backward(f.best) {
			t.drop(was)
			best, missing := was, t.missing()
			for i := from; i < to; i++ {
				if missing.beyond(t.all[i].frees) == (load{}) && t.closer(i, best, missing, t.need) && !f.s.has(i) && t.may(i) {
					best = i
				}
			}
			t.take(best)
			f.best[n], changed = best, changed || best != was
		}
	}
	return f.best
}
