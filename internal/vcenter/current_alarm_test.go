package vcenter

import (
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func TestAnAlarmsStandingTellsWhatSpeaksAgainstActing(t *testing.T) {
	v, g := warm(t, small())
	cluster := v.Cluster("cluster-a")
	host := cluster.Hosts[0].Ref
	posted := turn(t, v, "host cpu", host, "red")
	alarm, entity := fromMoRef(posted.Alarm.Alarm), fromMoRef(host)
	look := func() CurrentAlarm {
		t.Helper()
		s, err := g.CurrentAlarm(t.Context(), alarm, "host cpu", entity)
		check(t, err)
		return s
	}
	if s := look(); !s.Known || s.Gone || s.State.Silenced != "" || s.State.Colour != "red" || s.Red.Set() {
		t.Errorf("as posted: %+v", s)
	}
	check(t, v.SetAlarmThresholds("host cpu", simulation.CounterCPU, 75, 90))
	if s := look(); s.Threshold("red") != (policy.Goal{CPU: 90}) || s.Threshold("yellow") != (policy.Goal{CPU: 75}) {
		t.Errorf("thresholds: %+v", s)
	}
	check(t, v.SetAlarmThresholds("host cpu", simulation.CounterMemory, 0, 95))
	if s := look(); s.Threshold("red") != (policy.Goal{Memory: 95}) || s.Threshold("yellow").Set() {
		t.Errorf("thresholds: %+v", s)
	}
	check(t, v.AcknowledgeAlarm("host cpu", host, `CORP\jane`))
	if s := look(); !strings.Contains(s.State.Silenced, `acknowledged by CORP\jane`) {
		t.Errorf("acknowledged: %+v", s)
	}
	turn(t, v, "host cpu", host, "red")
	if s := look(); s.State.Silenced != "" {
		t.Errorf("red again: %+v", s)
	}
	check(t, v.SetAlarmActions(cluster.Ref, false))
	if s := look(); !strings.Contains(s.State.Silenced, `ClusterComputeResource "cluster-a"`) {
		t.Errorf("disabled above: %+v", s)
	}
	check(t, v.SetAlarmActions(cluster.Ref, true))
	if s := look(); s.State.Silenced != "" {
		t.Errorf("enabled again: %+v", s)
	}
	if s, err := g.CurrentAlarm(t.Context(), vsphere.Ref{}, "host cpu", entity); err != nil || !s.Known || s.State.Colour != "red" {
		t.Errorf("by its name alone: %+v, %v", s, err)
	}
	if s, err := g.CurrentAlarm(t.Context(), alarm, "another", entity); err != nil || s.Known || s.Gone {
		t.Errorf("another name: %+v, %v", s, err)
	}
	check(t, v.RemoveEntity(host))
	if s := look(); !s.Gone || s.Known {
		t.Errorf("removed: %+v", s)
	}
}
