package cli

import (
	"fmt"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// becameWords returns what happened, or would happen, to a target.
func becameWords(t preemptapi.VMOutcome) string {
	if _, ok := t.Outcome.Would(); ok {
		return "would " + t.Outcome.Words()
	}
	return t.Outcome.Words()
}

// stateWords returns the state of a round, with an explanation if it needs one.
func stateWords(r preemptapi.RoundResult) string {
	switch r.State {
	case preemptapi.RoundObserved:
		return r.State + ": nothing was touched"
	case preemptapi.RoundRehearsed:
		return r.State + ": the notice was given and withdrawn, nothing else"
	case preemptapi.RoundNotified:
		if !r.Deadline.IsZero() {
			return r.State + ": until " + timestamp(r.Deadline) + ", or until the guests are ready"
		}
	}
	return r.State
}

// reasonWords returns a reason in words, with the details after its colon. Text that is not a known reason stays
// as it is.
func reasonWords(reason string) string {
	switch reason {
	case preemptapi.ReasonRehearsed:
		return "a rehearsal: only its notice was given, and then withdrawn"
	case preemptapi.ReasonWithdrawn:
		return "the preemption was withdrawn before its turn"
	case preemptapi.ReasonIgnored:
		return "its guest ignored the shutdown"
	case preemptapi.ReasonNoTools:
		return "no VMware Tools run in it, so its guest cannot be shut down"
	case preemptapi.ReasonForcedNoTools:
		return "no VMware Tools run in it, so its power was cut"
	case preemptapi.ReasonShutWithdrawn:
		return "still on when the preemption was withdrawn"
	}
	if known, detail, found := strings.Cut(reason, ": "); found {
		if words := policy.Reason(known).Explain(); words != known {
			return words + " (" + detail + ")"
		}
	}
	return policy.Reason(reason).Explain()
}

// sparedWords returns why a candidate stays on.
func sparedWords(s policy.Spared) string {
	if s.Detail == "" {
		return s.Reason.Explain()
	}
	return s.Reason.Explain() + " (" + s.Detail + ")"
}

// vmName names a VM by name and MoRef.
func vmName(name string, ref vsphere.Ref) string {
	if name == "" {
		return orDash(ref.Value)
	}
	return name + " (" + ref.Value + ")"
}

// capacity writes MHz and MB in units that people read.
func capacity(mhz, mb int64) string {
	return megahertz(mhz) + ", " + megabytes(mb)
}

// megahertz and megabytes write one resource in units that people read.
func megahertz(n int64) string { return fmt.Sprintf("%.1f GHz", float64(n)/1000) }
func megabytes(n int64) string { return fmt.Sprintf("%.1f GiB", float64(n)/1024) }

// scopeWords names the scope.
func scopeWords(name string, ref vsphere.Ref) string {
	switch {
	case ref.Zero():
		return ""
	case name == "":
		return ref.String()
	}
	return name + " (" + ref.String() + ")"
}
