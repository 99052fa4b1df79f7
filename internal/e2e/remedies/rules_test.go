package remedies

import (
	"encoding/json"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

func resizes(alarm string, set placement.Resize) trigger.Rule {
	return trigger.Rule{Alarm: alarm, Action: trigger.Resize{Settings: set.WithDefaults(alarm)}}
}

func moves(alarm string, set placement.Move) trigger.Rule {
	return trigger.Rule{Alarm: alarm, Action: trigger.Move{Settings: set.WithDefaults()}}
}

// lastDecision is what a VM's attribute says.
func lastDecision(s *sitetest.Site, vm types.ManagedObjectReference) (a remediateapi.Attribution) {
	s.T.Helper()
	value, ok := s.VC.Attribute(vm, remediateapi.Attribute)
	if ok {
		s.Must(json.Unmarshal([]byte(value), &a))
	}
	return a
}

// wantWish checks the one tag of a category.
func wantWish(s *sitetest.Site, vm types.ManagedObjectReference, category, value string) {
	s.T.Helper()
	if got := strings.Join(s.VC.TagsOf(vm)[category], ","); got != value {
		s.T.Errorf("%s wants %s=%q, not %q", vm.Value, category, got, value)
	}
}
