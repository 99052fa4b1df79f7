package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Duration is a time.Duration that is written as text, such as "5m".
type Duration time.Duration

// D returns d as a time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String returns the duration as text.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalJSON writes the duration as text.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON reads a duration such as "90s"; a number is refused, for it names no unit.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("duration %s: write it with its unit, such as \"90s\" or \"5m\"", b)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("duration %q: write it with its unit, such as \"90s\" or \"5m\"", s)
	}
	*d = Duration(v)
	return nil
}

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

// The actions on a VM.
const (
	ActionPowerOff      = "powerOff"
	ActionShutdownGuest = "shutdownGuest"
	ActionSuspend       = "suspend"
)

// Treatment is what a criticality means: the action, and how long the guest has.
type Treatment struct {
	Notice      Duration `json:"notice,omitempty"`      // from the warning to the action
	Action      string   `json:"action"`                // powerOff, shutdownGuest or suspend
	GracePeriod Duration `json:"gracePeriod,omitempty"` // from guest shutdown to force
	ThenForce   bool     `json:"thenForce,omitempty"`   // power off at the end of the grace period
}

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
	Mode            string     `json:"mode"`
	Scope           string     `json:"scope"`
	MaxVMs          int        `json:"maxVMs"`          // most VMs preempted in one round
	Cooldown        Duration   `json:"cooldown"`        // least time between rounds of a scope
	GrayTimeout     Duration   `json:"grayTimeout"`     // after which an unknown alarm counts as fallen
	RepeatWhileRed  bool       `json:"repeatWhileRed"`  // plan again after each cooldown while the alarm stays up
	Criticality     Treatments `json:"criticality"`     // what each criticality means
	NeverTouch      []string   `json:"neverTouch"`      // name globs of VMs that are never touched
	WithdrawWait    Duration   `json:"withdrawWait"`    // how long a withdrawn round looks what shut-down guests do
	LateWatch       Duration   `json:"lateWatch"`       // how long a guest that ignored its shutdown is watched on
	PowerOffTimeout Duration   `json:"powerOffTimeout"` // how long one power-off may take before it counts as failed
	Target          Goal       `json:"target,omitzero"` // the utilisation to come down to; zero: up to maxVMs go
	Order           Order      `json:"order,omitzero"`
	Protect         Protect    `json:"protect,omitzero"`
	Budgets         []Budget   `json:"budgets,omitempty"`
	Restore         Restore    `json:"restore,omitzero"`
}

// Default returns the policy that holds where no file says otherwise: the prototype's documented
// defaults (10 VMs per run, one minute between runs, HIGH off at once).
func Default() Policy {
	return Policy{
		Mode: ModeAct, Scope: ScopeCluster, MaxVMs: 10, Cooldown: Duration(time.Minute),
		GrayTimeout: Duration(5 * time.Minute), RepeatWhileRed: true,
		Criticality: Treatments{
			High:   Treatment{Action: ActionPowerOff},
			Medium: Treatment{Action: ActionShutdownGuest, GracePeriod: Duration(5 * time.Minute), ThenForce: true},
			Low:    Treatment{Action: ActionShutdownGuest, GracePeriod: Duration(5 * time.Minute)},
		},
		WithdrawWait:    Duration(time.Minute),
		LateWatch:       Duration(time.Hour),
		PowerOffTimeout: Duration(10 * time.Minute),
	}
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
