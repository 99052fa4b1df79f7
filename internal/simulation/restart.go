package simulation

import (
	"maps"
	"slices"

	"github.com/vmware/govmomi/vim25/types"
)

// RestartLosingTasks is Restart of a vCenter that forgets its tasks: those under way never do their work and are no
// longer known. Relocations, which hosts do, go on.
func (v *VCenter) RestartLosingTasks() error {
	v.server.stop()
	ctx := v.context("")
	for _, ref := range v.machines.loseTasks() {
		ctx.Map.Remove(ctx, ref)
	}
	return v.Restart()
}

// beginTask notes a task that is under way.
func (m *machines) beginTask(ref types.ManagedObjectReference) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running == nil {
		m.running = map[types.ManagedObjectReference]bool{}
	}
	m.running[ref] = true
}

// endTask tells whether the task is to do its work: it was not lost.
func (m *machines) endTask(ref types.ManagedObjectReference) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.running[ref]
	delete(m.running, ref)
	return known
}

// loseTasks forgets what is under way and returns it; nothing is busy with it any more.
func (m *machines) loseTasks() []types.ManagedObjectReference {
	m.mu.Lock()
	defer m.mu.Unlock()
	lost := slices.Collect(maps.Keys(m.running))
	clear(m.running)
	for _, b := range m.byRef {
		b.powering = nil
	}
	return lost
}
