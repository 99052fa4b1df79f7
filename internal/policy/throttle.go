package policy

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Throttle says how far a VM is throttled.
type Throttle struct {
	CPU Speed `json:"cpu,omitzero"`
}

// Speed is a CPU limit: in percent of what the VM uses when it is chosen, or in MHz. It is written as 25% or 500MHz.
type Speed struct {
	N       int
	Percent bool
}

// mhz ends a speed that is not a percentage.
const mhz = "MHz"

// ParseSpeed reads 25% or 500MHz.
func ParseSpeed(s string) (Speed, error) {
	s = strings.TrimSpace(s)
	digits, percent := strings.CutSuffix(s, "%")
	if !percent {
		var ok bool
		if digits, ok = strings.CutSuffix(s, mhz); !ok {
			digits = ""
		}
	}
	n, err := strconv.Atoi(strings.TrimSpace(digits))
	if err != nil {
		return Speed{}, fmt.Errorf("%q is neither a percentage of what the VM uses, such as 25%%, nor a speed such as 500MHz", s)
	}
	return Speed{N: n, Percent: percent}, nil
}

// String returns the speed as it is written.
func (s Speed) String() string {
	if s.Percent {
		return strconv.Itoa(s.N) + "%"
	}
	return strconv.Itoa(s.N) + mhz
}

// MarshalText writes 25% or 500MHz.
func (s Speed) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads either.
func (s *Speed) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSpeed(string(text))
	return err
}

// LeastLimitMHz is the lowest limit that a throttle sets. A VM that uses less is not throttled: below that a guest hangs
// rather than runs slowly.
const LeastLimitMHz = 100

// limit returns the limit that a throttle sets for the VM. vCenter refuses a limit below the VM's reservation.
func (t Throttle) limit(vm *vsphere.VM) int64 {
	n := int64(t.CPU.N)
	if t.CPU.Percent {
		n = max(0, vm.CPUMHz) * n / 100
	}
	return max(n, vm.CPUReservedMHz, LeastLimitMHz)
}

// Unlimited is how vSphere writes that a VM has no limit.
const Unlimited = -1

// Throttled is what our record on a VM says about its CPU limit. It is written before the limit is set, so that the owner's
// own limit is never lost.
type Throttled struct {
	WasMHz   int64 `json:"wasMHz"` // the owner's; Unlimited: none
	LimitMHz int64 `json:"limitMHz"`
	FreedMHz int64 `json:"freedMHz,omitempty"` // of what it used
	// MaybeMHz is the limit of an earlier throttle whose change may still be under way; 0: none. It is ours as well.
	MaybeMHz int64 `json:"maybeMHz,omitempty"`
	// Ended says that the limit is not ours any more, and why; empty: if the VM has this limit, it is ours.
	Ended ThrottleEnd `json:"ended,omitempty"`
}

// ThrottleEnd says how a throttle ended.
type ThrottleEnd string

// The ends of a throttle.
const (
	ThrottleLifted  ThrottleEnd = "lifted"  // the VM has the limit again that it had
	ThrottleChanged ThrottleEnd = "changed" // its owner set another limit meanwhile, which stays
)

// Active reports whether the limit is ours, given the limit that the VM has now.
func (t *Throttled) Active(limitMHz int64) bool {
	return t.Open() && (t.LimitMHz == limitMHz || t.MaybeMHz > 0 && t.MaybeMHz == limitMHz)
}

// Remember notes the limit of an earlier record that is replaced although nobody found out what became of it: vCenter may have
// held up its change.
func (t *Throttled) Remember(earlier *Throttled) {
	if earlier.Open() && earlier.LimitMHz != t.LimitMHz {
		t.MaybeMHz = earlier.LimitMHz
	}
}

// EndedAs reports whether the throttle has ended so.
func (t *Throttled) EndedAs(how ThrottleEnd) bool { return t != nil && t.Ended == how }

// Open reports whether nobody has found out yet what became of the limit.
func (t *Throttled) Open() bool { return t != nil && t.Ended == "" }

// needs returns what is short in the measured scopes, and what of it the action can free: a throttle frees no memory.
func (d *Demand) needs(usage []Usage, goal Goal) (need, coverable load) {
	need = shortfall(usage)
	if d.Throttle == nil {
		return need, need
	}
	if goal.Set() {
		d.MemoryOnly = need[0] == 0 && need[1] > 0
	}
	return need, load{need[0], 0}
}

// unthrottled returns why a throttle passes the VM by, which could be acted on otherwise; "" where it does not. What it would
// free is returned besides.
func (d *Demand) unthrottled(vm *vsphere.VM) (frees load, reason Reason, detail string) {
	limit := d.Throttle.limit(vm)
	switch {
	case d.MemoryOnly:
		return load{}, FreesNoMemory, ""
	case len(d.Rooms) > 0:
		return load{}, FreesNoMemory, "room for a VM that starts is what others have not reserved"
	case vm.LimitUnseen:
		return load{}, LimitUnseen, ""
	case vm.Throttled:
		return load{}, AlreadyThrottled, ""
	case vm.CPULimitMHz > 0 && vm.CPULimitMHz <= limit:
		return load{}, OwnLimit, fmt.Sprintf("its own limit is %d MHz, a throttle would set %d MHz", vm.CPULimitMHz, limit)
	case vm.CPUMHz <= limit:
		return load{}, FreesNoCPU, fmt.Sprintf("it uses %d MHz, a throttle would set a limit of %d MHz", max(0, vm.CPUMHz), limit)
	}
	return load{vm.CPUMHz - limit, 0}, "", ""
}
