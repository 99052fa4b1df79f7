package policy

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// The reasons for which a VM that we turned off stays off, in addition to those of candidates.
const (
	TouchedByOwner   Reason = "touched_by_owner"   // somebody else has used or changed it since
	Untagged         Reason = "untagged"           // it does not carry the tag any more
	OtherTag         Reason = "other_tag"          // it was preempted for another tag
	AttributeChanged Reason = "attribute_changed"  // our record on it is not as we wrote it
	OtherInstance    Reason = "other_instance"     // our record was written on another VM
	CyclesTooOften   Reason = "cycles_too_often"   // it was preempted maxCycles times in 24 hours
	NoEvidence       Reason = "no_evidence"        // vCenter's events do not show that we turned it off
	AlreadyOn        Reason = "already_on"         // it is on
	TooOld           Reason = "too_old"            // it is off for longer than restore.giveUp
	NoRoom           Reason = "no_room"            // the load would pass the target less its margin
	NotOurs          Reason = "not_ours"           // it carries no record of ours
	StopRestore      Reason = "restore_stopped"    // the restore was stopped before its turn
	NoHost           Reason = "no_host"            // no host can take it
	ScopeBusy        Reason = "preemption_running" // a round is under way in its scope
	LimitChanged     Reason = "limit_changed"      // its owner set another CPU limit since it was throttled
)

// maxCycles is the number of preemptions in 24 hours after which a VM stays off.
const maxCycles = 3

// Record is what our attribute on a VM says about its preemption.
type Record struct {
	InstanceUUID string      `json:"instanceUUID,omitempty"`
	Tag          string      `json:"tag"`
	Scope        vsphere.Ref `json:"scope,omitzero"` // in which VMs were preempted; zero: everything, or unknown
	At           time.Time   `json:"at"`             // by our clock
	CPUMHz       int64       `json:"cpuMHz"`         // what it used
	MemoryMB     int64       `json:"memoryMB"`
	Throttle     *Throttled  `json:"throttle,omitempty"` // its CPU limit, and the owner's; nil: it was not throttled
	StaysOn      bool        `json:"staysOn,omitempty"`  // it was throttled only: if it is off, it is not our doing
}

// throttledOnly reports whether all that was done to the VM was to throttle it.
func (r *Record) throttledOnly() bool { return r != nil && r.StaysOn }

// TurnedOff reports whether the VM is off by our doing, by what can be read of its record.
func (o Owned) TurnedOff() bool {
	return o.Record != nil && !o.Record.StaysOn && o.PowerState != vsphere.PoweredOn
}

// Trace is vCenter's record of what somebody did to a VM.
type Trace struct {
	Time  time.Time `json:"time"` // by vCenter's clock
	Event string    `json:"event"`
	User  string    `json:"user,omitempty"` // empty: the guest itself
	Ours  bool      `json:"ours,omitempty"`
	// For a power-off: when we last asked for it, and when the VM was turned off the time before.
	Asked  time.Time `json:"asked,omitzero"`
	Before time.Time `json:"before,omitzero"`
}

// Owned is a VM that carries our attribute, as it is now.
type Owned struct {
	Ref          vsphere.Ref `json:"ref"`
	Name         string      `json:"name"`
	PowerState   string      `json:"powerState"`
	InstanceUUID string      `json:"instanceUUID,omitempty"`
	Record       *Record     `json:"record,omitempty"`  // nil: it cannot be read
	Off          *Trace      `json:"off,omitempty"`     // its last power-off; nil: unknown to vCenter, or it was on again
	Touched      *Trace      `json:"touched,omitempty"` // by another user, the last time; nil: nobody
	Back         *Trace      `json:"back,omitempty"`    // our own power-on, if nobody else touched it since
}

// Since returns when the VM was turned off, by vCenter's clock if known, else by ours.
func (o Owned) Since() time.Time {
	switch {
	case o.Off != nil:
		return o.Off.Time
	case o.Record != nil:
		return o.Record.At
	}
	return time.Time{}
}

// back reports whether our own power-on was the last that was done to it.
func (o *Owned) back() bool { return o.Back != nil && !o.Back.Time.Before(o.Since()) }

// ReturnDemand is the input of a restore's choice.
type ReturnDemand struct {
	Tag       string         `json:"tag"`
	Scope     vsphere.Ref    `json:"scope,omitzero"` // zero: everything
	Now       time.Time      `json:"now,omitzero"`   // zero: the time of the snapshot
	Only      []vsphere.Ref  `json:"only,omitempty"` // of these alone; empty: of all
	Done      []vsphere.Ref  `json:"done,omitempty"` // decided before, and left out
	Self      []string       `json:"self,omitempty"` // BIOS UUIDs of our own VMs
	Reserved  []vsphere.Ref  `json:"reserved,omitempty"`
	Preempted map[string]int `json:"preempted,omitempty"` // in the last 24 hours, by Ref.String
	// Warming are VMs that were restored a moment ago, with what they used before. What they do not use yet
	// counts as used.
	Warming []Return `json:"warming,omitempty"`
}

// Return is a VM to restore.
type Return struct {
	Ref      vsphere.Ref `json:"ref"`
	Name     string      `json:"name"`
	Wave     int         `json:"wave"` // from 1
	Priority int         `json:"priority"`
	OffSince time.Time   `json:"offSince"` // by vCenter's clock
	CPUMHz   int64       `json:"cpuMHz"`   // what it used
	MemoryMB int64       `json:"memoryMB"`
	// InstanceUUID distinguishes it from another VM that gets its MoRef, as after vCenter was restored from a backup.
	InstanceUUID string `json:"instanceUUID,omitempty"`
	// Unthrottle says that its CPU limit is taken back, which frees what it used beyond that. StaysOff says that we turned it off
	// besides: whether it comes back is another question.
	Unthrottle bool `json:"unthrottle,omitempty"`
	StaysOff   bool `json:"staysOff,omitempty"`
}

// Returns is the VMs to restore, in order and waves, and why the others that we turned off stay off.
type Returns struct {
	Returns []Return `json:"returns"`
	Left    []Spared `json:"left"`
	// Limits are the VMs, on or off, whose CPU limit is taken back, all at once.
	Limits []Return `json:"limits,omitempty"`
	// Adopt are VMs that our own power-on has turned on, but whose record does not say so yet.
	Adopt []Return `json:"adopt,omitempty"`
	// Usage is the usage of the scope, now and after the restore. If everything is restored: of each cluster
	// of the VMs.
	Usage []Usage `json:"usage,omitempty"`
	Later bool    `json:"later,omitempty"` // some of the others may be restored later
}

// ChooseReturns chooses the VMs to restore, the most important first: the highest priority, then those off for the
// longest time, then the smaller MoRef. A VM for which there is no room waits, and no VM of lower priority in its
// cluster is restored before it. The order of the inventory does not matter.
func ChooseReturns(s vsphere.Snapshot, owned []Owned, d ReturnDemand, p Policy) Returns {
	if d.Now.IsZero() {
		d.Now = s.Time
	}
	r := returning{s: &s, d: &d, p: &p, vms: map[vsphere.Ref]*vsphere.VM{}, blocked: map[vsphere.Ref]int{}, out: Returns{Returns: []Return{}, Left: []Spared{}}}
	for i := range s.VMs {
		r.vms[s.VMs[i].Ref] = &s.VMs[i]
	}
	r.measure()
	r.warm()
	r.limits(owned)
	for _, ret := range r.sift(owned) {
		r.place(ret)
	}
	slices.SortFunc(r.out.Adopt, func(a, b Return) int { return compareRefs(a.Ref, b.Ref) })
	slices.SortFunc(r.out.Left, func(a, b Spared) int { return compareRefs(a.Ref, b.Ref) })
	return r.out
}

// returning is the state of one choice.
type returning struct {
	s       *vsphere.Snapshot
	d       *ReturnDemand
	p       *Policy
	vms     map[vsphere.Ref]*vsphere.VM
	blocked map[vsphere.Ref]int // cluster → priority of the most important VM that found no room there
	out     Returns
}

// measure reads the usage of the scope; if that is everything, also of each cluster.
func (r *returning) measure() {
	scopes := []vsphere.Ref{r.d.Scope}
	for _, h := range r.s.Hosts {
		if !h.Cluster.Zero() && (r.d.Scope.Zero() || h.Ref == r.d.Scope) && !slices.Contains(scopes, h.Cluster) {
			scopes = append(scopes, h.Cluster)
		}
	}
	slices.SortFunc(scopes, compareRefs)
	for _, scope := range scopes {
		if scope.Zero() {
			continue
		}
		if u := usageOf(r.s, &Demand{}, scope); u.Hosts > r.p.Target.FailHosts {
			u.wake(r.s)
			u.aim(r.s, r.p.Target)
			r.out.Usage = append(r.out.Usage, u)
		}
	}
}

// warm counts what VMs that were restored a moment ago do not use yet.
func (r *returning) warm() {
	for _, w := range r.d.Warming {
		if vm := r.vms[w.Ref]; vm != nil && vm.PowerState == vsphere.PoweredOn {
			r.load(vm, load{w.CPUMHz, w.MemoryMB}.beyond(load{vm.CPUMHz, vm.MemoryMB}))
		}
	}
}

func (r *returning) load(vm *vsphere.VM, l load) {
	for i := range r.out.Usage {
		if u := &r.out.Usage[i]; inScope(vm, u.Scope) {
			u.CPU.After += l[0]
			u.Memory.After += l[1]
		}
	}
}

// sift leaves out VMs that must not be restored, and returns the others in order.
func (r *returning) sift(owned []Owned) (list []Return) {
	only, done, reserved := setOf(r.d.Only), setOf(r.d.Done), setOf(r.d.Reserved)
	found := map[vsphere.Ref]bool{}
	for i := range owned {
		o := &owned[i]
		if found[o.Ref] = true; done[o.Ref] || len(only) > 0 && !only[o.Ref] || o.Record.throttledOnly() {
			continue
		}
		reason, detail := r.exclusion(o)
		if reason == "" && reserved[o.Ref] {
			reason = BeingEvicted
		}
		if reason == AlreadyOn && o.back() {
			r.out.Adopt = append(r.out.Adopt, Return{Ref: o.Ref, Name: o.Name, InstanceUUID: o.InstanceUUID, OffSince: o.Since()})
			continue
		}
		if reason != "" {
			r.leave(o.Ref, o.Name, reason, detail)
			continue
		}
		pri := r.priorityOf(o.Ref)
		list = append(list, Return{
			Ref: o.Ref, Name: o.Name, Priority: pri, InstanceUUID: o.InstanceUUID, OffSince: o.Since(),
			CPUMHz: max(0, o.Record.CPUMHz), MemoryMB: max(0, o.Record.MemoryMB),
		})
	}
	for _, ref := range r.d.Only {
		if !found[ref] && !done[ref] {
			r.leaveUnowned(ref)
		}
	}
	slices.SortFunc(list, func(a, b Return) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.OffSince.Compare(b.OffSince), compareRefs(a.Ref, b.Ref))
	})
	return list
}

// priorityOf is the priority by its tag, or the policy's if that cannot be read.
func (r *returning) priorityOf(ref vsphere.Ref) int {
	n, err := priority(r.vms[ref], r.p)
	if err != nil {
		return r.p.Order.priority()
	}
	return n
}

// leaveUnowned leaves a VM without an open record of ours, which a person named.
func (r *returning) leaveUnowned(ref vsphere.Ref) {
	switch vm := r.vms[ref]; {
	case vm == nil:
		r.leave(ref, "", NotOurs, "")
	case vm.PowerState == vsphere.PoweredOn: // as after it came back: its record is closed
		r.leave(ref, vm.Name, AlreadyOn, "")
	default:
		r.leave(ref, vm.Name, NotOurs, "")
	}
}

// exclusion says why a VM does not come back, whatever room there is; "" where it may.
func (r *returning) exclusion(o *Owned) (Reason, string) {
	vm := r.vms[o.Ref]
	if reason, detail := r.outside(o, vm); reason != "" {
		return reason, detail
	}
	limit := r.p.Restore.GiveUp.D()
	old := limit > 0 && r.d.Now.Sub(o.Since()) > limit
	if reason, detail := o.lost(r.p.ShutdownLasts()); reason != "" && (!old || reason != NoEvidence) { // nobody looks for events so old
		return reason, detail
	}
	switch {
	case old:
		return TooOld, fmt.Sprintf("off since %s, given up after %s", o.Since().UTC().Format(time.RFC3339), brief(limit))
	case r.d.Preempted[o.Ref.String()] >= maxCycles:
		return CyclesTooOften, fmt.Sprintf("preempted %s in the last 24 h", times(r.d.Preempted[o.Ref.String()]))
	case !vm.Connected:
		return NotConnected, ""
	case slices.Contains(vm.DisabledMethods, "PowerOnVM_Task"):
		return PendingOperation, ""
	}
	return "", ""
}

// outside says why a VM is not one that this restore may power on, by what it is; "" where it is one. vm is nil where the
// snapshot does not have it.
func (r *returning) outside(o *Owned, vm *vsphere.VM) (Reason, string) {
	switch {
	case o.Record == nil:
		return AttributeChanged, ""
	case o.Record.Tag != r.d.Tag:
		return OtherTag, "tag " + o.Record.Tag
	case vm == nil && !r.d.Scope.Zero() && !o.Record.Scope.Zero() && o.Record.Scope != r.d.Scope,
		vm != nil && !inScope(vm, r.d.Scope):
		return OutOfScope, ""
	case vm == nil:
		return Untagged, ""
	case vm.Template:
		return Template, ""
	case infrastructure(vm, r.s, &Demand{Self: r.d.Self}, r.p):
		return Infrastructure, ""
	case o.Record.InstanceUUID != o.InstanceUUID:
		return OtherInstance, fmt.Sprintf("the record is of instance %s, the VM is %s: it is a copy, or vCenter was restored from a backup", known(o.Record.InstanceUUID), known(o.InstanceUUID))
	}
	return "", ""
}

// known describes an instance UUID.
func known(uuid string) string { return cmp.Or(uuid, "unknown") }

// place puts the VM into a wave, or leaves it out if there is no room.
func (r *returning) place(ret Return) {
	vm := r.vms[ret.Ref]
	if most, ok := r.blocked[vm.Cluster]; ok && ret.Priority < most {
		r.leave(ret.Ref, ret.Name, NoRoom, "more important ones wait for room in its cluster")
		return
	}
	if reason, detail := r.room(vm, load{ret.CPUMHz, ret.MemoryMB}); reason != "" {
		if _, ok := r.blocked[vm.Cluster]; !ok {
			r.blocked[vm.Cluster] = ret.Priority
		}
		r.leave(ret.Ref, ret.Name, reason, detail)
		return
	}
	r.load(vm, load{ret.CPUMHz, ret.MemoryMB})
	ret.Wave = 1 + len(r.out.Returns)/max(1, r.p.Restore.Wave)
	r.out.Returns = append(r.out.Returns, ret)
}

// room returns why the VM's scopes have no room for its load; "" if they have, or the policy has no target.
func (r *returning) room(vm *vsphere.VM, l load) (Reason, string) {
	if !r.p.Target.Set() {
		return "", ""
	}
	known := false
	for i := range r.out.Usage {
		u := &r.out.Usage[i]
		if !inScope(vm, u.Scope) {
			continue
		}
		known = true
		if u.Moving > 0 {
			return NoRoom, "a host is entering maintenance"
		}
		for _, at := range []struct {
			what string
			l    *Load
			more int64
		}{{"CPU", &u.CPU, l[0]}, {"memory", &u.Memory, l[1]}} {
			if at.l.Target > 0 && at.l.After+at.more > at.l.most() {
				return NoRoom, fmt.Sprintf("%s would come to %d %%, at most %d %%", at.what, (at.l.After+at.more)*100/max(1, at.l.Capacity), at.l.Target)
			}
		}
	}
	if !known {
		return NotMeasured, ""
	}
	return "", ""
}

func (r *returning) leave(ref vsphere.Ref, name string, reason Reason, detail string) {
	r.out.Left = append(r.out.Left, Spared{Ref: ref, Name: name, Reason: reason, Detail: detail})
	r.out.Later = r.out.Later || reason.Passes()
}

// Passes reports whether the reason for not restoring a VM may end by itself.
func (r Reason) Passes() bool {
	switch r {
	case NoRoom, NoHost, NotMeasured, BeingEvicted, NotConnected, PendingOperation:
		return true
	}
	return false
}
