package preempt

import (
	"fmt"
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
	MakeRoom       MakeRoom
}

// MakeRoom limits who may ask for room, and for how much.
type MakeRoom struct {
	Beneficiaries string        // category of the tag that a VM needs so that a person may ask for it
	MaxCPUs       int           // of a room; 0: any
	MaxMemoryMB   int64         // of a room; 0: any
	PerHour       int           // rooms that are made in an hour; 0: any
	Hold          time.Duration // how long a room is held where a request does not say
}

// DefaultMakeRoom returns what holds without a configuration file.
func DefaultMakeRoom() MakeRoom {
	return MakeRoom{Beneficiaries: preemption.BeneficiaryCategory, PerHour: 100, Hold: 30 * time.Minute}
}

// Allow says why no room of these sizes may be asked for; nil: it may.
func (m MakeRoom) Allow(cpus int, memoryMB int64) error {
	switch {
	case m.MaxCPUs > 0 && cpus > m.MaxCPUs:
		return fmt.Errorf("%d CPUs are more than the %d that this worker makes room for (makeRoom.maxCPUs)", cpus, m.MaxCPUs)
	case m.MaxMemoryMB > 0 && memoryMB > m.MaxMemoryMB:
		return fmt.Errorf("%d MiB are more than the %d that this worker makes room for (makeRoom.maxMemoryMB)", memoryMB, m.MaxMemoryMB)
	}
	return nil
}

// DefaultSettings returns what holds without a configuration file.
func DefaultSettings() Settings {
	return Settings{
		Policies:       map[string]policy.Policy{"default": policy.Default()},
		MaxCriticality: preemption.CriticalityHigh,
		Timing:         DefaultTiming(),
		MakeRoom:       DefaultMakeRoom(),
	}
}

// Timing holds how long the machinery waits; the policy holds how long guests and alarms may take. It is
// recorded with each decision, so that a change applies to later work alone.
type Timing struct {
	IntakeIdle time.Duration `json:"intakeIdle"`     // an intake with nothing to do completes after it
	CancelWait time.Duration `json:"cancelWait"`     // a cancelled intake waits so long for its round's result
	Outage     time.Duration `json:"outage"`         // how long vCenter or Temporal may be away before work is given up
	StalePlan  time.Duration `json:"stalePlan"`      // a plan older than this is not acted on but made anew
	AlarmAge   time.Duration `json:"alarmAge"`       // the alarm of an older request is looked at in vCenter before anything is planned
	Retry      time.Duration `json:"retry"`          // first back-off between attempts on one object
	Heartbeat  time.Duration `json:"heartbeat"`      // heartbeat timeout of an activity
	ReplyFor   time.Duration `json:"replyFor"`       // how long a failing reply address is tried
	Sweep      time.Duration `json:"sweep"`          // how often rounds are looked for that ended without a word
	RepeatWait time.Duration `json:"repeatWait"`     // least time to a repetition that cannot measure whether it is needed
	Remeasure  time.Duration `json:"remeasure"`      // from one wave of a restore to the next: vCenter's statistics lag
	Tell       bool          `json:"tell,omitempty"` // the worker has channels: people are told
}

// ReplyPoll is how often guests are asked whether they have answered their notice.
func (t Timing) ReplyPoll() time.Duration { return max(t.Retry, 100*time.Millisecond) }

// RecordPauses are the pauses between attempts on a record that vCenter refuses to write: about a minute in all.
func (t Timing) RecordPauses() []time.Duration {
	return []time.Duration{t.Retry, 5 * t.Retry, 20 * t.Retry}
}

// DefaultTiming returns the timing of production.
func DefaultTiming() Timing {
	return Timing{
		IntakeIdle: 2 * time.Minute, CancelWait: 30 * time.Second, Outage: 24 * time.Hour,
		StalePlan: time.Minute, AlarmAge: time.Minute, Retry: 2 * time.Second, Heartbeat: 4 * time.Second, ReplyFor: time.Hour,
		Sweep: time.Minute, RepeatWait: 5 * time.Minute, Remeasure: 30 * time.Second,
	}
}
