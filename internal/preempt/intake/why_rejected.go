package intake

import (
	"encoding/json"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
)

// WhyRejected says why an intake of this worker would reject a change of an alarm, whoever sent it: its limits, an unknown
// policy, another task queue. The watch asks before it sends, so that its status tells of what is rejected.
func (a *Activities) WhyRejected(payload any) error {
	change, ok := payload.(preemption.AlarmChange)
	if !ok || len(change.Request) == 0 {
		return nil
	}
	text, err := json.Marshal(change)
	if err == nil {
		_, err = a.decodeAlarm(text)
	}
	return err
}
