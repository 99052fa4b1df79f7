package channel

import (
	"fmt"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/doctorapi"
)

// Checks reports for each channel whether its address can be read and used, and what became of the last message that this
// worker sent to it. Nothing is sent.
func (b *Book) Checks() []doctorapi.Check {
	if len(b.set.Channels) == 0 {
		return []doctorapi.Check{{Name: "notifications", State: doctorapi.OK, Text: "no channel: nobody is told"}}
	}
	list := make([]doctorapi.Check, 0, len(b.set.Channels))
	for _, c := range b.set.Channels {
		check := doctorapi.Check{Name: "channel " + c.Name, State: doctorapi.OK}
		b.mu.Lock()
		last, tried := b.last[c.Name]
		b.mu.Unlock()
		err := b.usable(c)
		switch {
		case err != nil:
			check.State, check.Text, check.Remedy = doctorapi.Failed, err.Error(), "correct its urlFrom, or what it names"
		case !tried:
			check.Text = "its address can be read; this worker has sent nothing yet"
			check.Remedy = "try it: preemptctl notify test " + c.Name
		case last.err != nil:
			check.State, check.Text = doctorapi.Warning, fmt.Sprintf("the last attempt, %s ago, failed: %v", ago(last.at), last.err)
			check.Remedy = "try it: preemptctl notify test " + c.Name
		default:
			check.Text = fmt.Sprintf("its address can be read; the last message was sent %s ago", ago(last.at))
		}
		list = append(list, check)
	}
	return list
}

func ago(at time.Time) time.Duration { return time.Since(at).Round(time.Second) }
