package watch

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// event is one event for the rules.
type event struct {
	trigger.Incoming
	about alarm.About
	marks []watchapi.Mark // of the event and of those that it makes obsolete; none where the comparison of states made it up
}

// newEvent completes an event. Its error names a class that nobody handles.
func newEvent(in trigger.Incoming, marks ...watchapi.Mark) (event, error) {
	about, err := in.Event.About()
	return event{in, about, marks}, err
}

// instance is an alarm on an entity.
type instance struct{ alarm, entity string }

func instanceOf(a alarm.Alarm) instance { return instance{a.Ref.Value, a.Entity.Ref()} }

// later reports whether a change of an alarm came after another one.
func later(a, b alarm.Alarm) bool {
	return alarm.After(a.EventKey, a.Time, b.EventKey, b.Time, time.Now())
}

// decode makes events for the rules of what was read, oldest first. It leaves out what was handled before. Of each
// alarm on each entity it keeps the last change, for the earlier ones are over.
func (f *follower) decode(read []vcenter.StreamEvent) []event {
	var all []event
	last := map[instance]int{}
	for _, r := range read {
		if f.handled.known[markOf(r)] {
			continue
		}
		e, err := f.eventOf(r.Class, r.JSON, markOf(r))
		if err != nil {
			f.log.Warn("an event of vCenter's history cannot be read", "class", r.Class, "key", r.Key, "reason", err)
			continue
		}
		change, ok := e.Event.Change()
		if !ok {
			all = append(all, e)
			continue
		}
		i, earlier := last[instanceOf(change)]
		if earlier && !later(change, all[i].Event.Alarm) { // vCenter's clock was set back between them
			all[i].marks = append(all[i].marks, e.marks...)
			continue
		}
		if earlier {
			e.Event.Alarm.From = lowest(all[i].Event.Alarm.From, change.From)
			e.marks = append(all[i].marks, e.marks...)
			all[i] = event{}
		}
		last[instanceOf(change)] = len(all)
		all = append(all, e)
	}
	return slices.DeleteFunc(all, func(e event) bool { return e.Event.Class == "" })
}

// lowest returns the colour that an alarm rose from by a change that takes the place of an earlier one: of the colours
// that it had before them, the lowest that is known. An alarm that fell and rose again meanwhile has risen.
func lowest(earlier, later string) string {
	switch {
	case later == alarm.Gray:
		return earlier
	case earlier == alarm.Gray, alarm.Rank(later) < alarm.Rank(earlier):
		return later
	}
	return earlier
}

// eventOf decodes an event of vCenter and writes it as a CloudEvent, as Knative's vSphere source does.
func (f *follower) eventOf(class string, data []byte, marks ...watchapi.Mark) (event, error) {
	kind := "com.vmware.vsphere." + class + ".v0"
	decoded, err := alarm.Decode(alarm.Message{Type: kind, Source: f.Source, Data: data})
	if err != nil {
		return event{}, err
	}
	e, err := newEvent(trigger.Incoming{Event: decoded}, marks...)
	if err != nil {
		return event{}, err
	}
	e.CloudEvent, err = json.Marshal(struct {
		SpecVersion string          `json:"specversion"`
		ID          string          `json:"id"`
		Source      string          `json:"source"`
		Type        string          `json:"type"`
		Subject     string          `json:"subject"`
		EventClass  string          `json:"eventclass"`
		Time        time.Time       `json:"time,omitzero"`
		MediaType   string          `json:"datacontenttype"`
		Data        json.RawMessage `json:"data"`
	}{"1.0", cloudEventID(e), f.Source, kind, class, class, e.about.Time.UTC(), "application/json", data})
	return e, err
}

// cloudEventID names an event by its key, and an alarm that is known by its state alone by the alarm and its entity.
func cloudEventID(e event) string {
	name := strconv.FormatInt(e.about.EventKey, 10)
	if change, ok := e.Event.Change(); ok && change.EventKey == 0 {
		name = change.Ref.Value + "." + change.Entity.Value
	}
	return fmt.Sprintf("%s@%d", name, e.about.Time.UnixMilli())
}
