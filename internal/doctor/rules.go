package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/doctorapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// rules checks whether vCenter has the alarms that rules are on.
func (e *examination) rules(ctx context.Context) {
	if len(e.Rules) == 0 {
		e.add(doctorapi.OK, "rules", "none: alarms start nothing, requests are taken", "")
		return
	}
	alarms, err := e.VCenter.Alarms(ctx)
	if err != nil {
		text, remedy := trouble(err, "")
		e.add(doctorapi.Warning, "rules", fmt.Sprintf("%d; whether vCenter has their alarms is unknown: %s", len(e.Rules), text), remedy)
		return
	}
	before := len(e.checks)
	for _, r := range e.Rules {
		if r.Alarm == "" || matched(r, alarms) || e.twin(r, alarms) {
			continue
		}
		text, remedy := "vCenter has no alarm that it is on", "correct the name in the rule, or create the alarm"
		if near := shown.Near(r.Alarm, namesOf(alarms)); len(near) > 0 {
			remedy += "; near: " + strings.Join(near, ", ")
		}
		e.add(doctorapi.Warning, "rule "+r.Alarm, text, remedy)
	}
	if len(e.checks) == before {
		e.add(doctorapi.OK, "rules", fmt.Sprintf("%d; vCenter has their alarms", len(e.Rules)), "")
	}
}

func matched(r trigger.Rule, alarms []vcenter.Named) bool {
	return slices.ContainsFunc(alarms, func(a vcenter.Named) bool {
		return r.Matches(alarm.Event{Class: alarm.ClassAlarm, Alarm: alarm.Alarm{
			Name: a.Name, Ref: alarm.Object{Type: a.Ref.Type, Value: a.Ref.Value},
		}})
	})
}

// twins are the alarms that one rule without a name is on: ours and the original's, of which one suffices.
var twins = [][2]string{
	{placement.AlarmCPU, placement.AlarmOriginalCPU},
	{placement.AlarmMemory, placement.AlarmOriginalMemory},
	{placement.AlarmDatastore, placement.AlarmOriginalStorage},
}

// twin reports whether the rule's twin is there, and finds its alarm.
func (e *examination) twin(r trigger.Rule, alarms []vcenter.Named) bool {
	for _, t := range twins {
		i := slices.Index(t[:], r.Alarm)
		if i < 0 {
			continue
		}
		return slices.ContainsFunc(e.Rules, func(o trigger.Rule) bool { return o.Alarm == t[1-i] && matched(o, alarms) })
	}
	return false
}

func namesOf(alarms []vcenter.Named) []string {
	names := make([]string, len(alarms))
	for i := range alarms {
		names[i] = alarms[i].Name
	}
	return names
}
