package preemption

import (
	"encoding/json"

	"github.com/cloudevents/sdk-go/v2/event"
)

// The names by which clients reach the workflow that makes room.
const (
	// MakeRoomWorkflowName is the type of the workflow that makes room for VMs. It is started with SignalWithStart and no
	// argument; whoever asks for one room waits for its result.
	MakeRoomWorkflowName = "MakeRoomWorkflow"
	// RoomSignal carries one RoomRequest per signal. Those that arrive within seconds of each other are served together.
	RoomSignal = "AskForRoom"
	// RoomStateQuery answers what the workflow has done so far.
	RoomStateQuery = "room_state"
	// BeneficiaryCategory is the default category of the tags that say for which VMs room is made.
	BeneficiaryCategory = "preemption-beneficiary"
)

// RoomRequest asks that VMs which carry a tag make room, on one host, for one VM or for sizes.
type RoomRequest struct {
	Room        Room        `json:"room"`
	Tag         string      `json:"tag"`               // vSphere tag that marks preemptible VMs
	Criticality Criticality `json:"criticality"`       // how hard to act
	Policy      string      `json:"policy,omitempty"`  // name of the policy; empty: default
	PowerOn     bool        `json:"powerOn,omitempty"` // turn the VM on when its room is there
	Hold        string      `json:"hold,omitempty"`    // how long the room is kept from restores, such as "30m"; empty: as the file says
	Wait        string      `json:"wait,omitempty"`    // how long to wait for other rounds in the cluster, such as "10m"
	ForTag      string      `json:"forTag,omitempty"`  // of a rule: the VM must carry this tag, in any category
	Rule        string      `json:"rule,omitempty"`    // the rule that asks; empty: a person does
	ReplyTo     string      `json:"replyTo,omitempty"` // URL that gets the CloudEvents of the round; empty: none
	ID          string      `json:"id,omitempty"`      // names this request: a repeated one acts once
	Origin      string      `json:"origin,omitempty"`  // OriginPerson where a person asks
	Mode        string      `json:"mode,omitempty"`    // ModeObserve: everything but touching VMs; empty: the policy's
	TaskQueue   string      `json:"taskQueue,omitempty"`
	Event       event.Event `json:"event"` // what caused it
}

// MarshalJSON writes the request; an event that was never set is left out.
func (r RoomRequest) MarshalJSON() ([]byte, error) {
	type plain RoomRequest
	out := struct {
		plain
		Event *event.Event `json:"event,omitempty"`
	}{plain: plain(r)}
	if r.Event.Context != nil {
		out.Event = &r.Event
	}
	return json.Marshal(out)
}
