package makeroom

import (
	"cmp"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
)

// tellEnd tells people how a request for room ended. Who asked by hand and was refused reads it where he asked.
func (m *making) tellEnd(o *preemptapi.RoomOutcome) {
	msg := tell.Message{
		Cluster: o.ClusterName, Why: o.Reason,
		Look: tell.Command(m.info.Namespace, m.info.TaskQueueName, "workflow", "status", "--workflow-id", m.info.WorkflowExecution.ID),
	}
	if !o.Cluster.Zero() {
		msg.ClusterRef = o.Cluster.String()
	}
	host := cmp.Or(o.HostName, "a host")
	switch o.State {
	case preemptapi.RoomRunning:
		msg.Event, msg.What = tell.MadeRoom, "gave way on "+host+", and "+o.For+" runs"
	case preemptapi.RoomMade:
		msg.Event, msg.What = tell.MadeRoom, "gave way on "+host+", and room is held for "+o.For
	case preemptapi.RoomObserved:
		msg.Event, msg.What = tell.MadeRoom, "would give way on "+host+" for "+o.For
	case preemptapi.RoomFailed:
		msg.Event, msg.What = tell.Failed, "gave way in vain: no room could be made for "+o.For
	default:
		if o.Rule == "" || o.Kind == preemptapi.NoRoomNeeded {
			return
		}
		msg.Event, msg.What = tell.Rejected, "no room was made for "+o.For
	}
	var vms []tell.VM
	for _, vm := range o.Gone {
		vms = append(vms, tell.VM{Ref: vm.Ref.String(), Name: vm.Name})
	}
	if len(vms) == 0 && o.State.Final() && msg.Event == tell.MadeRoom {
		msg.What = "room on " + host + " for " + o.For + ": nobody had to go"
	}
	m.out.Send(m.ctx, m.timing.Tell, msg.With(vms))
}
