package intake

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
)

// RoomDemand is a validated RoomRequest.
type RoomDemand struct {
	Demand  preemptapi.Demand `json:"demand"`
	PowerOn bool              `json:"powerOn,omitempty"`
	Hold    clock.Duration    `json:"hold"`
	Wait    clock.Duration    `json:"wait"`
	ForTag  string            `json:"forTag,omitempty"`
	Rule    string            `json:"rule,omitempty"`
	Source  string            `json:"source,omitempty"` // of its event: which vCenter it is of; empty: no rule asks
}

// wireRoomRequest is a RoomRequest whose event stays as it came.
type wireRoomRequest struct {
	wireRequest
	PowerOn bool   `json:"powerOn"`
	Hold    string `json:"hold"`
	Wait    string `json:"wait"`
	ForTag  string `json:"forTag"`
	Rule    string `json:"rule"`
}

// Bounds of what a RoomRequest may ask for.
const (
	maxHold     = 24 * time.Hour
	defaultWait = 10 * time.Minute
)

// DecodeRoom validates a RoomRequest. It reads its argument and the worker's configuration alone.
func (a *Activities) DecodeRoom(raw json.RawMessage) (RoomDemand, error) {
	var w wireRoomRequest
	if len(raw) > preemption.MaxRequestBytes {
		return RoomDemand{}, fmt.Errorf("the request is %d bytes long: at most %d are taken", len(raw), preemption.MaxRequestBytes)
	}
	if err := json.Unmarshal(raw, &w); err != nil {
		return RoomDemand{}, fmt.Errorf("the request is no RoomRequest: %w", err)
	}
	d, err := a.demand(w.wireRequest)
	out := RoomDemand{Demand: d, PowerOn: w.PowerOn, ForTag: w.ForTag, Rule: w.Rule}
	limits := a.Settings.MakeRoom
	hold, holdErr := duration("hold", w.Hold, limits.Hold, maxHold)
	wait, waitErr := duration("wait", w.Wait, defaultWait, maxHold)
	out.Hold, out.Wait = clock.Duration(hold), clock.Duration(wait)
	errs := []error{err, holdErr, waitErr, checkAsks(w)}
	if w.Room != nil {
		errs = append(errs, limits.Allow(w.Room.CPUs, w.Room.MemoryMB))
	}
	p, turnsOff := d.Policy.TurningOff(string(d.Criticality))
	if out.Demand.Policy = p; err == nil && !turnsOff {
		errs = append(errs, fmt.Errorf("criticality %s of policy %q throttles, and a throttled VM makes no room: choose one that turns VMs off", d.Criticality, d.PolicyName))
	}
	out.Demand.RequestID = "id|" + w.ID
	if len(w.Event) > 0 && !bytes.Equal(w.Event, []byte("null")) {
		e, eventErr := preemption.ParseEvent(w.Event)
		errs = append(errs, eventErr)
		if eventErr == nil {
			out.Demand.EventID = e.ID()
			out.Demand.Event, eventErr = keptEvent(w.Event)
			errs = append(errs, eventErr)
		}
		if w.Rule != "" {
			out.Source = e.Source()
		}
	}
	return out, errors.Join(errs...)
}

// checkAsks says what is wrong with what only a RoomRequest has.
func checkAsks(w wireRoomRequest) error {
	switch {
	case w.Room == nil:
		return errors.New("room is missing: say for whom, or how much")
	case w.ID == "":
		return errors.New("id is missing: it names the request, so that a repeated one acts once")
	case w.Room.Waiting && w.ForTag == "":
		return errors.New("room.waiting needs forTag: only VMs that carry it are waited for")
	case w.PowerOn && w.Room.For == "" && !w.Room.Waiting:
		return errors.New("powerOn needs room.for: sizes alone cannot be powered on")
	case len(w.ForTag) > maxTag || len(w.Rule) > maxTag:
		return fmt.Errorf("forTag and rule have at most %d bytes each", maxTag)
	}
	return nil
}

// duration reads a duration of a request, within its bounds.
func duration(field, text string, missing, most time.Duration) (time.Duration, error) {
	if text == "" {
		return missing, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > most {
		return 0, fmt.Errorf("%s %q is no duration of up to %s, such as 30m", field, text, most)
	}
	return d, nil
}
