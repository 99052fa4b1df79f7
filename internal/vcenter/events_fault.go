package vcenter

import (
	"encoding/json"
	"reflect"

	"github.com/vmware/govmomi/vim25/types"
)

// faultOf is why a VM could not be started, where an event tells of that.
func faultOf(event types.BaseEvent) types.BaseMethodFault {
	switch e := event.(type) {
	case *types.VmFailedToPowerOnEvent:
		return e.Reason.Fault
	case *types.VmFailoverFailed:
		if e.Reason != nil {
			return e.Reason.Fault
		}
	}
	return nil
}

// withFault adds the class of the fault to the JSON of its event, under the name that vCenter's own JSON has for it. What
// encoding/json writes of a fault does not tell its class.
func withFault(text []byte, fault types.BaseMethodFault) ([]byte, error) {
	var event map[string]json.RawMessage
	if err := json.Unmarshal(text, &event); err != nil {
		return text, err
	}
	for key, raw := range event {
		if key != "reason" && key != "Reason" {
			continue
		}
		var reason map[string]any
		if err := json.Unmarshal(raw, &reason); err != nil {
			return text, err
		}
		for inner := range reason {
			if inner == "fault" || inner == "Fault" {
				reason[inner] = map[string]string{"_typeName": reflect.TypeOf(fault).Elem().Name()}
			}
		}
		changed, err := json.Marshal(reason)
		if err != nil {
			return text, err
		}
		event[key] = changed
	}
	return json.Marshal(event)
}
