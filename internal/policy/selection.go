package policy

import (
	"cmp"
	"slices"
)

// selection is a set of candidates that is being chosen, with what the limits still allow.
type selection struct {
	all      []candidate // in order
	need     load        // what must be freed
	room     int         // how many more may be chosen
	left     []int       // how many more of each limited group may be chosen
	chosen   []int       // into all, as they were taken
	in       []bool
	freed    load
	possible load // what was freed by a choice that was given up
}

func (s *selection) missing() load { return s.need.beyond(s.freed) }
func (s *selection) covered() bool { return s.missing() == load{} }
func (s *selection) has(i int) bool {
	return s.in != nil && s.in[i]
}

// may reports whether the limits still allow the candidate.
func (s *selection) may(i int) bool {
	if s.room == 0 || s.has(i) {
		return false
	}
	return !slices.ContainsFunc(s.all[i].groups, func(g int) bool { return s.left[g] == 0 })
}

// helps reports whether the candidate frees anything of what is missing.
func (s *selection) helps(i int) bool {
	missing, frees := s.missing(), s.all[i].frees
	return missing[0] > 0 && frees[0] > 0 || missing[1] > 0 && frees[1] > 0
}

func (s *selection) take(i int) {
	if s.in == nil {
		s.in = make([]bool, len(s.all))
	}
	s.in[i] = true
	s.chosen = append(s.chosen, i)
	s.freed = s.freed.plus(s.all[i].frees)
	s.room--
	for _, g := range s.all[i].groups {
		s.left[g]--
	}
}

func (s *selection) drop(i int) {
	s.in[i] = false
	s.chosen = slices.DeleteFunc(s.chosen, func(j int) bool { return i == j })
	s.freed = s.freed.minus(s.all[i].frees)
	s.room++
	for _, g := range s.all[i].groups {
		s.left[g]++
	}
}

// fresh returns an empty selection with the same limits.
func (s *selection) fresh() selection {
	return selection{all: s.all, need: s.need, room: s.room, left: slices.Clone(s.left)}
}

// inOrder takes the candidates in order as far as the limits allow.
func (s *selection) inOrder() {
	for i := range s.all {
		if s.may(i) {
			s.take(i)
		}
	}
}

// cover returns the fewest candidates that free what is needed, lower priorities first, and none that is not
// needed. If no choice within the limits covers the need, it returns what comes closest, in order.
func (s selection) cover() selection {
	walk := s.fresh()
	classes := s.classes()
	from := 0
	for _, to := range classes {
		if walk.covered() {
			break
		}
		if set := walk.fewest(from, to); set != nil {
			walk.takeAll(set)
			break
		}
		walk.fill(from, to)
		from = to
	}
	if !walk.covered() {
		if all, ok := s.across(classes); ok {
			walk = all
		}
	}
	for walk.giveBack() && !walk.covered() { // what was removed makes room
		walk.fill(0, len(s.all))
	}
	return walk
}

// across covers the need if taking all of the lower priorities would use up a limit. It chooses from as few of the
// lowest priorities as can cover it together. ok is false if all together cannot.
func (s *selection) across(classes []int) (best selection, ok bool) {
	for low, high := 0, len(classes)-1; low <= high; {
		middle := high // first: are all together enough?
		if ok {
			middle = (low + high) / 2
		}
		t := s.fresh()
		set := t.fewest(0, classes[middle])
		switch {
		case set != nil:
			t.takeAll(set)
			best, ok = t, true
			high = middle - 1
		case ok:
			low = middle + 1
		default:
			return best, false
		}
	}
	return best, ok
}

// classes returns the ends of the runs of equal priority.
func (s *selection) classes() (ends []int) {
	for i := range s.all {
		if i+1 == len(s.all) || s.all[i].priority != s.all[i+1].priority {
			ends = append(ends, i+1)
		}
	}
	return ends
}

func (s *selection) takeAll(set []int) {
	for _, i := range set {
		s.take(i)
	}
}

// fill takes useful candidates from a part of them, closest fit first, until the need is covered or a
// limit is reached.
func (s *selection) fill(from, to int) {
	for s.room > 0 && !s.covered() {
		missing, best := s.missing(), -1
		scale := load{}
		for r := range scale {
			if missing[r] > 0 {
				scale[r] = s.need[r]
			}
		}
		for i := from; i < to; i++ {
			if s.may(i) && s.helps(i) && (best < 0 || s.closer(i, best, missing, scale)) {
				best = i
			}
		}
		if best < 0 {
			return
		}
		s.take(best)
	}
}

// closer reports whether a comes before b when this much is missing. A resource that scale lacks does not matter.
func (s *selection) closer(a, b int, missing, scale load) bool {
	x, y := &s.all[a], &s.all[b]
	return cmp.Or(cmp.Compare(x.priority, y.priority), cmp.Compare(x.preempted, y.preempted),
		cmp.Compare(distance(x.frees, missing, scale), distance(y.frees, missing, scale)), cmp.Compare(a, b)) < 0
}

// distance is how far what is freed is from what is missing, each resource in parts of its scale.
func distance(frees, missing, scale load) (sum float64) {
	for r := range frees {
		if scale[r] > 0 {
			sum += float64(max(frees[r]-missing[r], missing[r]-frees[r])) / float64(scale[r])
		}
	}
	return sum
}

// giveBack drops, the last taken first, the candidates that are not needed. It reports whether there
// was any.
func (s *selection) giveBack() (any bool) {
	for _, i := range slices.Backward(slices.Clone(s.chosen)) {
		if s.need.beyond(s.freed.minus(s.all[i].frees)) == s.missing() {
			s.drop(i)
			any = true
		}
	}
	return any
}

// ranked returns the chosen candidates, ordered by priority, earlier preemptions, and how much of the need each
// frees. If nothing is needed, the order of the candidates stays.
func (s *selection) ranked() []int {
	list := slices.Clone(s.chosen)
	slices.SortFunc(list, func(a, b int) int {
		if s.closer(a, b, s.need, s.need) {
			return -1
		}
		return 1
	})
	return list
}
