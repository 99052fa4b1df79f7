package simulation

import (
	"slices"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// rules are the faults and hooks to order, and the waits for updates that can be ended.
type rules struct {
	mu    sync.Mutex // a leaf
	calls []*callRule
	rest  []*restRule
	lost  []*callRule // whose answers are lost
	hooks map[string][]func(types.ManagedObjectReference)
	waits map[waitKey]waiter

	denied []string // privileges
}

type callRule struct {
	method string
	ref    *types.ManagedObjectReference
	fault  types.BaseMethodFault
	times  int
}

type restRule struct {
	key    string
	status int
	times  int
}

type waitKey struct {
	session   string
	collector types.ManagedObjectReference
}

// waiter is the part of a property collector that ends its wait.
type waiter interface {
	CancelWaitForUpdates(*types.CancelWaitForUpdates) soap.HasFault
}

// FailCall lets the next times calls (-1: all) of the SOAP method (PowerOffVM_Task, SetField, ...) on ref (nil: on
// any object) answer the fault. The object of SetField is the entity it writes to. Times 0 withdraws the rules of
// that method and object.
func (v *VCenter) FailCall(method string, ref *types.ManagedObjectReference, fault types.BaseMethodFault, times int) {
	v.rules.mu.Lock()
	defer v.rules.mu.Unlock()
	if times == 0 {
		v.rules.calls = slices.DeleteFunc(v.rules.calls, func(r *callRule) bool {
			return r.method == method && sameRef(r.ref, ref)
		})
		return
	}
	v.rules.calls = append(v.rules.calls, &callRule{method: method, ref: ref, fault: fault, times: times})
}

// FailTaskOf lets the next times (-1: all) tasks of the method (ReconfigVM_Task, RelocateVM_Task, PowerOnVM_Task) on the VM
// end in the fault: a relocation when it is through with copying. Any way to power the VM on counts as PowerOnVM_Task, and
// leaves a VmFailedToPowerOnEvent with the fault. 0 withdraws that.
func (v *VCenter) FailTaskOf(method string, ref types.ManagedObjectReference, fault types.BaseMethodFault, times int) {
	v.FailCall("task of "+method, &ref, fault, times)
}

func (v *VCenter) methodFault(method string, ref types.ManagedObjectReference) types.BaseMethodFault {
	return v.rules.fault("task of "+method, ref)
}

// FailREST lets the next times REST calls (-1: all) with that key, as Calls names it, answer the HTTP status.
func (v *VCenter) FailREST(key string, status, times int) {
	v.rules.mu.Lock()
	defer v.rules.mu.Unlock()
	v.rules.rest = append(v.rules.rest, &restRule{key: key, status: status, times: times})
}

// Hook calls fn with the object (of SetField: the entity) before each call of the SOAP method is served, or without
// one before each REST call with that key, as Calls names it. It runs in the call's goroutine and without any lock, so it may change the model or stop the caller's world.
func (v *VCenter) Hook(method string, fn func(ref types.ManagedObjectReference)) {
	v.rules.mu.Lock()
	defer v.rules.mu.Unlock()
	if v.rules.hooks == nil {
		v.rules.hooks = map[string][]func(types.ManagedObjectReference){}
	}
	v.rules.hooks[method] = append(v.rules.hooks[method], fn)
}

// LoseAnswer serves the next times calls (-1: all) of the SOAP method on ref (nil: on any object) and closes the
// connection in place of an answer, as when the network or vCenter fails after the work is done.
func (v *VCenter) LoseAnswer(method string, ref *types.ManagedObjectReference, times int) {
	v.rules.mu.Lock()
	defer v.rules.mu.Unlock()
	v.rules.lost = append(v.rules.lost, &callRule{method: method, ref: ref, times: times})
}

// losesAnswer tells whether the answer to this call is to be lost.
func (r *rules) losesAnswer(call soapCall) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rule := range r.lost {
		if rule.times != 0 && rule.method == call.method && (rule.ref == nil || *rule.ref == call.this) {
			rule.times = spend(rule.times)
			return true
		}
	}
	return false
}

// ClearRules withdraws all of FailCall, FailTaskOf, FailREST, FailTask, LoseAnswer and Hook.
func (v *VCenter) ClearRules() {
	v.rules.mu.Lock()
	v.rules.calls, v.rules.rest, v.rules.lost, v.rules.hooks = nil, nil, nil, nil
	v.rules.mu.Unlock()
	v.machines.clearFaults()
}

func sameRef(a, b *types.ManagedObjectReference) bool {
	return a == b || (a != nil && b != nil && *a == *b)
}

func (r *rules) fault(method string, ref types.ManagedObjectReference) types.BaseMethodFault {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rule := range r.calls {
		if rule.times != 0 && rule.method == method && (rule.ref == nil || *rule.ref == ref) {
			rule.times = spend(rule.times)
			return rule.fault
		}
	}
	return nil
}

func (r *rules) restStatus(key string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rule := range r.rest {
		if rule.times != 0 && rule.key == key {
			rule.times = spend(rule.times)
			return rule.status
		}
	}
	return 0
}

// spend takes one of a number of times, of which a negative number is endless.
func spend(times int) int {
	if times > 0 {
		return times - 1
	}
	return times
}

func (r *rules) hooksOf(method string) []func(types.ManagedObjectReference) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.hooks[method])
}

func (r *rules) keepWait(key waitKey, w waiter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waits == nil {
		r.waits = map[waitKey]waiter{}
	}
	r.waits[key] = w
}

func (r *rules) cancelWait(key waitKey) {
	r.mu.Lock()
	w := r.waits[key]
	r.mu.Unlock()
	if w != nil {
		w.CancelWaitForUpdates(&types.CancelWaitForUpdates{This: key.collector})
	}
}

func (r *rules) forgetWait(key waitKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waits, key)
}

// intercept sees every decoded SOAP call before the simulator dispatches it: the simulator's Registry.Handler.
func (v *VCenter) intercept(ctx *simulator.Context, method *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	if ctx.Session == nil && method.Name != "Login" {
		return nil, nil // the simulator refuses it, or serves what needs no session
	}
	if ctx.Session != nil {
		v.sessions.use(ctx.Session)
	}
	object := objectOf(method)
	for _, hook := range v.rules.hooksOf(method.Name) {
		hook(object)
	}
	if fault := v.rules.fault(method.Name, object); fault != nil {
		return nil, fault
	}
	if object.Type == "VirtualMachine" {
		return nil, v.interceptVM(ctx, method, object)
	}
	return nil, v.interceptOther(ctx, method)
}

// interceptOther sees the calls that are not about a VM.
func (v *VCenter) interceptOther(ctx *simulator.Context, method *simulator.Method) types.BaseMethodFault {
	switch req := method.Body.(type) {
	case *types.SetField:
		if ctx.Map.Get(req.Entity) == nil {
			return &types.ManagedObjectNotFound{Obj: req.Entity}
		}
	case *types.HasUserPrivilegeOnEntities:
		v.serveWith(ctx, &authorization{Self: method.This, denied: v.rules.deniedNow()})
	case *types.RecommendDatastores:
		v.serveWith(ctx, &storageManager{Self: method.This, vcenter: v})
	case *types.RefreshDatastore, *types.RefreshDatastoreStorageInfo:
		v.serveWith(ctx, &datastoreView{Self: method.This})
	case *types.PowerOnMultiVM_Task:
		v.serveWith(ctx, &powerOnMany{Self: method.This, vcenter: v})
	case *types.RetrievePropertiesEx:
		v.hide(ctx, method.This)
	case *types.WaitForUpdatesEx, *types.WaitForUpdates:
		if w, ok := ctx.Session.Get(method.This).(waiter); ok {
			v.rules.keepWait(waitKey{ctx.Session.Key, method.This}, w)
		}
		if ex, ok := req.(*types.WaitForUpdatesEx); ok {
			v.readOnce(ctx, ex)
		}
	case *types.QueryEvents:
		if req.Filter.MaxCount == 0 {
			req.Filter.MaxCount = 1000 // the simulator's 10 would hide most of the answer
		}
		shallow(&req.Filter)
	case *types.CreateCollectorForEvents:
		shallow(&req.Filter)
		v.serveWith(ctx, &eventManager{Self: method.This, vcenter: v, registry: ctx.Session.Registry})
	case *types.ReadNextEvents, *types.PostEvent:
		v.recordEvents()
	}
	return nil
}

// objectOf is the object a call is about.
func objectOf(method *simulator.Method) types.ManagedObjectReference {
	if req, ok := method.Body.(*types.SetField); ok {
		return req.Entity
	}
	return method.This
}

// interceptVM sends the calls that the simulator only fakes to a machine instead, and refuses those on a VM that is
// gone (a hook may have removed it), on which the simulator would panic.
func (v *VCenter) interceptVM(ctx *simulator.Context, method *simulator.Method, ref types.ManagedObjectReference) types.BaseMethodFault {
	vm, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return &types.ManagedObjectNotFound{Obj: ref}
	}
	if method.Name == "SetField" {
		return v.valueFault(method)
	}
	if fault := v.twinFault(vm, method.Name); fault != nil {
		return fault
	}
	if v.machines.disabled(ref, method.Name) {
		return &types.MethodDisabled{Source: "simulation"}
	}
	if overridden[method.Name] {
		v.serveWith(ctx, &machine{Self: ref, vcenter: v, vm: vm})
		return nil
	}
	if slices.Contains(whileMoving, method.Name) {
		return v.machines.busy(ref, false)
	}
	return nil
}

// serveWith lets object serve this one request in place of the simulator's object of the same reference: the
// simulator prefers an object of the session's registry, and each request has a copy of its session.
func (v *VCenter) serveWith(ctx *simulator.Context, object mo.Reference) {
	registry := simulator.NewRegistry()
	registry.Put(object)
	ctx.Session.Registry = registry
}

// shallow lets a filter for all events below a cluster or datacenter match the events that name it: the same
// events, but without the simulator's walk over the inventory, which takes no locks.
func shallow(filter *types.EventFilterSpec) {
	e := filter.Entity
	if e != nil && (e.Entity.Type == "ClusterComputeResource" || e.Entity.Type == "Datacenter") {
		e.Recursion = types.EventFilterSpecRecursionOptionSelf
	}
}
