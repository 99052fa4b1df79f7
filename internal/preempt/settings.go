package preempt

import (
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// Settings are the limits that a worker's operator sets. They hold for every request.
type Settings struct {
	Policies       map[string]policy.Policy
	AllowedTags    []string               // empty: any
	MaxCriticality preemption.Criticality // empty: HIGH
	Self           []string               // BIOS UUIDs of our own VMs
	Observe        bool                   // touch no VM, whatever the policies say
	Timing         Timing
	EventSource    string // source of the CloudEvents we send: Temporal's address and namespace
}

// DefaultSettings returns what holds without a configuration file.
func DefaultSettings() Settings {
	return Settings{
		Policies:       map[string]policy.Policy{"default": policy.Default()},
		MaxCriticality: preemption.CriticalityHigh,
		Timing:         DefaultTiming(),
	}
}

// Timing holds how long the machinery waits; the policy holds how long guests and alarms may take. It is
// recorded with each decision, so that a change applies to later work alone.
type Timing struct {
	IntakeIdle time.Duration `json:"intakeIdle"` // an intake with nothing to do completes after it
	CancelWait time.Duration `json:"cancelWait"` // a cancelled intake waits so long for its round's result
	Outage     time.Duration `json:"outage"`     // how long vCenter or Temporal may be away before work is given up
	StalePlan  time.Duration `json:"stalePlan"`  // a plan older than this is not acted on but made anew
	AlarmAge   time.Duration `json:"alarmAge"`   // the alarm of an older request is looked at in vCenter before anything is planned
	Retry      time.Duration `json:"retry"`      // first back-off between attempts on one object
	Heartbeat  time.Duration `json:"heartbeat"`  // heartbeat timeout of an activity
	ReplyFor   time.Duration `json:"replyFor"`   // how long a failing reply address is tried
	Sweep      time.Duration `json:"sweep"`      // how often rounds are looked for that ended without a word
	RepeatWait time.Duration `json:"repeatWait"` // least time to a repetition that cannot measure whether it is needed
	Remeasure  time.Duration `json:"remeasure"`  // from one wave of a restore to the next: vCenter's statistics lag
}

// ReplyPoll is how often guests are asked whether they have answered their notice.
func (t Timing) ReplyPoll() time.Duration { return max(t.Retry, 100*time.Millisecond) }

// DefaultTiming returns the timing of production.
func DefaultTiming() Timing {
	return Timing{
		IntakeIdle: 2 * time.Minute, CancelWait: 30 * time.Second, Outage: 24 * time.Hour,
		StalePlan: time.Minute, AlarmAge: time.Minute, Retry: 2 * time.Second, Heartbeat: 4 * time.Second, ReplyFor: time.Hour,
		Sweep: time.Minute, RepeatWait: 5 * time.Minute, Remeasure: 30 * time.Second,
	}
}
