package policy

import (
	"math"
	"slices"
)

const (
	exactUpTo  = 16     // candidates on a host, up to which the search on it is exhaustive
	sweepSteps = 20_000 // of the search on a host with more
	tableCells = 1 << 16
	aspects    = len(space{}) + 1 // of a portion: what is missing, and all of it weighed together
	together   = 1 << 20          // all that is missing of one resource, in the last aspect
)

// portion is what a candidate frees, or what is missing: first each resource of which something is missing, then the sum of
// the parts of what is missing. In that sum no candidate counts for more than is missing of a resource. A set that frees
// too little in any aspect cannot be enough. Aspects beyond these are zero.
type portion [aspects]int64

// sweep searches one host for the cheapest candidates that free what is missing. It tries sets in the order of their
// price: by the highest priority, by how many have it, by how many have a lower one. The first of these levels that has
// a set holds the cheapest one.
type sweep struct {
	place *place
	asked []int     // the resources of which something is missing
	frees []portion // of each candidate, in order
	waste []int64   // of each candidate: what it frees, in parts of the host's capacity, without the denominator
	need  portion
	whole portion // what is missing before anybody goes
	most  int
	left  []int // how many more of each limited group may be chosen; nil: any number
	steps int   // that may still be taken
	// weight is what a candidate counts for, in slots, that must go; more than all together take. 0: none must.
	weight int64

	lower, class suffixes // of the level: below its highest priority, and of that priority
	set          []int
	found        []int // of the level; nil: nothing yet
	least        int64 // waste: a set counts if its own is smaller
}

func newSweep(p *place, most int, left []int) *sweep {
	w := &sweep{place: p, most: min(most, len(p.on)), left: left, steps: sweepSteps}
	if len(p.on) <= exactUpTo {
		w.steps = math.MaxInt
	}
	w.want()
	cpu, memory := max(1, p.host.CPUMHz), max(1, p.host.MemoryMB)
	for _, c := range p.on {
		f := p.gives(c)
		w.frees = append(w.frees, w.portion(c, f))
		w.waste = append(w.waste, (f[0]+f[2])*memory+(f[1]+f[3])*cpu)
	}
	return w
}

// want sets what is missing. Candidates that must go count as so many slots more that no set is enough without them.
func (w *sweep) want() {
	missing := w.place.missing
	if musts := int64(w.place.level.musts()); musts > 0 {
		for _, c := range w.place.on {
			w.weight += w.place.level.takes(c)
		}
		w.weight++
		missing[slots] += musts * w.weight
	}
	for r, m := range missing {
		if m > 0 {
			w.need[len(w.asked)] = m
			w.asked = append(w.asked, r)
		}
	}
	w.need[len(w.asked)] = together * int64(len(w.asked))
	w.whole = w.need
}

// portion returns what a candidate frees, its parts rounded up.
func (w *sweep) portion(c *candidate, f space) (out portion) {
	if w.weight > 0 && w.place.level.must[c] {
		f[slots] += w.weight
	}
	for a, r := range w.asked {
		m := w.whole[a]
		out[a] = f[r]
		out[len(w.asked)] += (min(f[r], m)*together + m - 1) / m
	}
	return out
}

// cheapest returns the cheapest set; nil if the limits allow none that is enough.
func (w *sweep) cheapest() []int {
	for from, on := 0, w.place.on; from < len(on); {
		to := from + 1
		for to < len(on) && on[to].priority == on[from].priority {
			to++
		}
		if set := w.upTo(from, to); set != nil {
			return set
		}
		from = to
	}
	return nil
}

// upTo returns the cheapest set of the candidates before to that has at least one from the highest priority, which
// begins at from.
func (w *sweep) upTo(from, to int) []int {
	rest := w.need
	for i := range to {
		rest = rest.minus(&w.frees[i])
	}
	if !w.covered(&rest) {
		return nil
	}
	known := w.quick(from, to)
	knownLow := w.below(known, from)
	knownHigh := len(known) - knownLow
	if known != nil && knownHigh == 0 || to*min(w.most, to) > tableCells {
		return known
	}
	w.lower, w.class = w.suffixes(0, from), w.suffixes(from, to)
	for high := 1; high <= min(to-from, w.most); high++ {
		for low := 0; low <= min(from, w.most-high); low++ {
			w.found, w.least = nil, math.MaxInt64
			reached := known != nil && high == knownHigh && low == knownLow
			if reached {
				w.least = w.wasted(known) + 1
			}
			w.level(low, high)
			switch {
			case w.found != nil:
				return w.found
			case reached:
				return known
			}
		}
	}
	return known
}

// level looks for the least wasteful set of so many candidates. It takes at most half of the steps that are left, so that
// a hard level does not starve those after it.
func (w *sweep) level(low, high int) {
	kept := w.steps / 2
	w.steps -= kept
	w.pick(0, low, high, w.need, 0)
	w.steps = max(0, w.steps) + kept
}

// pick completes the set from candidate i on, first with so many of lower priority, then with so many of the highest.
func (w *sweep) pick(i, low, high int, need portion, waste int64) {
	if low+high == 0 {
		if w.covered(&need) && waste < w.least {
			w.found, w.least = slices.Clone(w.set), waste
		}
		return
	}
	part, n, rest := &w.lower, low, high
	if low == 0 {
		part, n, rest, i = &w.class, high, 0, max(i, w.class.from)
	}
	for ; i+n <= part.to; i++ {
		if w.steps--; w.steps < 0 || !w.possible(part, i, n, rest, &need, waste) {
			return
		}
		if !w.allowed(i) {
			continue
		}
		w.hold(i, -1)
		w.set = append(w.set, i)
		if low > 0 {
			w.pick(i+1, low-1, high, need.minus(&w.frees[i]), waste+w.waste[i])
		} else {
			w.pick(i+1, 0, high-1, need.minus(&w.frees[i]), waste+w.waste[i])
		}
		w.set = w.set[:len(w.set)-1]
		w.hold(i, 1)
	}
}

// possible reports whether n candidates from i on and rest of the highest priority could be enough, and waste less than
// the best set so far.
func (w *sweep) possible(part *suffixes, i, n, rest int, need *portion, waste int64) bool {
	here := part.at(i, n)
	there := &suffix{}
	if rest > 0 {
		there = w.class.at(w.class.from, rest)
	}
	for a := range len(w.asked) + 1 {
		if here.most[a]+there.most[a] < need[a] {
			return false
		}
	}
	return waste+here.waste+there.waste < w.least
}

// covered reports whether nothing is missing any more.
func (w *sweep) covered(need *portion) bool {
	for a := range w.asked {
		if need[a] > 0 {
			return false
		}
	}
	return true
}

func (p portion) minus(q *portion) portion {
	for a := range p {
		p[a] -= q[a]
	}
	return p
}

// allowed reports whether the groups of the candidate may lose another VM.
func (w *sweep) allowed(i int) bool {
	return w.left == nil || !slices.ContainsFunc(w.place.on[i].groups, func(g int) bool { return w.left[g] <= 0 })
}

func (w *sweep) hold(i, n int) {
	if w.left == nil {
		return
	}
	for _, g := range w.place.on[i].groups {
		w.left[g] += n
	}
}

func (w *sweep) wasted(set []int) (sum int64) {
	for _, i := range set {
		sum += w.waste[i]
	}
	return sum
}

// below counts the members of a set that are of a lower priority than the one that begins at from.
func (w *sweep) below(set []int, from int) (n int) {
	for _, i := range set {
		if i < from {
			n++
		}
	}
	return n
}

// suffix is a bound on any so many candidates from a certain one on.
type suffix struct {
	most  portion // that they free at most, in each aspect
	waste int64   // that they waste at least
}

// suffixes are the bounds of a part of the candidates, for each one and each number up to width.
type suffixes struct {
	from, to, width int
	cells           []suffix
}

func (s *suffixes) at(i, n int) *suffix { return &s.cells[(i-s.from)*(s.width+1)+n] }

// suffixes computes the bounds of the candidates from..to.
func (w *sweep) suffixes(from, to int) suffixes {
	s := suffixes{from: from, to: to, width: min(w.most, to-from)}
	s.cells = make([]suffix, (to-from)*(s.width+1))
	var largest [aspects][]int64
	var least []int64
	for i := to - 1; i >= from; i-- {
		for a := range len(w.asked) + 1 {
			largest[a] = insert(largest[a], -w.frees[i][a], s.width)
		}
		least = insert(least, w.waste[i], s.width)
		for n := range least {
			was, sum := s.at(i, n), s.at(i, n+1)
			for a := range len(w.asked) + 1 {
				sum.most[a] = was.most[a] - largest[a][n]
			}
			sum.waste = was.waste + least[n]
		}
	}
	return s
}

// insert puts a value into a rising list that keeps the first few.
func insert(list []int64, value int64, few int) []int64 {
	at, _ := slices.BinarySearch(list, value)
	list = slices.Insert(list, at, value)
	return list[:min(len(list), few)]
}
