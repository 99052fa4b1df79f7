package health

import (
	"slices"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

func TestAnActivityThatWaitsForVCenterIsNoStall(t *testing.T) {
	for _, kind := range []vcenter.Kind{
		vcenter.TagNotFound, vcenter.TagAmbiguous, vcenter.ScopeNotFound, vcenter.CategoriesUnseen, vcenter.Credentials, vcenter.InvalidLogin,
		vcenter.Certificate, vcenter.Unavailable, vcenter.NoPermission, vcenter.NotFound, vcenter.InvalidState, vcenter.ToolsUnavailable,
		vcenter.TaskFailed, vcenter.Conflict, vcenter.Busy, vcenter.NoRoom, vcenter.Ambiguous, vcenter.Invalid, vcenter.Unknown,
	} {
		if got := slices.Contains(outages, string(kind)); got != kind.Outage() {
			t.Errorf("%s counts as an outage: %v, and for the gateway: %v", kind, got, kind.Outage())
		}
	}
}
