package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
)

// The modes of a policy.
const (
	ModeAct     = "act"
	ModeObserve = "observe"
)

// The scopes of a policy: what an alarm's event contends for.
const (
	ScopeCluster = "cluster"
	ScopeHost    = "host"
	ScopeAll     = "all"
)

// Treatment is what a criticality means: the action, and how long the guest has.
type Treatment struct {
	Notice      clock.Duration `json:"notice,omitempty"`      // from the warning to the action
	Action      action.Action  `json:"action,omitempty"`      // empty: it has steps
	Throttle    Throttle       `json:"throttle,omitzero"`     // how far, if the action is to throttle
	GracePeriod clock.Duration `json:"gracePeriod,omitempty"` // from guest shutdown to force
	ThenForce   bool           `json:"thenForce,omitempty"`   // power off at the end of the grace period
	// Steps make it a ladder: the next step is taken only if the measured shortfall lasts. The other fields are then empty.
	Steps []Step `json:"steps,omitempty"`
}

// Forces reports whether a guest that was asked to shut down and is still on loses its power: at the end of its grace
// period, or at once if the action says so. A throttle leaves VMs on, and so it forces none.
func (t Treatment) Forces() bool { return t.ThenForce && !t.Action.StaysOn() || t.Action.AtOnce() }

// Treatments holds the treatment of each criticality.
type Treatments struct {
	High   Treatment `json:"HIGH"`
	Medium Treatment `json:"MEDIUM"`
	Low    Treatment `json:"LOW"`
}

// For returns the treatment of a criticality; ok is false for an unknown one.
func (t Treatments) For(criticality string) (tr Treatment, ok bool) {
	switch criticality {
	case "HIGH":
		return t.High, true
	case "MEDIUM":
		return t.Medium, true
	case "LOW":
		return t.Low, true
	}
	return Treatment{}, false
}

// Policy says how a round chooses and acts. The effective policy is pinned in every plan and result.
type Policy struct {
	Mode            string         `json:"mode"`
	Scope           string         `json:"scope"`
	MaxVMs          int            `json:"maxVMs"`            // most VMs preempted in one round
	Cooldown        clock.Duration `json:"cooldown"`          // least time between rounds of a scope
	GrayTimeout     clock.Duration `json:"grayTimeout"`       // after which an unknown alarm counts as fallen
	RepeatWhileRed  bool           `json:"repeatWhileRed"`    // plan again after each cooldown while the alarm stays up
	Criticality     Treatments     `json:"criticality"`       // what each criticality means
	NeverTouch      []string       `json:"neverTouch"`        // name globs of VMs that are never touched
	WithdrawWait    clock.Duration `json:"withdrawWait"`      // how long a withdrawn round watches guests that were asked to shut down
	LateWatch       clock.Duration `json:"lateWatch"`         // how long a guest that ignored its shutdown is still watched
	PowerOffTimeout clock.Duration `json:"powerOffTimeout"`   // how long one power-off may take before it counts as failed
	Target          Goal           `json:"target,omitzero"`   // the utilisation to reach; zero: up to maxVMs are turned off
	Headroom        Headroom       `json:"headroom,omitzero"` // what a scheduled round keeps free; zero: none does
	Order           Order          `json:"order,omitzero"`
	Protect         Protect        `json:"protect,omitzero"`
	Budgets         []Budget       `json:"budgets,omitempty"`
	Restore         Restore        `json:"restore,omitzero"`
}

// Default returns the policy that applies if no file says otherwise: the prototype's documented
// defaults (10 VMs per run, one minute between runs, HIGH off at once).
func Default() Policy {
	return Policy{
		Mode: ModeAct, Scope: ScopeCluster, MaxVMs: 10, Cooldown: clock.Duration(time.Minute),
		GrayTimeout: clock.Duration(5 * time.Minute), RepeatWhileRed: true,
		Criticality: Treatments{
			High:   Treatment{Action: action.PowerOff},
			Medium: Treatment{Action: action.ShutdownGuest, GracePeriod: clock.Duration(5 * time.Minute), ThenForce: true},
			Low:    Treatment{Action: action.ShutdownGuest, GracePeriod: clock.Duration(5 * time.Minute)},
		},
		WithdrawWait:    clock.Duration(time.Minute),
		LateWatch:       clock.Duration(time.Hour),
		PowerOffTimeout: clock.Duration(10 * time.Minute),
	}
}

// ShutdownLasts returns how long after a request to shut down a power-off is attributed to the request: the longest
// grace period and the late watch. A VM that goes off later did so by itself.
func (p Policy) ShutdownLasts() time.Duration {
	longest := time.Duration(0)
	for _, t := range p.Criticality.All() {
		longest = max(longest, t.GracePeriod.D())
	}
	return longest + p.LateWatch.D() + shutdownMargin
}

// shutdownMargin is for the steps before and after the waiting.
const shutdownMargin = time.Minute

// Throttles reports whether some criticality throttles.
func (p Policy) Throttles() bool {
	return slices.ContainsFunc(p.Criticality.All(), func(t Treatment) bool { return t.Action == action.Throttle })
}

// Hash returns a short fingerprint of the effective policy, the same for the same values. A setting that is
// spelled out with its default has the hash of one that is left out.
func (p Policy) Hash() string {
	b, err := json.Marshal(p.terse())
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}
