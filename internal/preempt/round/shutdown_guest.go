package round

import (
	"errors"
	"sync"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// shutDownGuests asks the guests to shut down. Where no tools run that is futile: such a VM is powered off if
// the policy forces, and spared if not.
func (e *eviction) shutDownGuests(ready []ActTarget) (left []ActTarget, err error) {
	var able, unable []ActTarget
	for _, t := range ready {
		if t.ToolsRunning && !e.toolless[t.Ref] {
			able = append(able, t)
		} else {
			unable = append(unable, t)
		}
	}
	var starting sync.Map
	sent, left, err := e.send(able, func(t ActTarget) (vsphere.Ref, error) {
		err := e.VCenter.ShutdownGuest(e.Ctx, t.Ref)
		if t.starting && vcenter.KindOf(err) == vcenter.ToolsUnavailable {
			starting.Store(t.Ref, true)
			return vsphere.Ref{}, nil // AwaitVMs asks it when they run
		}
		return vsphere.Ref{}, err
	})
	now := time.Now().UTC()
	asked := make(map[vsphere.Ref]bool, len(sent))
	for _, w := range sent {
		asked[w.VM] = true
	}
	for _, t := range able {
		if asked[t.Ref] {
			t.SentAt = now
			_, t.Unasked = starting.Load(t.Ref)
			e.result.Pending = append(e.result.Pending, t)
		}
	}
	if !e.in.ForceTools {
		e.decideAll(unable, action.Spared, policy.Because(policy.NoTools))
		return left, err
	}
	again, powerErr := e.cut(unable, action.PowerOff, policy.Because(policy.ForcedNoTools))
	return append(left, again...), errors.Join(err, powerErr)
}
