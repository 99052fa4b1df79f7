package standalone

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// The VM that vCenter refuses to start, and how full the hosts are: what is left to reserve is less than it needs, and more
// when one VM goes.
const (
	critical      = contended + "-app-03"
	criticalNeeds = 4 << 10 // MB
	leftOnHosts   = 3 << 10
	goersReserve  = 2 << 10 // each VM that may go
)

// makeRoom shows how room is made for a critical VM that vCenter refuses to start.
func (s *scenario) makeRoom(ctx context.Context) error {
	vm := s.vcenter.VM(critical)
	if err := s.crowd(vm); err != nil {
		return err
	}
	err := s.vcenter.PowerOnAs(vm, "CORP\\dba")
	if err == nil {
		return fmt.Errorf("vCenter admits %s, although its hosts have less left than it reserves", critical)
	}
	s.out.say("refused", "%s, which reserves %d GB, is not powered on: each host of %s has %d GB left to reserve", critical, criticalNeeds>>10, contended, leftOnHosts>>10)
	o, err := s.askForRoom(ctx)
	if err != nil {
		return err
	}
	s.seen.look()
	switch {
	case o.State == preemptapi.RoomObserved:
		s.out.say("room", "%s: %s", critical, o.Reason)
	case o.State != preemptapi.RoomRunning || s.vcenter.PowerState(vm) != types.VirtualMachinePowerStatePoweredOn:
		return fmt.Errorf("no room was made for %s: it is %s: %s", critical, o.State, o.Reason)
	default:
		s.score.rooms++
		s.score.preempted += len(o.Gone)
		for _, gone := range o.Gone {
			s.out.say("gone", "%-*s  %s", nameWidth, gone.Name, gone.Why)
		}
		s.out.say("room", "%s runs on %s", critical, o.HostName)
	}
	return s.relax(ctx, vm, o)
}

// crowd lets the VMs of the contended cluster reserve so much that vCenter does not admit the critical VM, which is off.
func (s *scenario) crowd(vm types.ManagedObjectReference) error {
	errs := []error{
		s.vcenter.PowerOffAs(vm, "CORP\\dba"), s.vcenter.SetReservation(vm, simulation.Reservation{MemoryMB: criticalNeeds}),
		s.vcenter.SetTags(vm, preemption.BeneficiaryCategory, "critical"), s.vcenter.SetTags(vm, policy.CategoryPriority, "900"),
	}
	for _, tagged := range s.vcenter.TaggedVMs(contended) {
		errs = append(errs, s.vcenter.SetReservation(tagged.Ref, simulation.Reservation{MemoryMB: goersReserve}))
	}
	errs = append(errs, s.vcenter.FillMemory(contended, leftOnHosts, vm), s.vcenter.SetAdmission(contended, &simulation.Admission{}))
	return errors.Join(errs...)
}

// askForRoom asks as preemptctl make-room --for VM --power-on does, and waits for what becomes of it.
func (s *scenario) askForRoom(ctx context.Context) (o preemptapi.RoomOutcome, err error) {
	id := workflowid.Of(workflowid.MakeRoom + uuid.NewString())
	req := preemption.RoomRequest{
		Room: preemption.Room{For: critical}, Tag: s.tags()[0], Criticality: preemption.CriticalityHigh, PowerOn: true, ID: uuid.NewString(),
		Origin: preemption.OriginPerson, TaskQueue: s.queue(),
	}
	s.out.say("request", "%s %q: room for %s, as preemptctl make-room --for %s --power-on asks", preemption.MakeRoomWorkflowName, id, critical, critical)
	if _, err = s.client.SignalWithStartWorkflow(ctx, id, preemption.RoomSignal, req, client.StartWorkflowOptions{ID: id, TaskQueue: s.queue()}, preemption.MakeRoomWorkflowName); err != nil {
		return o, fmt.Errorf("ask for room: %w", err)
	}
	err = poll(ctx, "ask "+id+" how it stands", func() (bool, error) {
		v, err := s.client.QueryWorkflow(ctx, id, "", preemption.RoomStateQuery)
		if err != nil {
			return false, err
		}
		var r preemptapi.RoomResult
		if err := v.Get(&r); err != nil {
			return false, err
		}
		if len(r.Rooms) == 1 {
			o = r.Rooms[0]
		}
		return o.State.Final(), nil
	})
	if err != nil {
		return o, err
	}
	return o, s.client.GetWorkflow(ctx, id, "").Get(ctx, nil) // by then it holds nothing any more
}

// relax ends the shortage, and waits until those who went are on again, where the policy restores.
func (s *scenario) relax(ctx context.Context, vm types.ManagedObjectReference, o preemptapi.RoomOutcome) error {
	errs := []error{s.vcenter.SetReservation(vm, simulation.Reservation{})}
	for _, each := range s.vcenter.Cluster(contended).VMs {
		errs = append(errs, s.vcenter.SetReservation(each.Ref, simulation.Reservation{}))
	}
	if err := errors.Join(errs...); err != nil || o.RestoreID == "" {
		return err
	}
	err := poll(ctx, "wait until those who made room are on again", func() (bool, error) {
		for _, gone := range o.Gone {
			if s.vcenter.PowerState(types.ManagedObjectReference{Type: gone.Ref.Type, Value: gone.Ref.Value}) != types.VirtualMachinePowerStatePoweredOn {
				return false, nil
			}
		}
		return true, nil
	})
	if err == nil {
		s.seen.look()
		s.score.restored += len(o.Gone)
		s.out.say("done", "the hosts have room again, and who went is on: %s", o.RestoreID)
	}
	return err
}
