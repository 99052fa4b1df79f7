package e2e

import (
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
)

func TestAnAlarmThatItsIntakeRejectsIsShownByWatchStatus(t *testing.T) {
	t.Parallel()
	s := newSite(t, withSettings(func(set *preempt.Settings) { set.AllowedTags = []string{"preemptible"} }))
	s.rules = rulesOn(s.id("other"))
	s.worker()
	s.watch(quickWatch)
	req := s.alarmRequest("cluster-a", preemption.CriticalityHigh)
	req.Tag = "production"
	s.signal("cpu", req)
	ctl, _ := program(t, "preemptctl")
	env := []string{"TEMPORAL_URL=" + server.HostPort(), "TEMPORAL_TASKQUEUE=" + s.queue}
	s.eventually("watch status shows the rejection", func() bool {
		out, code := s.ctl(ctl, env, "watch", "status")
		return code == 0 && containsAll(out, "REJECTED", s.id("cpu"), "production", "limits.allowedTags")
	})
	if n := s.off("cluster-a"); n != 0 {
		t.Errorf("%d VMs are off", n)
	}
}
