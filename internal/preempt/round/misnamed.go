package round

import (
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

// misnamed reports whether a person asked for what vCenter does not know: an answer to them, and no incident.
func misnamed(d preemptapi.Demand, kind string) bool {
	if !d.Person {
		return false
	}
	switch kind {
	case preemptapi.TagNotFound, preemptapi.TagAmbiguous, preemptapi.ScopeNotFound, preemptapi.NotTagged, preemptapi.VMNotFound, preemptapi.VMAmbiguous:
		return true
	}
	return false
}
