package ledger

import (
	"strconv"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"
)

// Packed is the compressed part of a large State that a ledger hands to its next run: Temporal accepts 2 MB.
type Packed struct {
	// Held are the reserved VMs of each owner, without the type that most have.
	Held map[string][]string `json:"held,omitempty"`
	// Loads are VM|host|CPU|memory.
	Loads []string `json:"loads,omitempty"`
	// Evicted are, for each of State.Evictions in its order, VM|Unix time in nanoseconds|host|CPU|memory.
	Evicted [][]string `json:"evicted,omitempty"`
}

// packFrom is the number of VMs from which a state is packed. A smaller state stays as it is.
const packFrom = 1000

const (
	usualVM   = "VirtualMachine:"
	usualHost = "HostSystem:"
)

// terse leaves out the usual type of a reference. Other types are kept.
func terse(ref, usual string) string { return strings.TrimPrefix(ref, usual) }

func full(ref, usual string) string {
	if ref == "" || strings.Contains(ref, ":") {
		return ref
	}
	return usual + ref
}

// pack returns the input of the next run.
func (s State) pack() (State, *Packed) {
	evicted := 0
	for _, round := range s.Evictions {
		evicted += len(round.Evicted)
	}
	if len(s.Reserved)+evicted <= packFrom {
		return s, nil
	}
	p := &Packed{Held: map[string][]string{}}
	for _, vm := range workflow.DeterministicKeys(s.Reserved) {
		owner := s.Reserved[vm]
		p.Held[owner] = append(p.Held[owner], terse(vm, usualVM))
	}
	for _, vm := range workflow.DeterministicKeys(s.Loads) {
		p.Loads = append(p.Loads, strings.Join(append([]string{terse(vm, usualVM)}, loadText(s.Loads[vm])...), "|"))
	}
	rounds := make([]RoundEvictions, 0, len(s.Evictions))
	for _, round := range s.Evictions {
		rounds = append(rounds, RoundEvictions{Owner: round.Owner, Scope: round.Scope, Evicted: []Evicted{}})
		lines := make([]string, 0, len(round.Evicted))
		for _, e := range round.Evicted {
			line := terse(e.VM, usualVM) + "|" + strconv.FormatInt(e.Time.UnixNano(), 36)
			if load := (Load{e.Host, e.CPUMHz, e.MemoryMB}); load != (Load{}) {
				line += "|" + strings.Join(loadText(load), "|")
			}
			lines = append(lines, line)
		}
		p.Evicted = append(p.Evicted, lines)
	}
	s.Reserved, s.Loads, s.Evictions = nil, nil, rounds
	return s, p
}

func loadText(l Load) []string {
	return []string{terse(l.Host, usualHost), strconv.FormatInt(l.CPUMHz, 10), strconv.FormatInt(l.MemoryMB, 10)}
}

// unpack returns the state that was packed.
func (s State) unpack(p *Packed) State {
	if p == nil {
		return s
	}
	s.Reserved = map[string]string{}
	for _, owner := range workflow.DeterministicKeys(p.Held) {
		for _, vm := range p.Held[owner] {
			s.Reserved[full(vm, usualVM)] = owner
		}
	}
	s.Loads = map[string]Load{}
	for _, line := range p.Loads {
		if f := strings.Split(line, "|"); len(f) == 4 {
			s.Loads[full(f[0], usualVM)] = loadOf(f[1:])
		}
	}
	for i := range min(len(s.Evictions), len(p.Evicted)) {
		for _, line := range p.Evicted[i] {
			s.Evictions[i].Evicted = append(s.Evictions[i].Evicted, evictedOf(strings.Split(line, "|")))
		}
	}
	return s
}

func evictedOf(f []string) (e Evicted) {
	e.VM = full(f[0], usualVM)
	if len(f) > 1 {
		e.Time = time.Unix(0, number(f[1], 36)).UTC()
	}
	if len(f) == 5 {
		l := loadOf(f[2:])
		e.Host, e.CPUMHz, e.MemoryMB = l.Host, l.CPUMHz, l.MemoryMB
	}
	return e
}

func loadOf(f []string) Load {
	return Load{Host: full(f[0], usualHost), CPUMHz: number(f[1], 10), MemoryMB: number(f[2], 10)}
}

// number reads what pack has written.
func number(text string, base int) int64 {
	n, _ := strconv.ParseInt(text, base, 64)
	return n
}
