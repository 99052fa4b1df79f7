package simulation

import "maps"

// moves count the relocations under way, the most there were at once, and all that began.
type moves struct {
	bySource, byHost         map[string]int
	mostBySource, mostByHost map[string]int
	total, most, begun       int
}

func newMoves() moves {
	return moves{
		bySource: map[string]int{}, byHost: map[string]int{}, mostBySource: map[string]int{}, mostByHost: map[string]int{},
	}
}

func (m *moves) add(sources []string, host string, n int) {
	count := func(now, most map[string]int, key string) {
		now[key] += n
		most[key] = max(most[key], now[key])
	}
	for _, source := range sources {
		count(m.bySource, m.mostBySource, source)
	}
	count(m.byHost, m.mostByHost, host)
	m.total += n
	m.most = max(m.most, m.total)
	m.begun += max(0, n)
}

// MaxMoves is the most relocations that were under way at once: by datastore that files left, by host of the VM, in all.
func (v *VCenter) MaxMoves() (perSource, perHost map[string]int, total int) {
	v.storage.mu.Lock()
	defer v.storage.mu.Unlock()
	m := v.storage.moves
	return maps.Clone(m.mostBySource), maps.Clone(m.mostByHost), m.most
}

// Moving is how many relocations are under way.
func (v *VCenter) Moving() int {
	v.storage.mu.Lock()
	defer v.storage.mu.Unlock()
	return v.storage.moves.total
}

// Moves is how many relocations have begun. A call that vCenter refused began none, nor did one whose caller was gone before
// it was served.
func (v *VCenter) Moves() int {
	v.storage.mu.Lock()
	defer v.storage.mu.Unlock()
	return v.storage.moves.begun
}
