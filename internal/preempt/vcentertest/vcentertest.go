// Package vcentertest is a vCenter in memory, for tests of what powers VMs off and on. It does at once what it is asked,
// and fails as a test tells it to.
package vcentertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// The objects that are always there.
var (
	Cluster = vsphere.Ref{Type: vsphere.TypeCluster, Value: "domain-c1"}
	Host    = vsphere.Ref{Type: vsphere.TypeHost, Value: "host-1"}
)

// User is the account of the worker, and Owner somebody else's.
const (
	User  = `VSPHERE.LOCAL\preemption`
	Owner = `CORP\owner`
)

// VM is a VM, with what vCenter's events tell of it.
type VM struct {
	vsphere.VM
	Attributes map[string]string
	GuestInfo  map[string]string
	Obeys      bool             // its guest shuts down when it is asked to
	Hangs      bool             // its power does not change, whatever is sent
	OnAgain    bool             // somebody powers it on right after it went off
	Off        vcenter.Evidence // how it went off
	Touched    *vcenter.Touch   // who touched it last, since it is off
	LimitMHz   int64            // its CPU limit; 0: unlimited
	NoLimit    bool             // its CPU limit cannot be seen
	Task       map[string]bool  // its tasks, by MoRef; true: it succeeded
}

// copied returns a copy that shares nothing with the VM.
func (vm *VM) copied() VM {
	c := *vm
	c.Attributes, c.GuestInfo, c.Task = maps.Clone(vm.Attributes), maps.Clone(vm.GuestInfo), maps.Clone(vm.Task)
	return c
}

// VCenter holds the VMs of one cluster with one host.
type VCenter struct {
	mu    sync.Mutex
	vms   map[vsphere.Ref]*VM
	calls []string
	tasks int

	// Fail is asked before each call on a VM, or on none, and its error is the call's answer. Nil: nothing fails.
	Fail func(call string, vm vsphere.Ref) error
	// After is called when a call is done, with the lock released.
	After func(call string, vm vsphere.Ref)

	Hosts     []vsphere.Host
	Alarm     vcenter.CurrentAlarm // of every alarm
	Up        []vcenter.AlarmState // the triggered alarms
	Elsewhere string               // why an event is of another vCenter
	Known     bool                 // this vCenter knows every event
	Name      string               // by which events name it
	Lag       bool                 // its events come after the state
	Asker     vcenter.Asker        // the VM that room is for
}

// New returns a vCenter with VMs vm-1 to vm-n: tagged, on, with tools, and with guests that obey.
func New(n int) *VCenter {
	v := &VCenter{vms: map[vsphere.Ref]*VM{}, Known: true, Name: "vc"}
	v.Hosts = []vsphere.Host{{Ref: Host, Name: "esx-1", Cluster: Cluster, Connected: true, CPUMHz: 100000, MemoryMB: 100000, CPUUsedMHz: 90000, MemoryUsedMB: 90000}}
	for i := 1; i <= n; i++ {
		ref := Ref(i)
		v.vms[ref] = &VM{
			VM: vsphere.VM{
				Ref: ref, Name: fmt.Sprintf("batch-%d", i), PowerState: vsphere.PoweredOn, Tagged: true, Connected: true, ToolsRunning: true,
				InstanceUUID: fmt.Sprintf("uuid-%d", i), Host: Host, Cluster: Cluster, CPUMHz: 1000, MemoryMB: 1000,
			},
			Attributes: map[string]string{}, GuestInfo: map[string]string{}, Obeys: true,
		}
	}
	return v
}

// Ref is the reference of the VM with the number.
func Ref(i int) vsphere.Ref { return vsphere.Ref{Type: vsphere.TypeVM, Value: fmt.Sprintf("vm-%d", i)} }

// Set changes the VM with the number.
func (v *VCenter) Set(i int, f func(*VM)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f(v.vms[Ref(i)])
}

// Get returns a copy of the VM with the number.
func (v *VCenter) Get(i int) VM {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.vms[Ref(i)].copied()
}

// Remove takes the VM with the number out of the inventory.
func (v *VCenter) Remove(i int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.vms, Ref(i))
}

// Calls returns the calls so far that change something, such as "PowerOff vm-1".
func (v *VCenter) Calls() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.calls)
}

// On returns how many VMs are on.
func (v *VCenter) On() (n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, vm := range v.vms {
		if vm.PowerState == vsphere.PoweredOn {
			n++
		}
	}
	return n
}

// WantCalls fails the test unless the calls that changed something are these, in any order.
func (v *VCenter) WantCalls(t testing.TB, want ...string) {
	t.Helper()
	got := v.Calls()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("vCenter was called %q, want %q", got, want)
	}
}

// Fault returns an error of the kind, as the gateway returns it.
func Fault(kind vcenter.Kind) error {
	return &vcenter.Error{Op: "call", Kind: kind, Err: errors.New(string(kind))}
}

func (v *VCenter) fails(call string, vm vsphere.Ref) error {
	if v.Fail == nil {
		return nil
	}
	return v.Fail(call, vm)
}

// change does something to a VM, unless the call is to fail.
func (v *VCenter) change(call string, ref vsphere.Ref, f func(*VM)) error {
	if err := v.fails(call, ref); err != nil {
		return err
	}
	v.mu.Lock()
	vm, ok := v.vms[ref]
	if ok {
		v.calls = append(v.calls, call+" "+ref.Value)
		f(vm)
	}
	v.mu.Unlock()
	if !ok {
		return Fault(vcenter.NotFound)
	}
	if v.After != nil {
		v.After(call, ref)
	}
	return nil
}

// some returns copies of those of the VMs that are there.
func (v *VCenter) some(refs []vsphere.Ref) map[vsphere.Ref]VM {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := map[vsphere.Ref]VM{}
	for _, ref := range refs {
		if vm, ok := v.vms[ref]; ok {
			out[ref] = vm.copied()
		}
	}
	return out
}

// all returns copies of all VMs, in order.
func (v *VCenter) all() (list []VM) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := 1; len(list) < len(v.vms) && i < 10000; i++ {
		if vm, ok := v.vms[Ref(i)]; ok {
			list = append(list, vm.copied())
		}
	}
	return list
}

// newTask returns a task of the VM that has succeeded, or still runs.
func (v *VCenter) newTask(vm *VM, done bool) vsphere.Ref {
	v.tasks++
	task := vsphere.Ref{Type: "Task", Value: fmt.Sprintf("task-%d", v.tasks)}
	if vm.Task == nil {
		vm.Task = map[string]bool{}
	}
	vm.Task[task.Value] = done
	return task
}

// turnedOff is how a VM went off by the user; none is the guest itself.
func turnedOff(vm *VM, state, user string, asked time.Time) {
	vm.PowerState = state
	vm.Off = vcenter.Evidence{Time: time.Now(), Event: "VmPoweredOffEvent", User: user, Ours: user == User || user == "" && !asked.IsZero(), Asked: asked}
	if vm.OnAgain {
		vm.PowerState = vsphere.PoweredOn
		vm.Touched = &vcenter.Touch{Time: time.Now(), Event: "VmPoweredOnEvent", User: Owner}
	}
}

// TurnOff has somebody turn the VM with the number off; "" is its guest.
func (v *VCenter) TurnOff(i int, user string) {
	v.Set(i, func(vm *VM) { turnedOff(vm, vsphere.PoweredOff, user, time.Time{}) })
}

// Cut carries out an action that does not ask the guest. Its calls are known by the action's name: "PowerOff", "Suspend".
func (v *VCenter) Cut(_ context.Context, what action.Action, ref vsphere.Ref) (task vsphere.Ref, err error) {
	state := vsphere.PoweredOff
	if what == action.Suspend {
		state = "suspended"
	}
	err = v.change(strings.ToUpper(string(what[:1]))+string(what[1:]), ref, func(vm *VM) {
		task = v.newTask(vm, !vm.Hangs)
		if !vm.Hangs {
			turnedOff(vm, state, User, time.Time{})
		}
	})
	return task, err
}

// ShutdownGuest asks a guest to shut down.
func (v *VCenter) ShutdownGuest(_ context.Context, ref vsphere.Ref) error {
	return v.change("ShutdownGuest", ref, func(vm *VM) {
		vm.Off.Asked = time.Now()
		if vm.Obeys {
			turnedOff(vm, vsphere.PoweredOff, "", time.Now())
		}
	})
}

// PowerOnMany powers VMs on.
func (v *VCenter) PowerOnMany(_ context.Context, refs []vsphere.Ref) map[vsphere.Ref]vcenter.Started {
	out := map[vsphere.Ref]vcenter.Started{}
	for _, ref := range refs {
		var task vsphere.Ref
		err := v.change("PowerOn", ref, func(vm *VM) {
			task = v.newTask(vm, !vm.Hangs)
			if !vm.Hangs {
				vm.PowerState = vsphere.PoweredOn
				vm.Touched = &vcenter.Touch{Time: time.Now(), Event: "VmPoweredOnEvent", User: User, Ours: true}
			}
		})
		out[ref] = vcenter.Started{Task: task, Err: err}
	}
	return out
}

// AwaitOff waits until the VMs are off.
func (v *VCenter) AwaitOff(ctx context.Context, waits []vcenter.Wait, report func(vsphere.Ref, vcenter.WaitResult)) error {
	return v.await(ctx, waits, func(vm VM, byTask bool) (r vcenter.WaitResult, done bool) {
		off := vm.PowerState != vsphere.PoweredOn
		switch {
		case off:
			return vcenter.WaitResult{Off: true, ByTask: byTask}, true
		case byTask:
			return vcenter.WaitResult{On: true}, true
		}
		return r, false
	}, "AwaitOff", report)
}

// AwaitOn waits until the VMs are on.
func (v *VCenter) AwaitOn(ctx context.Context, waits []vcenter.Wait, report func(vsphere.Ref, vcenter.WaitResult)) error {
	return v.await(ctx, waits, func(vm VM, byTask bool) (r vcenter.WaitResult, done bool) {
		return vcenter.WaitResult{On: true, ByTask: byTask}, vm.PowerState == vsphere.PoweredOn
	}, "AwaitOn", report)
}

func (v *VCenter) await(ctx context.Context, waits []vcenter.Wait, look func(vm VM, byTask bool) (vcenter.WaitResult, bool), call string,
	report func(vsphere.Ref, vcenter.WaitResult),
) error {
	waits = slices.Clone(waits)
	for {
		waits = slices.DeleteFunc(waits, func(w vcenter.Wait) bool {
			if err := v.fails(call, w.VM); err != nil {
				report(w.VM, vcenter.WaitResult{Err: err})
				return true
			}
			vm, ok := v.some([]vsphere.Ref{w.VM})[w.VM]
			if !ok {
				report(w.VM, vcenter.WaitResult{Gone: true})
				return true
			}
			r, done := look(vm, vm.Task[w.Task.Value])
			if done {
				report(w.VM, r)
			}
			return done
		})
		if len(waits) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}
