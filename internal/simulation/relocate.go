package simulation

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// moveSteps is in how many steps a relocation tells its progress.
const moveSteps = 4

const relocateTask = "relocateVm"

// SetRelocateTime sets how long each later relocation takes; 4 ms unless set.
func (v *VCenter) SetRelocateTime(d time.Duration) {
	v.storage.mu.Lock()
	defer v.storage.mu.Unlock()
	v.storage.relocation = d
}

// move is one relocation.
type move struct {
	vm         types.ManagedObjectReference
	user       string
	home       types.ManagedObjectReference           // where the configuration goes
	disks      map[int32]types.ManagedObjectReference // where disks go, by key
	need       map[types.ManagedObjectReference]int64 // space taken meanwhile
	from       []types.ManagedObjectReference         // what it leaves
	sources    []string
	host       types.ManagedObjectReference // of the VM at the beginning
	hostName   string
	toHost     types.ManagedObjectReference // zero: the same
	pool       *types.ManagedObjectReference
	takes      time.Duration
	sourceHost types.HostEventArgument
	event      types.VmEvent
}

// stores are the datastores whose use the move changes.
func (m *move) stores() []types.ManagedObjectReference {
	return append(slices.Collect(maps.Keys(m.need)), m.from...)
}

func (m *move) finalHost() types.ManagedObjectReference {
	if m.toHost.Value != "" {
		return m.toHost
	}
	return m.host
}

// RelocateVMTask serves RelocateVM_Task within this vCenter. While it copies, the space is taken on both sides and the
// VM is busy; then paths, lists and statistics say that the files are elsewhere. What vCenter refuses ends the task in
// vCenter's fault; an object that does not exist is refused at once.
func (m *machine) RelocateVMTask(ctx *simulator.Context, req *types.RelocateVM_Task) soap.HasFault {
	body := &methods.RelocateVM_TaskBody{}
	if fault := unknown(ctx, &req.Spec); fault != nil {
		body.Fault_ = simulator.Fault("The object has already been deleted or has not been completely created", fault)
		return body
	}
	v := m.vcenter
	task := v.newTask(ctx, m.vm.Entity(), relocateTask)
	body.Res = &types.RelocateVM_TaskResponse{Returnval: task.Self}
	mv, fault := m.plan(ctx, &req.Spec)
	if fault != nil {
		v.run(task, 0, func() (types.AnyType, types.BaseMethodFault) { return nil, fault })
		return body
	}
	v.machines.with(m.Self, func(b *behaviour) { b.moving = &task.Self })
	v.showDisabled(ctx, m.vm)
	v.post(ctx, &types.VmBeingRelocatedEvent{
		VmRelocateSpecEvent: types.VmRelocateSpecEvent{VmEvent: mv.event},
		DestHost:            *hostArgument(ctx, mv.finalHost()),
		DestDatacenter:      v.datacenterArgument(ctx), DestDatastore: datastoreArgument(ctx, mv.home),
	})
	if v.begin() {
		go func() {
			defer v.work.Done()
			v.carryOut(task, mv)
		}()
	}
	return body
}

// unknown is the fault of a spec that names what does not exist.
func unknown(ctx *simulator.Context, spec *types.VirtualMachineRelocateSpec) types.BaseMethodFault {
	refs := []*types.ManagedObjectReference{spec.Datastore, spec.Host, spec.Pool}
	kinds := []string{"Datastore", "HostSystem", "ResourcePool"}
	for i := range spec.Disk {
		refs, kinds = append(refs, &spec.Disk[i].Datastore), append(kinds, "Datastore")
	}
	for i, ref := range refs {
		if ref != nil && (ref.Type != kinds[i] || ctx.Map.Get(*ref) == nil) {
			return &types.ManagedObjectNotFound{Obj: *ref}
		}
	}
	return nil
}

// plan says what goes where, and takes the space; the caller holds the VM's lock.
func (m *machine) plan(ctx *simulator.Context, spec *types.VirtualMachineRelocateSpec) (*move, types.BaseMethodFault) {
	v := m.vcenter
	if fault := v.machines.busy(m.Self, true); fault != nil {
		return nil, fault
	}
	if spec.Service != nil || spec.Folder != nil || len(spec.DeviceChange) != 0 || m.vm.Config.FtInfo != nil || m.vm.Runtime.Host == nil {
		return nil, &types.NotSupported{}
	}
	mv, fault := m.newMove(ctx, spec)
	if fault != nil {
		return nil, fault
	}
	s := &v.storage
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.filesOf(m.vm)
	if fault := mv.assign(f, spec); fault != nil {
		return nil, fault
	}
	if fault := s.refuse(mv, f, m.vm.Runtime.PowerState); fault != nil {
		return nil, fault
	}
	for ref, bytes := range mv.need {
		s.stores[ref].arriving += bytes
	}
	for _, ref := range mv.from {
		mv.sources = append(mv.sources, s.stores[ref].name)
	}
	s.moves.add(mv.sources, mv.hostName, 1)
	mv.takes = s.relocation
	return mv, nil
}

// newMove is the move of the VM, with the host that it goes to, if to another.
func (m *machine) newMove(ctx *simulator.Context, spec *types.VirtualMachineRelocateSpec) (*move, types.BaseMethodFault) {
	mv := &move{
		vm: m.Self, user: ctx.Session.UserName, host: *m.vm.Runtime.Host, pool: spec.Pool, event: m.vcenter.vmEvent(ctx, m.vm),
		disks: map[int32]types.ManagedObjectReference{}, need: map[types.ManagedObjectReference]int64{},
	}
	if mv.event.Host != nil {
		mv.sourceHost, mv.hostName = *mv.event.Host, mv.event.Host.Name
	}
	if spec.Host != nil && *spec.Host != mv.host {
		mv.toHost = *spec.Host
		if spec.Pool == nil && parentOf(ctx, mv.toHost) != parentOf(ctx, mv.host) {
			return nil, &types.InvalidArgument{InvalidProperty: "spec.pool"}
		}
	}
	return mv, nil
}

// assign gives the configuration and each disk its place: a disk's locator decides, else the spec's datastore.
func (mv *move) assign(f *files, spec *types.VirtualMachineRelocateSpec) types.BaseMethodFault {
	mv.home = f.home
	leave := func(ref, to types.ManagedObjectReference, bytes int64) {
		if ref == to {
			return
		}
		mv.need[to] += bytes
		if !slices.Contains(mv.from, ref) {
			mv.from = append(mv.from, ref)
		}
	}
	if spec.Datastore != nil {
		mv.home = *spec.Datastore
		leave(f.home, mv.home, f.homeBytes)
	}
	located := map[int32]types.ManagedObjectReference{}
	for _, l := range spec.Disk {
		located[l.DiskId] = l.Datastore
	}
	for _, d := range f.disks {
		to, ok := located[d.key]
		delete(located, d.key)
		switch {
		case ok:
		case spec.Datastore != nil:
			to = *spec.Datastore
		default:
			to = d.datastore
		}
		mv.disks[d.key] = to
		leave(d.datastore, to, d.moved())
	}
	if len(located) != 0 {
		return &types.InvalidArgument{InvalidProperty: "spec.disk"}
	}
	return nil
}

// refuse is why vCenter does not make the move; the caller holds the lock.
func (s *storage) refuse(mv *move, f *files, state types.VirtualMachinePowerState) types.BaseMethodFault {
	if fault := s.mounted(mv, f); fault != nil {
		return fault
	}
	for _, ref := range mv.from {
		if from := s.stores[ref]; from == nil || from.inaccessible {
			return &types.CannotAccessFile{FileFault: types.FileFault{File: fmt.Sprintf("[%s] %s", s.name(ref), f.folder)}}
		}
	}
	for _, d := range f.disks {
		if d.shared && state == on && mv.disks[d.key] != d.datastore {
			return &types.MultiWriterNotSupported{DeviceNotSupported: types.DeviceNotSupported{Device: d.label}}
		}
	}
	for ref, bytes := range mv.need {
		if to := s.stores[ref]; bytes > to.free() {
			return noSpace(to, f)
		}
	}
	return nil
}

func (s *storage) name(ref types.ManagedObjectReference) string {
	if on := s.stores[ref]; on != nil {
		return on.name
	}
	return ref.Value
}

// mounted looks at where files go, and on another host also where they stay.
func (s *storage) mounted(mv *move, f *files) types.BaseMethodFault {
	refs := slices.Collect(maps.Keys(mv.need))
	if mv.toHost.Value != "" {
		refs = append(refs, mv.home)
		refs = slices.AppendSeq(refs, maps.Values(mv.disks))
	}
	for _, ref := range refs {
		to, arrives := s.stores[ref], slices.Contains(slices.Collect(maps.Keys(mv.need)), ref)
		switch {
		case to == nil || !to.hosts[mv.finalHost()]:
			return &types.InvalidDatastore{Datastore: &ref, Name: s.name(ref)}
		case arrives && !to.usable():
			return &types.InvalidDatastoreState{DatastoreName: to.name}
		}
	}
	return nil
}

// carryOut copies, and at the end lets the VM be elsewhere.
func (v *VCenter) carryOut(task *simulator.Task, mv *move) {
	v.publishStores(mv.stores())
	fault := v.hostRefuses(mv)
	for step := 1; step <= moveSteps && fault == nil; step++ {
		if !v.sleep(mv.takes / moveSteps) {
			return
		}
		if v.progress(task, 100*step/moveSteps) {
			fault = &types.RequestCanceled{}
		}
	}
	if fault == nil {
		fault = v.methodFault("RelocateVM_Task", mv.vm)
	}
	fault = v.arrive(mv, fault)
	v.publishStores(mv.stores())
	if fault == nil && mv.toHost.Value != "" {
		v.moveVM(mv.vm, mv.host, mv.toHost)
	}
	v.finishTask(task, nil, fault)
}

// hostRefuses is why the hosts do not carry the move out.
func (v *VCenter) hostRefuses(mv *move) (fault types.BaseMethodFault) {
	_ = v.withHost(mv.host, "look at the state", func(_ *simulator.Context, h *simulator.HostSystem) {
		if h.Runtime.ConnectionState != types.HostSystemConnectionStateConnected {
			fault = &types.HostNotConnected{}
		}
	})
	if fault == nil && mv.toHost.Value != "" && !v.takesVMs(mv.toHost) {
		fault = &types.InvalidHostState{Host: &mv.toHost}
	}
	return fault
}

// progress tells how far the task is, and whether somebody has cancelled it. It writes the info as a whole: for a
// change within it the simulator would read the rest without a lock.
func (v *VCenter) progress(task *simulator.Task, percent int) (cancelled bool) {
	ctx := v.context("")
	ctx.WithLock(task, func() {
		if cancelled = task.Info.State != types.TaskInfoStateRunning; !cancelled {
			info := task.Info
			info.Progress = int32(percent)
			ctx.Update(task, []types.PropertyChange{{Name: "info", Val: info}})
		}
	})
	return cancelled
}

// arrive ends the move: the files are where they were to go, or with a fault where they were.
func (v *VCenter) arrive(mv *move, fault types.BaseMethodFault) types.BaseMethodFault {
	ctx := v.context(mv.user)
	vm, ok := ctx.Map.Get(mv.vm).(*simulator.VirtualMachine)
	if !ok {
		return v.storage.settle(mv, &types.ManagedObjectNotFound{Obj: mv.vm})
	}
	ctx.WithLock(vm, func() {
		if fault = v.storage.settle(mv, fault); fault != nil {
			v.post(ctx, &types.VmRelocateFailedEvent{
				VmRelocateSpecEvent: types.VmRelocateSpecEvent{VmEvent: v.vmEvent(ctx, vm)},
				DestHost:            *hostArgument(ctx, mv.finalHost()), DestDatacenter: v.datacenterArgument(ctx),
				DestDatastore: datastoreArgument(ctx, mv.home),
				Reason:        types.LocalizedMethodFault{Fault: fault, LocalizedMessage: fmt.Sprintf("%T", fault)},
			})
		} else {
			v.publishFiles(ctx, vm)
			ctx.Update(vm, changed())
			if mv.pool != nil {
				ctx.Update(vm, []types.PropertyChange{{Name: "resourcePool", Val: *mv.pool}})
			}
			v.post(ctx, &types.VmRelocatedEvent{
				VmRelocateSpecEvent: types.VmRelocateSpecEvent{VmEvent: v.vmEvent(ctx, vm)},
				SourceHost:          mv.sourceHost, SourceDatacenter: mv.event.Datacenter, SourceDatastore: mv.event.Ds,
			})
		}
		v.machines.with(mv.vm, func(b *behaviour) { b.moving = nil })
		v.showDisabled(ctx, vm)
	})
	return fault
}

// settle gives the space taken for the move to the VM, or back with a fault: the one given, or that of a destination
// that is not usable any more.
func (s *storage) settle(mv *move, fault types.BaseMethodFault) types.BaseMethodFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ref, bytes := range mv.need {
		to := s.stores[ref]
		to.arriving -= bytes
		if fault == nil && to.inaccessible {
			fault = &types.InvalidDatastoreState{DatastoreName: to.name}
		}
	}
	s.moves.add(mv.sources, mv.hostName, -1)
	f := s.files[mv.vm]
	if fault != nil || f == nil {
		return fault
	}
	s.account(mv.vm, f, -1)
	f.home = mv.home
	for _, d := range f.disks {
		to, moves := mv.disks[d.key]
		if !moves || to == d.datastore {
			continue
		}
		if d.linked {
			d.links[0] += min(baseBytes, d.capacity)
			d.linked = false
		}
		d.datastore = to
	}
	s.account(mv.vm, f, 1)
	return nil
}
