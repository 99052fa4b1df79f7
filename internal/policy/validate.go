package policy

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
)

const week = 7 * 24 * time.Hour

// Validate returns an error for every impossible value, with its key and the allowed values.
func (p Policy) Validate() error {
	var c check
	c.oneOf("mode", p.Mode, ModeAct, ModeObserve)
	c.oneOf("scope", p.Scope, ScopeCluster, ScopeHost, ScopeAll)
	c.within("maxVMs", p.MaxVMs, 1, 1000)
	c.lasts("cooldown", p.Cooldown, 0, week)
	c.lasts("grayTimeout", p.GrayTimeout, 0, week)
	c.lasts("withdrawWait", p.WithdrawWait, 0, week)
	c.lasts("lateWatch", p.LateWatch, 0, week)
	c.lasts("powerOffTimeout", p.PowerOffTimeout, 0, week)
	c.treatment("criticality.HIGH", p.Criticality.High)
	c.treatment("criticality.MEDIUM", p.Criticality.Medium)
	c.treatment("criticality.LOW", p.Criticality.Low)
	c.goal(p.Target)
	c.headroom(p.Headroom)
	c.within("order.defaultPriority", p.Order.priority(), -maxPriority, maxPriority)
	c.protect(p.Protect)
	for i, b := range p.Budgets {
		c.budget(fmt.Sprintf("budgets[%d]", i), b)
	}
	c.restore(p.Restore)
	if p.Throttles() && !p.Restore.Enabled {
		c.add("restore.enabled", "must be true in a policy that throttles: the restore takes the limits back when the alarm has fallen")
	}
	return errors.Join(c...)
}

// KeyError says what is wrong with the value of a key.
type KeyError struct {
	Key string
	Err error
}

// Error returns "key: what is wrong".
func (e *KeyError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *KeyError) Unwrap() error { return e.Err }

// check collects what is wrong, each as a KeyError.
type check []error

func (c *check) add(key, format string, args ...any) {
	*c = append(*c, &KeyError{Key: key, Err: fmt.Errorf(format, args...)})
}

func (c *check) oneOf(key, got string, want ...string) {
	for _, w := range want {
		if got == w {
			return
		}
	}
	c.add(key, "%q is not one of %s", got, strings.Join(want, ", "))
}

func (c *check) within(key string, got, low, high int) {
	if got < low || got > high {
		c.add(key, "%d is not within %d to %d", got, low, high)
	}
}

func (c *check) lasts(key string, got clock.Duration, low, high time.Duration) {
	if got.D() < low || got.D() > high {
		c.add(key, "%s is not within %s to %s", got, brief(low), brief(high))
	}
}

func (c *check) treatment(key string, t Treatment) {
	if len(t.Steps) > 0 {
		c.steps(key, t)
		return
	}
	var known []string
	for _, a := range action.All() {
		known = append(known, string(a))
	}
	c.oneOf(key+".action", string(t.Action), known...)
	c.lasts(key+".notice", t.Notice, 0, 24*time.Hour)
	c.lasts(key+".gracePeriod", t.GracePeriod, 0, 24*time.Hour)
	c.throttle(key+".throttle", t.Action, t.Throttle)
}

func (c *check) throttle(key string, what action.Action, t Throttle) {
	speed := t.CPU
	switch {
	case what != action.Throttle && t != (Throttle{}):
		c.add(key, "belongs to the action %s only", action.Throttle)
	case what != action.Throttle:
	case t == (Throttle{}):
		c.add(key, "is missing: say how far, such as {cpu: 25%%} or {cpu: 500MHz}")
	case speed.Percent:
		c.within(key+".cpu", speed.N, 1, 99)
	default:
		c.within(key+".cpu", speed.N, LeastLimitMHz, 10_000_000)
	}
}

func (c *check) goal(g Goal) {
	if g == (Goal{}) {
		return
	}
	if g.CPU == 0 && g.Memory == 0 {
		c.add("target", "names neither cpu nor memory; give one of them 1 to 100 percent, or remove target")
	}
	for _, r := range []struct {
		key     string
		percent int
	}{{"cpu", g.CPU}, {"memory", g.Memory}} {
		if r.percent < 0 || r.percent > 100 {
			c.add("target."+r.key, "%d is not within 1 to 100", r.percent)
		} else if r.percent > 0 && g.Margin >= r.percent {
			c.add("target.margin", "%d leaves nothing of the %d percent of %s; give less", g.Margin, r.percent, r.key)
		}
	}
	c.within("target.margin", g.Margin, 0, 99)
	c.oneOf("target.ifShort", g.ifShort(), ShortPartial, ShortNone)
}

func (c *check) protect(p Protect) {
	c.lasts("protect.minRuntime", p.MinRuntime, 0, 365*24*time.Hour)
	c.within("protect.maxPreemptionsPerDay", p.MaxPreemptionsPerDay, 0, 1000)
	c.paths("protect.folders", p.Folders)
	c.paths("protect.resourcePools", p.ResourcePools)
	c.globs("protect.names", p.Names)
}

func (c *check) globs(key string, globs []string) {
	for _, glob := range globs {
		if _, err := path.Match(glob, ""); err != nil || glob == "" {
			c.add(key, "%q is no name pattern; use * ? and [a-z], with \\ before a literal one", glob)
		}
	}
}

// paths checks names and inventory paths.
func (c *check) paths(key string, globs []string) {
	c.globs(key, globs)
	for _, glob := range globs {
		if strings.Contains(glob, "/") && !strings.HasPrefix(glob, "/") {
			c.add(key, "%q is neither a name nor an inventory path; begin a path with /, such as /dc-1/vm/prod", glob)
		}
	}
}

// budget checks one entry, which is of exactly one kind.
func (c *check) budget(key string, b Budget) {
	kinds := 0
	for _, is := range []bool{b.Group != "", b.Scope, b.Window != ""} {
		if is {
			kinds++
		}
	}
	if kinds != 1 {
		c.add(key, "is not of one kind; write {group, minAvailable}, {scope: true, max, per} or {window, duration, timeZone}")
		return
	}
	switch {
	case b.Group != "":
		c.globs(key+".group", []string{b.Group})
		c.amount(key+".minAvailable", b.MinAvailable)
		c.strays(key, "group", b.Max.N != 0 || b.Per != 0, "max and per", b.Duration != 0 || b.TimeZone != "", "duration and timeZone")
	case b.Scope:
		c.amount(key+".max", b.Max)
		c.lasts(key+".per", b.per(), time.Minute, 24*time.Hour)
		c.strays(key, "scope", b.MinAvailable.N != 0, "minAvailable", b.Duration != 0 || b.TimeZone != "", "duration and timeZone")
	default:
		if _, err := parseStarts(b.Window); err != nil {
			c.add(key+".window", "%w", err)
		}
		c.lasts(key+".duration", b.Duration, time.Minute, week)
		if _, err := b.location(); err != nil {
			c.add(key+".timeZone", "%q is no time zone; use a name such as Europe/Berlin, or UTC", b.TimeZone)
		}
		c.strays(key, "window", b.MinAvailable.N != 0, "minAvailable", b.Max.N != 0 || b.Per != 0, "max and per")
	}
}

// strays finds settings that belong to another kind of budget.
func (c *check) strays(key, kind string, first bool, firstKeys string, second bool, secondKeys string) {
	if first {
		c.add(key, "has %s, which a %s budget does not take", firstKeys, kind)
	}
	if second {
		c.add(key, "has %s, which a %s budget does not take", secondKeys, kind)
	}
}

func (c *check) amount(key string, a Amount) {
	high := 10_000
	if a.Percent {
		high = 100
	}
	if a.N < 1 || a.N > high {
		c.add(key, "%s is not within 1 to 10000 or 1%% to 100%%", a)
	}
}

func (c *check) restore(r Restore) {
	if r == (Restore{}) {
		return
	}
	c.lasts("restore.settle", r.Settle, 0, 24*time.Hour)
	c.within("restore.wave", r.Wave, 1, 100)
	c.lasts("restore.giveUp", r.GiveUp, time.Minute, 30*24*time.Hour)
}
