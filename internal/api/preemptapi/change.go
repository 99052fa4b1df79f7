package preemptapi

import preemption "github.com/vsphere-preemption/vsphere-preemption"

// RoundChangeSignal carries RoundChange to a running round.
const RoundChangeSignal = "RoundChange"

// RoundChange tells a running round of a change of urgency.
type RoundChange struct {
	Withdraw    bool                   `json:"withdraw,omitempty"`
	Soften      bool                   `json:"soften,omitempty"`      // to the lower criticality, for what is not yet acted upon
	Criticality preemption.Criticality `json:"criticality,omitempty"` // a raise, or what to soften to
	Reason      string                 `json:"reason"`
	// Paused says that it is withdrawn because a person has paused preemption: an alarm that still stands then has its turn later.
	Paused bool `json:"paused,omitempty"`
}
