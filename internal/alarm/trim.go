package alarm

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// MaxKept is how much of a causing event, as JSON, is kept with a request: it travels in signals, is part of the state
// of workflows, and is written to every VM's attribute. vSphere's events have 2 to 6 KiB.
const MaxKept = 16 << 10

// TrimmedExtension is the extension attribute of an event whose data was reduced; it says from how much.
const TrimmedExtension = "preemptiontrimmed"

// Trim returns a structured CloudEvent in JSON as it is, where it has at most MaxKept bytes. Of a larger one it keeps
// the attributes, as far as they are short, and of the data what names the alarm, the objects and the colours, so
// that it reads as the same alarm; the extension preemptiontrimmed says so. What is no CloudEvent is left as it is.
func Trim(raw []byte) []byte {
	if encoded, err := json.Marshal(json.RawMessage(raw)); err != nil || len(encoded) <= MaxKept {
		return raw
	}
	return Shorten(raw)
}

// Shorten is Trim for an event of any size.
func Shorten(raw []byte) []byte {
	var all map[string]json.RawMessage
	if json.Unmarshal(raw, &all) != nil || len(all["type"]) == 0 {
		return raw
	}
	if len(all[TrimmedExtension]) > 0 && len(raw) <= MaxKept {
		return raw
	}
	short := map[string]any{TrimmedExtension: fmt.Sprintf("the event had %d bytes; of its data the alarm is kept", len(raw))}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		value := all[name]
		switch name {
		case "data", "data_base64", "datacontenttype", "dataschema":
			continue
		}
		if required[name] || len(value) <= maxExtension && len(short) < maxExtensions {
			short[name] = value
		}
	}
	if al, err := FromCloudEvent(raw); err == nil {
		short["datacontenttype"], short["data"] = "application/json", dataOf(al)
	}
	out, err := json.Marshal(short)
	if err != nil {
		return raw
	}
	return out
}

// Bounds of the extensions that a trimmed event keeps.
const (
	maxExtension  = 256
	maxExtensions = 24
)

var required = map[string]bool{"specversion": true, "id": true, "source": true, "type": true, "subject": true, "time": true, "eventclass": true}

// dataOf writes an alarm as the data of an event that reads as the same alarm.
func dataOf(al Alarm) map[string]any {
	named := func(key string, o Object) map[string]any {
		return map[string]any{"name": o.Name, key: map[string]string{"type": o.Type, "value": o.Value}}
	}
	data := map[string]any{
		"key": al.EventKey, "createdTime": al.Time, "from": al.From, "to": al.To,
		"alarm":  map[string]any{"name": al.Name, "alarm": map[string]string{"type": al.Ref.Type, "value": al.Ref.Value}},
		"entity": named("entity", al.Entity), "source": named("entity", al.Source),
	}
	for key, o := range map[string]Object{"computeResource": al.Cluster, "host": al.Host, "vm": al.VM} {
		if !o.Zero() {
			data[key] = named(key, o)
		}
	}
	if !al.Datastore.Zero() {
		data["ds"] = named("datastore", al.Datastore)
	}
	return data
}
