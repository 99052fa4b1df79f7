package trigger

import (
	"encoding/json"
	"fmt"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// MakeRoom is the action that makes room for a VM that could not be started.
type MakeRoom struct {
	For         string // tag that the VM must carry
	Tag         string // of the VMs that may go
	Policy      string // name; "" for the default
	PowerOn     bool   // start the VM in its room
	Criticality preemption.Criticality
	Hold        string // how long the room is held, such as "30m"; "": as the worker's file says
	Mode        string // preemption.ModeObserve: touch no VM; "" or act: as the policy says
	ReplyTo     string // URL for the CloudEvents of the round; "" for none
}

// Kind is KindMakeRoom.
func (a MakeRoom) Kind() Kind { return KindMakeRoom }

// Acts is true: whether a round only observes is up to the policy.
func (a MakeRoom) Acts() bool { return true }

// VMTag is the tag of the VMs that may go.
func (a MakeRoom) VMTag() string { return a.Tag }

// Reply is the ReplyTo.
func (a MakeRoom) Reply() string { return a.ReplyTo }

// WithoutReply returns the action without its ReplyTo.
func (a MakeRoom) WithoutReply() Action {
	a.ReplyTo = ""
	return a
}

// Order asks for room in the VM's cluster: those of one cluster reach one workflow, which serves them together.
func (a MakeRoom) Order(in Incoming, rule string) (Order, string, bool, error) {
	if err := KindMakeRoom.accepts(in.Event, "making room", "a "+listed(KindMakeRoom.On())); err != nil {
		return Order{}, "", false, err
	}
	short := in.Event.Shortage
	about, err := in.Event.About()
	waiting := in.Event.Class == alarm.ClassFailoverShort
	if err == nil && short.VM.Zero() && !waiting {
		err = fmt.Errorf("the event names no VM")
	}
	if err != nil {
		return Order{}, "", false, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if why, ok := short.OfResources(in.Event.Class); !ok {
		return Order{}, why, false, nil
	}
	req := preemption.RoomRequest{
		Room: preemption.Room{For: short.VM.Ref(), Cluster: short.Cluster.Ref(), Waiting: waiting}, Tag: a.Tag, Criticality: a.Criticality, Policy: a.Policy,
		PowerOn: a.PowerOn, Hold: a.Hold, ForTag: a.For, Rule: rule, Mode: a.Mode, ReplyTo: a.ReplyTo, ID: identify(about), TaskQueue: in.TaskQueue,
	}
	what := "room for " + short.VM.Ref()
	if short.Cluster.Zero() {
		req.Room.Cluster = ""
	}
	if waiting {
		req.Room.For, what = "", "room for what waits in "+short.Cluster.Ref()
	}
	if req.Event, err = preemption.ParseEvent(alarm.Trim(in.CloudEvent)); err != nil {
		return Order{}, "", false, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	b, err := json.Marshal(req)
	if err == nil && len(b) > maxEventBytes {
		err = fmt.Errorf("the event makes a request of %d bytes: at most %d are taken", len(b), maxEventBytes)
	}
	if err != nil {
		return Order{}, "", false, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return Order{
		WorkflowID: workflowid.Room(short.Cluster.Value, in.TaskQueue), WorkflowType: preemption.MakeRoomWorkflowName, Signal: preemption.RoomSignal,
		Payload: req, What: what,
	}, "", true, nil
}
