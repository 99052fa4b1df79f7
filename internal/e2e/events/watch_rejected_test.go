package events

import (
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
)

func TestAnAlarmThatItsIntakeRejectsIsShownByWatchStatus(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithSettings(func(set *preempt.Settings) { set.AllowedTags = []string{"preemptible"} }))
	s.Rules = sitetest.RulesOn(s.ID("other"))
	s.Worker()
	s.Watch(sitetest.QuickWatch)
	req := s.AlarmRequest("cluster-a", preemption.CriticalityHigh)
	req.Tag = "production"
	s.Signal("cpu", req)
	ctl, _ := sitetest.Program(t, "preemptctl")
	env := []string{"TEMPORAL_URL=" + sitetest.Shared.HostPort(), "TEMPORAL_TASKQUEUE=" + s.Queue}
	s.Eventually("watch status shows the rejection", func() bool {
		out, code := s.Ctl(ctl, env, "watch", "status")
		return code == 0 && sitetest.ContainsAll(out, "REJECTED", s.ID("cpu"), "production", "limits.allowedTags")
	})
	if n := s.OffIn("cluster-a"); n != 0 {
		t.Errorf("%d VMs are off", n)
	}
}
