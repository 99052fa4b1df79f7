package sitetest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// Crowded fills the hosts of cluster-a: on each, 4 GB of memory are left unreserved, and each tagged VM but the first gives
// 3 GB when it goes. It returns the name of a VM that is off, reserves so many MB, and may ask for room.
func (s *Site) Crowded(needsMB int64) (asker string) {
	s.T.Helper()
	asker = "cluster-a-app-01"
	s.Asks(asker, needsMB, "")
	const host = 64 << 10 // MB
	byHost := map[string][]simulation.VM{}
	for _, vm := range s.VC.TaggedVMs("cluster-a") {
		byHost[vm.Host.Value] = append(byHost[vm.Host.Value], vm)
	}
	for _, vms := range byHost {
		for i, vm := range vms {
			mb, priority := int64(3<<10), "1"
			if i == 0 {
				mb, priority = host-4<<10-int64(len(vms)-1)*3<<10, "9"
			}
			s.Must(s.VC.SetReservation(vm.Ref, simulation.Reservation{MemoryMB: mb}))
			s.Must(s.VC.SetTags(vm.Ref, policy.CategoryPriority, priority))
		}
	}
	return asker
}

// Asks has the owner of a VM turn it off. It reserves so many MB, and may ask for room; its priority is above all, or the
// one given.
func (s *Site) Asks(name string, needsMB int64, priority string) {
	s.T.Helper()
	ref := s.VC.VM(name)
	if s.VC.PowerState(ref) == types.VirtualMachinePowerStatePoweredOn {
		s.Must(s.VC.PowerOffAs(ref, "CORP\\owner"))
	}
	s.Must(s.VC.SetReservation(ref, simulation.Reservation{MemoryMB: needsMB}))
	s.Must(s.VC.SetTags(ref, preemption.BeneficiaryCategory, "critical"))
	if priority != "" {
		s.Must(s.VC.SetTags(ref, policy.CategoryPriority, priority))
	}
}

// RoomRequest asks, as a person, for room for a VM, which is then powered on.
func (s *Site) RoomRequest(vm string, change ...func(*preemption.RoomRequest)) preemption.RoomRequest {
	r := preemption.RoomRequest{
		Room: preemption.Room{For: vm}, Tag: preemption.DefaultTag, Criticality: preemption.CriticalityHigh, PowerOn: true,
		ID: fmt.Sprintf("room-%d", NextID.Add(1)), Origin: preemption.OriginPerson,
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

// AskForRoom sends requests to a workflow that makes room, which it starts if none runs.
func (s *Site) AskForRoom(id string, requests ...preemption.RoomRequest) {
	s.T.Helper()
	for _, r := range requests {
		raw, err := json.Marshal(r)
		s.Must(err)
		_, err = s.Temporal.SignalWithStartWorkflow(s.T.Context(), id, preemption.RoomSignal, json.RawMessage(raw),
			client.StartWorkflowOptions{ID: id, TaskQueue: s.Queue}, preemption.MakeRoomWorkflowName)
		s.Must(err)
	}
}

// Rooms is what a workflow that makes room has done so far; nothing where no worker answers in time.
func (s *Site) Rooms(id string) (r preemptapi.RoomResult) {
	s.T.Helper()
	if v, err := s.Temporal.QueryWorkflow(s.T.Context(), id, "", preemption.RoomStateQuery); err == nil {
		s.Must(v.Get(&r))
	}
	return r
}

// RoomsDecided waits until so many requests have their final states.
func (s *Site) RoomsDecided(id string, n int) (r preemptapi.RoomResult) {
	s.T.Helper()
	s.Eventually(fmt.Sprintf("%d requests for room were decided", n), func() bool {
		r = s.Rooms(id)
		decided := 0
		for _, o := range r.Rooms {
			if o.State.Final() {
				decided++
			}
		}
		return decided >= n
	})
	return r
}

// Failed is vCenter's event of a power-on that failed, as a CloudEvent.
func (s *Site) Failed(vm types.ManagedObjectReference, fault types.BaseMethodFault) event.Event {
	s.T.Helper()
	cluster := s.Cluster("cluster-a")
	return Wrapped(s.T, s.VC.URL(), "com.vmware.vsphere.VmFailedToPowerOnEvent.v0", time.Now(), event.ApplicationJSON, map[string]any{
		"Key": NextID.Add(1), "CreatedTime": time.Now().UTC(),
		"ComputeResource": map[string]any{"Name": "cluster-a", "ComputeResource": cluster},
		"Vm":              map[string]any{"Name": "db-1", "Vm": vm},
		"Reason":          map[string]any{"Fault": map[string]any{"_typeName": reflect.TypeOf(fault).Elem().Name()}},
	})
}
