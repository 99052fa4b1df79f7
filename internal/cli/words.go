package cli

import (
	"fmt"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
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
	if r.State == preemptapi.RoundNotified && !r.Deadline.IsZero() {
		return r.State.Words() + ": until " + timestamp(r.Deadline) + ", or until the guests are ready"
	}
	return r.State.Words()
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
