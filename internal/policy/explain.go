package policy

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// why explains in words why a target is turned off at its rank.
func (c *candidate) why(rank int, need load, now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "rank %d: priority %d", rank, c.priority)
	if c.preempted > 0 {
		fmt.Fprintf(&b, ", preempted %s in the last 24 h", times(c.preempted))
	}
	if need != (load{}) {
		b.WriteString(", frees " + amounts(c.frees, need))
	} else if ran := uptime(c.vm, now); ran.known {
		b.WriteString(", on for " + ran.String())
	}
	return b.String()
}

// staying explains why eligible candidates were not chosen.
type staying struct {
	limits   *limits
	choice   *selection
	goal     Goal
	measured bool
	full     Spared // why there is no room for more
}

func (s *staying) of(c *candidate) (Reason, string) {
	need := s.choice.need
	switch {
	case s.limits.blackout != "":
		return Blackout, s.limits.blackout
	case s.goal.Set() && !s.measured:
		return NotMeasured, s.goal.whyUnmeasured()
	case s.goal.Set() && need == load{}:
		return NotNeeded, "the usage is not above the target"
	}
	for _, g := range c.groups {
		if s.choice.left[g] == 0 {
			return GroupBudget, s.limits.groups[g].detail
		}
	}
	switch {
	case s.goal.Set() && s.choice.covered():
		return NotNeeded, ""
	case s.goal.IfShort == ShortNone && s.goal.Set():
		return CannotCover, fmt.Sprintf("all together would free %s of %s", amounts(s.choice.possible, need), amounts(need, need))
	case s.choice.room == 0:
		return s.full.Reason, s.full.Detail
	}
	return NotNeeded, "it frees nothing of what is missing"
}

// amounts writes the resources that are needed in units that people read.
func amounts(l, need load) string {
	var parts []string
	if need[0] > 0 {
		parts = append(parts, fmt.Sprintf("%.1f GHz", float64(l[0])/1000))
	}
	if need[1] > 0 {
		parts = append(parts, fmt.Sprintf("%.1f GiB", float64(l[1])/1024))
	}
	return strings.Join(parts, " and ")
}

// times writes once, twice, 3 times.
func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return strconv.Itoa(n) + " times"
}

// age writes a duration to the minute, a short one to the second.
func age(d time.Duration) string {
	if d < time.Minute {
		return brief(d.Truncate(time.Second))
	}
	return brief(d.Truncate(time.Minute))
}
