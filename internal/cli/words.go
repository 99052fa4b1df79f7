package cli

import (
	"fmt"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/contract"
)

// outcomeWords says what became, or would become, of a target.
func outcomeWords(t contract.VMOutcome) string {
	switch t.Outcome {
	case "would_" + policy.ActionPowerOff:
		return "power off"
	case "would_" + policy.ActionShutdownGuest:
		return "shut down guest"
	case "would_" + policy.ActionSuspend:
		return "suspend"
	}
	return strings.ReplaceAll(t.Outcome, "_", " ")
}

// reasonWords says a reason in words; text that is no known reason stays as it is.
func reasonWords(reason string) string {
	switch reason {
	case contract.ReasonWithdrawn:
		return "the preemption was withdrawn before its turn"
	case contract.ReasonIgnored:
		return "its guest ignored the shutdown"
	case contract.ReasonNoTools:
		return "no VMware Tools run in it, so its guest cannot be shut down"
	case contract.ReasonForcedNoTools:
		return "no VMware Tools run in it, so its power was cut"
	case contract.ReasonShutWithdrawn:
		return "still on when the preemption was withdrawn"
	}
	return policy.Reason(reason).Explain()
}

// sparedWords says why a candidate stays.
func sparedWords(s policy.Spared) string {
	if s.Detail == "" {
		return s.Reason.Explain()
	}
	return s.Reason.Explain() + " (" + s.Detail + ")"
}

// vmName names a VM by name and MoRef.
func vmName(name string, ref policy.Ref) string {
	if name == "" {
		return orDash(ref.Value)
	}
	return name + " (" + ref.Value + ")"
}

// capacity writes MHz and MB in units that people read.
func capacity(mhz, mb int64) string {
	return fmt.Sprintf("%.1f GHz, %.1f GiB", float64(mhz)/1000, float64(mb)/1024)
}

// scopeWords names what was contended for.
func scopeWords(name string, ref policy.Ref) string {
	switch {
	case ref.Zero():
		return ""
	case name == "":
		return ref.String()
	}
	return name + " (" + ref.String() + ")"
}
