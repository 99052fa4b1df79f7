package simulation

import (
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// hanging are the reconfigurations of a VM that hang.
type hanging struct {
	gate chan struct{}
	last chan struct{} // closed at the end of the last of them; nil: there is none. Guarded by machines.
}

// HangReconfigure lets the reconfigurations of the VM to come run without an end, as while a snapshot is consolidated,
// until release is called; they then do their work, in their order. Its power can be changed meanwhile.
func (v *VCenter) HangReconfigure(ref types.ManagedObjectReference) (release func()) {
	h := &hanging{gate: make(chan struct{})}
	v.machines.with(ref, func(b *behaviour) { b.hung = h })
	return sync.OnceFunc(func() {
		close(h.gate)
		for ended, over := (chan struct{})(nil), false; !over; {
			v.machines.with(ref, func(b *behaviour) {
				if over = ended == h.last; over {
					b.hung = nil
				}
				ended = h.last
			})
			if !over {
				<-ended
			}
		}
	})
}

// hang is a reconfiguration's task that runs until the VM is released; nil: it does not hang.
func (m *machine) hang(ctx *simulator.Context, spec types.VirtualMachineConfigSpec) *types.ManagedObjectReference {
	if !m.vcenter.begin() {
		return nil
	}
	var h *hanging
	var before, end chan struct{}
	m.vcenter.machines.with(m.Self, func(b *behaviour) {
		if h = b.hung; h != nil {
			before, end = h.last, make(chan struct{})
			h.last = end
		}
	})
	if h == nil {
		m.vcenter.work.Done()
		return nil
	}
	v, task := m.vcenter, m.vcenter.newTask(ctx, m.vm.Entity(), "reconfigVm")
	user := ctx.Session.UserName
	go func() {
		defer v.work.Done()
		defer close(end)
		for _, first := range []chan struct{}{h.gate, before} {
			if first == nil {
				continue
			}
			select {
			case <-first:
			case <-v.done:
				return
			}
		}
		own := v.context(user)
		var fault types.BaseMethodFault
		own.WithLock(m.vm, func() {
			spec.ExtraConfig = m.knownKeys(spec.ExtraConfig)
			_, fault = m.apply(own, &spec)
		})
		v.finishTask(task, nil, fault)
	}()
	return &task.Self
}
