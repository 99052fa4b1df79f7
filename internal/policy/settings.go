package policy

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
)

// What happens if the shortfall cannot be covered.
const (
	ShortPartial = "partial" // do what can be done
	ShortNone    = "none"    // preempt no VM
)

// DefaultPriority is the priority of a VM without a priority tag, unless the policy says otherwise.
const DefaultPriority = 100

// maxPriority bounds priorities on both sides of zero.
const maxPriority = 1_000_000

// Goal is the utilisation to come down to, in percent of the capacity of the contended scope. What must be
// freed is usage − (target − margin). Zero: no goal, and up to maxVMs are turned off.
type Goal struct {
	CPU     int    `json:"cpu,omitempty"`     // 1 to 100; 0: CPU does not matter
	Memory  int    `json:"memory,omitempty"`  // 1 to 100; 0: memory does not matter
	Margin  int    `json:"margin"`            // how far below the target to go
	IfShort string `json:"ifShort,omitempty"` // partial (the default) or none
	// FailHosts are hosts whose capacity, that of the largest, does not count; only a headroom sets it.
	FailHosts int `json:"failHosts,omitempty"`
}

// DefaultGoal returns the defaults of a target in a file.
func DefaultGoal() Goal { return Goal{Margin: 5, IfShort: ShortPartial} }

// Set reports whether there is a goal.
func (g Goal) Set() bool { return g.CPU > 0 || g.Memory > 0 }

func (g Goal) ifShort() string {
	if g.IfShort == "" {
		return ShortPartial
	}
	return g.IfShort
}

// Order says how candidates are ordered.
type Order struct {
	DefaultPriority *int `json:"defaultPriority,omitempty"` // of VMs without a priority tag; nil: 100
}

func (o Order) priority() int {
	if o.DefaultPriority == nil {
		return DefaultPriority
	}
	return *o.DefaultPriority
}

// Protect says which candidates stay on, whatever the request is.
type Protect struct {
	MinRuntime           clock.Duration `json:"minRuntime,omitempty"`           // since power-on
	MaxPreemptionsPerDay int            `json:"maxPreemptionsPerDay,omitempty"` // of one VM, in 24 h; 0: any number
	Folders              []string       `json:"folders,omitempty"`              // names, globs or inventory paths; subfolders too
	ResourcePools        []string       `json:"resourcePools,omitempty"`        // names, globs or inventory paths; pools below too
	Names                []string       `json:"names,omitempty"`                // name globs
}

// IsZero reports whether nothing is set; an empty list counts as none.
func (p Protect) IsZero() bool {
	return p.MinRuntime == 0 && p.MaxPreemptionsPerDay == 0 && len(p.Folders)+len(p.ResourcePools)+len(p.Names) == 0
}

// Budget is one of three: how much of a group stays on, how many VMs of a scope may be turned off within a time, or a
// window in which no VM is turned off.
type Budget struct {
	Group        string         `json:"group,omitempty"`       // glob of group names; each group is counted separately
	MinAvailable Amount         `json:"minAvailable,omitzero"` // VMs of the group that stay on; a percentage is rounded up
	Scope        bool           `json:"scope,omitempty"`
	Max          Amount         `json:"max,omitzero"`       // VMs of the scope that may be turned off; a percentage is rounded down
	Per          clock.Duration `json:"per,omitempty"`      // within this time; 0: 1h
	Window       string         `json:"window,omitempty"`   // cron expression of the start: minute hour day month weekday
	Duration     clock.Duration `json:"duration,omitempty"` // of the window
	TimeZone     string         `json:"timeZone,omitempty"` // of the window, as the tz database names it; empty: UTC
}

func (b Budget) per() clock.Duration {
	if b.Per == 0 {
		return clock.Duration(time.Hour)
	}
	return b.Per
}

// location returns the window's time zone. "Local" is refused, because it differs between machines.
func (b Budget) location() (*time.Location, error) {
	if b.TimeZone == "Local" {
		return nil, fmt.Errorf("time zone %q differs from machine to machine", b.TimeZone)
	}
	return time.LoadLocation(b.TimeZone)
}

// Amount is a number of VMs, or a percentage. It is written as 3 or "50%".
type Amount struct {
	N       int
	Percent bool
}

// ParseAmount reads 3 or 50%.
func ParseAmount(s string) (Amount, error) {
	digits, percent := strings.CutSuffix(strings.TrimSpace(s), "%")
	n, err := strconv.Atoi(digits)
	if err != nil {
		return Amount{}, fmt.Errorf("%q is neither a number of VMs such as 3 nor a percentage such as 50%%", s)
	}
	return Amount{N: n, Percent: percent}, nil
}

// String returns the amount as it is written.
func (a Amount) String() string {
	if a.Percent {
		return strconv.Itoa(a.N) + "%"
	}
	return strconv.Itoa(a.N)
}

// MarshalJSON writes a number, or a percentage as text.
func (a Amount) MarshalJSON() ([]byte, error) {
	if a.Percent {
		return json.Marshal(a.String())
	}
	return json.Marshal(a.N)
}

// UnmarshalJSON reads a number, or either as text.
func (a *Amount) UnmarshalJSON(b []byte) (err error) {
	*a, err = ParseAmount(strings.Trim(string(b), `"`))
	return err
}

// atLeast returns the amount of total, a percentage rounded up.
func (a Amount) atLeast(total int) int {
	if a.Percent {
		return (total*a.N + 99) / 100
	}
	return a.N
}

// atMost returns the amount of total, a percentage rounded down.
func (a Amount) atMost(total int) int {
	if a.Percent {
		return total * a.N / 100
	}
	return a.N
}

// Restore says whether and how VMs are restored when the load has fallen.
type Restore struct {
	Enabled bool           `json:"enabled"`
	Settle  clock.Duration `json:"settle"` // how long the load must have been low
	Wave    int            `json:"wave"`   // VMs at a time
	GiveUp  clock.Duration `json:"giveUp"` // after which a VM is not restored
}

// DefaultRestore returns the defaults of a restore in a file.
func DefaultRestore() Restore {
	return Restore{Settle: clock.Duration(10 * time.Minute), Wave: 2, GiveUp: clock.Duration(24 * time.Hour)}
}

// terse returns the policy without settings that have their default values.
func (p Policy) terse() Policy {
	if p.Order.priority() == DefaultPriority {
		p.Order = Order{}
	}
	if p.Target.IfShort == ShortPartial {
		p.Target.IfShort = ""
	}
	if p.Restore == DefaultRestore() {
		p.Restore = Restore{}
	}
	return p
}

// Explicit returns the policy with all defaults filled in, for people to read.
func (p Policy) Explicit() Policy {
	priority := p.Order.priority()
	p.Order.DefaultPriority = &priority
	if p.Target.Set() {
		p.Target.IfShort = p.Target.ifShort()
	}
	if p.Restore == (Restore{}) {
		p.Restore = DefaultRestore()
	}
	return p
}

// brief writes a duration without its empty units: 1h, not 1h0m0s.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
