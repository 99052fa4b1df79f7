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

// decode makes events for the rules of what was read, oldest first. It leaves out what was handled before, and of the
// changes of an alarm on an entity those that are over.
func (f *follower) decode(read []vcenter.StreamEvent) []event {
	var all []event
	of := map[instance][]int{} // where the changes of an alarm are, in their order
	for _, r := range read {
		if f.handled.known[markOf(r)] {
			continue
		}
		e, err := f.eventOf(r.Class, r.JSON, markOf(r))
		if err != nil {
			f.log.Warn("an event of vCenter's history cannot be read", "class", r.Class, "key", r.Key, "reason", err)
			continue
		}
		if change, ok := e.Event.Change(); ok {
			key := instanceOf(change)
			if f.overtaken(change) || len(of[key]) == 0 && f.handedOver(e) { // by its state: what follows is no part of it
				continue
			}
			if n := len(of[key]); n > 0 && !later(change, all[of[key][n-1]].Event.Alarm) { // vCenter's clock was set back between them
				last := &all[of[key][n-1]]
				last.marks = append(last.marks, e.marks...)
				continue
			}
			of[key] = append(of[key], len(all))
		}
		all = append(all, e)
	}
	for _, at := range of {
		shorten(all, at)
	}
	return slices.DeleteFunc(all, func(e event) bool { return e.Event.Class == "" })
}

// shorten keeps of the changes of one alarm the last, and the fall before it if the alarm fell lower than it was and
// rose again: that is a new rise. What rose and fell meanwhile is left out. The marks go to what is kept.
func shorten(all []event, at []int) {
	last, from := at[len(at)-1], all[at[0]].Event.Alarm.From
	fall := -1
	for _, i := range at[:len(at)-1] {
		if to := all[i].Event.Alarm.To; to != alarm.Gray && (fall < 0 || alarm.Rank(to) <= alarm.Rank(all[fall].Event.Alarm.To)) {
			fall = i
		}
	}
	if fall >= 0 {
		if low := alarm.Rank(all[fall].Event.Alarm.To); low >= alarm.Rank(all[last].Event.Alarm.To) || from != alarm.Gray && low >= alarm.Rank(from) {
			fall = -1
		}
	}
	var marks []watchapi.Mark
	for _, i := range at {
		marks = append(marks, all[i].marks...)
		if i != fall && i != last {
			all[i] = event{}
			continue
		}
		all[i].Event.Alarm.From, all[i].marks = from, marks
		from, marks = all[i].Event.Alarm.To, nil
	}
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
