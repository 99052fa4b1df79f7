package policy

import "slices"

// quick returns a set that is enough, without one that is not needed: the better of two that are quickly found. It is nil
// if neither is within the limits. from is where the highest priority begins.
func (w *sweep) quick(from, to int) []int {
	lowest := w.fill(w.fill(nil, 0, from), from, to)
	fewest := w.fill(nil, 0, to)
	a, b := w.trim(lowest), w.trim(fewest)
	if a == nil || b != nil && w.cheaper(b, a, from) {
		return b
	}
	return a
}

// cheaper reports whether set a costs less than b.
func (w *sweep) cheaper(a, b []int, from int) bool {
	lowA, lowB := w.below(a, from), w.below(b, from)
	if highA, highB := len(a)-lowA, len(b)-lowB; highA != highB {
		return highA < highB
	}
	if lowA != lowB {
		return lowA < lowB
	}
	return w.wasted(a) < w.wasted(b)
}

// fill adds those of a part of the candidates that help most, until the set is enough or the limits are reached.
func (w *sweep) fill(set []int, from, to int) []int {
	need := w.needAfter(set)
	for _, i := range set {
		w.hold(i, -1)
	}
	for len(set) < w.most && !w.covered(&need) {
		best, most := -1, 0.0
		for i := from; i < to; i++ {
			if h := w.helps(i, &need); h > most && w.allowed(i) && !slices.Contains(set, i) {
				best, most = i, h
			}
		}
		if best < 0 {
			break
		}
		set = append(set, best)
		w.hold(best, -1)
		need = need.minus(&w.frees[best])
	}
	for _, i := range set {
		w.hold(i, 1)
	}
	return set
}

// needAfter returns what is missing when a set is off.
func (w *sweep) needAfter(set []int) portion {
	need := w.need
	for _, i := range set {
		need = need.minus(&w.frees[i])
	}
	return need
}

// helps adds up the parts of what is still missing that the candidate frees.
func (w *sweep) helps(i int, need *portion) (sum float64) {
	for a := range w.asked {
		if need[a] > 0 {
			sum += float64(min(w.frees[i][a], need[a])) / float64(w.whole[a])
		}
	}
	return sum
}

// trim sorts the set and drops those that are not needed, the highest priority first; nil if the set is not enough.
func (w *sweep) trim(set []int) []int {
	need := w.needAfter(set)
	if !w.covered(&need) {
		return nil
	}
	slices.Sort(set)
	for _, i := range slices.Backward(slices.Clone(set)) {
		less := need
		for a := range less {
			less[a] += w.frees[i][a]
		}
		if w.covered(&less) {
			need = less
			set = slices.DeleteFunc(set, func(j int) bool { return i == j })
		}
	}
	return set
}
