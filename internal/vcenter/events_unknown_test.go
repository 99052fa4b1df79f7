package vcenter

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// An event of a class that the client does not know is skipped by itself: what is around it in a page is read, and so is
// what comes after a page that has nothing else.
func TestEventsOfUnknownClassesAreSkippedOneByOne(t *testing.T) {
	log := &logBuffer{}
	v := simulated(t, small())
	g := gateway(t, v, func(c *Config) { c.Logger = log.logger() })
	r := g.Events(t.Context(), time.Now().Add(-time.Minute), append(alarmEvents, "GeneralEvent"))
	t.Cleanup(func() { r.Close(context.Background()) })
	want := raise(t, v, 1)
	v.PostUnknownEvent("VmTeapotEvent")
	want = append(want, raise(t, v, 1)...)
	wantKeys(t, keysOf(t, r), want)
	for range eventPage + 1 {
		v.PostUnknownEvent("VmTeapotEvent")
	}
	after := raise(t, v, 1)
	wantKeys(t, keysOf(t, r), after)
	if !strings.Contains(log.String(), "unknown") {
		t.Errorf("nothing of what was skipped is in the log: %s", log.String())
	}
}

func TestEvidenceIsFoundAmongEventsOfUnknownClasses(t *testing.T) {
	v, g := warm(t, small())
	vm := taggedRefs(v)[0]
	since := time.Now().Add(-time.Minute)
	v.PostUnknownEvent("VmTeapotEvent")
	check(t, v.PowerOffAs(toMoRef(vm), "somebody@else"))
	v.PostUnknownEvent("VmTeapotEvent")
	found, err := g.readEvents(t.Context(), "events", []string{"GeneralEvent", "VmPoweredOffEvent"}, since, func(types.BaseEvent) bool { return true })
	check(t, err)
	if len(found) != 1 || vmOfEvent(found[0]) != vm {
		t.Errorf("found %+v", found)
	}
	evidence, err := g.PowerOffEvidence(t.Context(), []vsphere.Ref{vm}, since)
	check(t, err)
	if evidence[vm].Event != "VmPoweredOffEvent" {
		t.Errorf("evidence %+v", evidence)
	}
}

// A reader with 20,000 events of others in its window answers page by page, and remembers no more than it must.
func TestAReaderPassesTwentyThousandEventsOfOthersPageByPage(t *testing.T) {
	v := simulated(t, small())
	g := gateway(t, v)
	cluster := v.Cluster("cluster-a").Ref
	v.FillHistory(20_000, 50*time.Second, func(int) types.BaseEvent {
		return &types.AlarmStatusChangedEvent{AlarmEvent: types.AlarmEvent{Alarm: types.AlarmEventArgument{
			EntityEventArgument: types.EntityEventArgument{Name: "of others"}, Alarm: v.Alarm("of others"),
		}}, Entity: types.ManagedEntityEventArgument{Entity: cluster}, From: "green", To: "red"}
	})
	want := raise(t, v, 1)[0]
	r := reader(t, g)
	seen, most, last := 0, 0, int64(0)
	for {
		page, err := r.Next(t.Context())
		check(t, err)
		if len(page) == 0 {
			break
		}
		seen, most, last = seen+len(page), max(most, len(page)), page[len(page)-1].Key
	}
	if seen != 20_001 || most > eventPage || last != want {
		t.Errorf("%d events, %d at most in a page, the last is %d, want %d", seen, most, last, want)
	}
	if n := len(r.seen.ids); n > maxSeen {
		t.Errorf("%d identities are kept", n)
	}
}
