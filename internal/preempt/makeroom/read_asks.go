package makeroom

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Ask is a request for room that was looked up, or why it is refused.
type Ask struct {
	Demand   preemptapi.Demand  `json:"demand"` // without rooms; its scope is the cluster
	Room     preemptapi.RoomAsk `json:"room"`
	VM       vsphere.Ref        `json:"vm,omitzero"` // zero: only sizes were given
	Priority int                `json:"priority"`
	PowerOn  bool               `json:"powerOn,omitempty"`
	Hold     clock.Duration     `json:"hold"`
	Wait     clock.Duration     `json:"wait"`
	Rule     string             `json:"rule,omitempty"`
	Refused  string             `json:"refused,omitempty"`
	Kind     string             `json:"kind,omitempty"` // of the refusal: the type of its error
	// AlreadyOn: it is refused because the VM is on, so that nothing is missing.
	AlreadyOn bool `json:"alreadyOn,omitempty"`
}

// Asks are the answer of ReadRoomAsks: one for each request, in the same order; several for one that is for all that wait in a
// cluster.
type Asks struct {
	Asks    []Ask          `json:"asks"`
	Timing  preempt.Timing `json:"timing"`
	Attrs   bool           `json:"attrs,omitempty"`
	PerHour int            `json:"perHour,omitempty"`
}

// ReadRoomAsks validates requests and looks up the VMs that they name: where they are, whether they may ask, what goes before
// them. A request that is wrong is refused in its answer, and holds up no other.
func (a *Activities) ReadRoomAsks(ctx context.Context, requests []json.RawMessage) (Asks, error) {
	stop := a.Beat(ctx)
	defer stop()
	out := Asks{Timing: a.Settings.Timing, Attrs: a.AttributesRegistered(), PerHour: a.Settings.MakeRoom.PerHour}
	for _, raw := range requests {
		asks, err := a.readAsks(ctx, raw)
		if err != nil {
			return Asks{}, preempt.WhenEnded(ctx, step.Typed(err))
		}
		out.Asks = append(out.Asks, asks...)
	}
	return out, nil
}

// maxWaiting bounds the VMs for which one event asks.
const maxWaiting = 200

// readAsks reads a request. An error says that vCenter could not be asked.
func (a *Activities) readAsks(ctx context.Context, raw json.RawMessage) ([]Ask, error) {
	ask, forTag, err := a.readAsk(raw)
	each := []Ask{ask}
	if err == nil && ask.Room.Waiting {
		each, err = a.waiting(ctx, ask, forTag)
	}
	for i := range each {
		one := &each[i]
		if err == nil && one.Room.For != "" {
			err = a.Attempt(ctx, func() error { return a.lookUp(ctx, one, forTag) })
		}
		if err != nil && vcenter.KindOf(err).Outage() {
			return nil, err
		}
		if err != nil {
			one.Refused, one.Kind = preempt.Clip(err.Error()), string(vcenter.KindOf(err))
		}
		err = nil
	}
	return each, nil
}

// waiting makes an ask for each VM of the cluster that carries the tag and went down with its host; where there is none, the ask
// says so.
func (a *Activities) waiting(ctx context.Context, ask Ask, forTag string) (each []Ask, err error) {
	var vms []vsphere.Ref
	err = a.Attempt(ctx, func() (err error) {
		vms, err = a.VCenter.Fallen(ctx, forTag, ask.Demand.Scope)
		return err
	})
	for _, vm := range vms[:min(len(vms), maxWaiting)] {
		one := ask
		one.Room.Waiting, one.Room.For = false, vm.String()
		one.Demand.RequestID += "|" + vm.String()
		each = append(each, one)
	}
	if len(each) == 0 {
		ask.Refused, ask.Kind = "no VM with the tag "+preempt.Clip(forTag)+" went down with its host and is off", preemptapi.NoRoomNeeded
		each = []Ask{ask}
	}
	return each, err
}

// readAsk validates a request, and returns it with the tag that a rule asks for.
func (a *Activities) readAsk(raw json.RawMessage) (Ask, string, error) {
	d, err := a.Decode(raw)
	ask := Ask{Demand: d.Demand, PowerOn: d.PowerOn, Hold: d.Hold, Wait: d.Wait, Rule: d.Rule, Priority: policy.AboveAll}
	if len(d.Demand.Rooms) > 0 {
		ask.Room = d.Demand.Rooms[0]
		ask.Room.Part = 0 // of all of it
	}
	ask.Demand.Rooms = nil
	ask.Demand.Policy.Cooldown = 0 // what goes makes room for one; it relieves no alarm
	switch {
	case err != nil:
	case d.Source != "" && !a.VCenter.Named(d.Source):
		err = fmt.Errorf("its event is of another vCenter, %s: if it is this one's too, name it in vcenter.aliases", preempt.Clip(d.Source))
	case ask.Room.For == "" && ask.Demand.Scope.Zero():
		err = fmt.Errorf("sizes without a cluster: name the cluster in which room is to be made")
	}
	return ask, d.ForTag, err
}

// lookUp finds the VM that asks, and checks that it may.
func (a *Activities) lookUp(ctx context.Context, ask *Ask, forTag string) error {
	ref, err := a.VCenter.FindVM(ctx, ask.Room.For)
	if err != nil {
		return err
	}
	limits := a.Settings.MakeRoom
	list, err := a.VCenter.Askers(ctx, []vsphere.Ref{ref}, limits.Beneficiaries)
	if err != nil {
		return err
	}
	who := list[0]
	if who.Err != nil {
		return who.Err
	}
	ask.VM, ask.Room.For, ask.Room.Name = ref, ref.String(), who.Name
	if ask.Demand.Scope.Zero() {
		ask.Demand.Scope = who.Cluster
	}
	if ask.Refused, err = a.mayAsk(ctx, who, ask.Rule, forTag); err != nil || ask.Refused != "" {
		return err
	}
	if ask.Priority, err = policy.AskerPriority(who.Priority); err != nil {
		ask.Refused = fmt.Sprintf("VM %s: %v", who.Name, err)
		return nil
	}
	if err := limits.Allow(who.CPUs, who.MemoryMB); err != nil {
		ask.Refused = err.Error()
		return nil
	}
	switch {
	case who.PowerState == vsphere.PoweredOn:
		ask.Refused, ask.AlreadyOn = fmt.Sprintf("VM %s is on: it has its room", who.Name), true
	case who.Template:
		ask.Refused = who.Name + " is a template: it never runs"
	case ask.Demand.Scope.Zero():
		ask.Refused = fmt.Sprintf("the cluster of VM %s cannot be seen: name one", who.Name)
	}
	if ask.Refused != "" {
		ask.Kind = preemptapi.NoRoomNeeded
	}
	return nil
}

// mayAsk says why nobody may ask for the VM; empty: somebody may. For a rule it must carry the rule's tag, for a person
// one of the category of beneficiaries.
func (a *Activities) mayAsk(ctx context.Context, who vcenter.Asker, rule, forTag string) (refused string, err error) {
	if rule == "" && forTag == "" {
		category := a.Settings.MakeRoom.Beneficiaries
		if len(who.Tags[category]) == 0 {
			return fmt.Sprintf("VM %s carries no tag of the category %s: it may not have room made", who.Name, category), nil
		}
		return "", nil
	}
	now, err := a.VCenter.State(ctx, forTag, []vsphere.Ref{who.Ref})
	if err != nil {
		return "", err
	}
	if !now[who.Ref].Tagged {
		return fmt.Sprintf("VM %s does not carry the tag %s, for which rule %s makes room", who.Name, preempt.Clip(forTag), preempt.Clip(rule)), nil
	}
	return "", nil
}
