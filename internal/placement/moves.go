package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// The reasons for which a VM stays where it is, beside those of Decline. The values are stable.
const (
	stayOptedOut      = "opted_out"        // its tag of CategoryMode is off or recommend, or cannot be read
	stayExcluded      = "excluded"         // by the demand
	stayPending       = "pending_task"     // an operation, such as a move, is under way on it
	staySnapshots     = "snapshots"        // they would be moved, too
	stayLinkedClone   = "linked_clone"     // it would grow to a full one
	stayRaw           = "raw_mapping"      // of a LUN
	stayShared        = "shared_disk"      // with another VM
	stayIndependent   = "independent_disk" // of a mode that cannot be moved
	stayPolicy        = "unknown_policy"   // its storage policy cannot be seen
	stayMedia         = "media_on_source"  // a device of it holds an image on the source
	stayNoDestination = "no_destination"   // no datastore can take it
	stayNotNeeded     = "not_needed"       // enough is freed without it, or it frees nothing
)

// refusal returns why a VM cannot be moved off the source: the stable reason and words; "" if it can.
func (c *choice) refusal(vm *StoredVM, d *Demand) (stable, words string) {
	if stable, words = decline(vm.VM); stable != "" {
		return stable, words
	}
	if words = optedOut(vm.VM); words != "" {
		return stayOptedOut, words
	}
	if words, ok := d.Excluded[vm.Ref.String()]; ok {
		return stayExcluded, cmp.Or(words, "it is excluded")
	}
	disks := func(is func(Disk) bool) string {
		var labels []string
		for _, disk := range vm.Disks {
			if is(disk) {
				labels = append(labels, disk.Label)
			}
		}
		slices.Sort(labels)
		return strings.Join(labels, ", ")
	}
	has := func(is func(Disk) bool) bool { return slices.ContainsFunc(vm.Disks, is) }
	raw, shared, independent := func(d Disk) bool { return d.Raw }, func(d Disk) bool { return d.Shared }, func(d Disk) bool { return d.Independent }
	switch {
	case vm.Busy:
		return stayPending, "another operation is under way on it"
	case vm.Snapshots:
		return staySnapshots, "it has snapshots"
	case vm.LinkedClone:
		return stayLinkedClone, "it is a linked clone"
	case has(raw):
		return stayRaw, "raw device mapping: " + disks(raw)
	case has(shared):
		return stayShared, "shared with another VM: " + disks(shared)
	case has(independent):
		return stayIndependent, "independent: " + disks(independent)
	case vm.PolicyUnknown != "":
		return stayPolicy, vm.PolicyUnknown
	case slices.Contains(vm.MediaSources, c.source.Ref.Value):
		return stayMedia, "one of its devices is connected to an image on " + c.source.Name
	}
	return "", ""
}

// optedOut says in words that the owner of a VM does not want it to be moved; "" if nothing says so. A tag that
// cannot be read says so.
func optedOut(vm VM) string {
	if len(vm.Tags[CategoryMode]) == 0 {
		return ""
	}
	var r tagReader
	switch mode := r.mode(vm); mode {
	case "":
		return fmt.Sprintf("its tag %q of %s cannot be read: %s", r.bad[0].Tag, CategoryMode, r.bad[0].Reason)
	case ModeOff, ModeRecommend:
		return fmt.Sprintf("its tag of %s is %s", CategoryMode, mode)
	}
	return ""
}

// candidate is a VM that may be moved.
type candidate struct {
	vm *StoredVM
	part
	to     int  // place of its destination, if chosen
	chosen bool // it moves
	lost   bool // no datastore can take it any more; as more is chosen, none will
}

// maxExchanges is how many other VMs are tried in the stead of one.
const maxExchanges = 64

// ChooseMoves chooses which VMs leave the source for which datastores, so that few bytes are moved.
//
// For a datastore in alarm the smallest VM that alone suffices is moved. Where none does, the largest are taken
// one by one, until the smallest that suffices for the rest can be. Of what is freed too much, as much as
// possible is given back: each VM, the largest first, is exchanged for the smallest other that still suffices.
// Where all together do not suffice, all that some datastore can take are moved. For a VM that VM is moved, if it
// may be.
func ChooseMoves(st Storage, d Demand, s Move) Moves {
	c := newChoice(&st, &d, s, vsphere.Ref{})
	m := Moves{Moves: []Relocation{}, Stay: []Stay{}}
	source, problem := d.Source, ""
	if !d.VM.Zero() {
		source, problem = c.sourceOf(&d)
	}
	if problem == "" {
		problem = c.from(source)
	}
	if problem != "" {
		m.Source.Ref, m.Reason = source, problem
		return m
	}
	m.Source = Usage{Ref: c.source.Ref, Name: c.source.Name, Capacity: c.source.Capacity, Used: c.source.used, After: c.source.used}
	switch {
	case c.s.Mode == ModeRecommend:
		m.RecommendOnly = "the rule only recommends"
	case c.source.PodMode == PodManual:
		m.RecommendOnly = fmt.Sprintf("Storage DRS of the datastore cluster of %s works manually: it leaves moves to people", c.source.Name)
	}
	if d.VM.Zero() {
		c.relieve(&m, &d)
	} else {
		c.moveOne(&m, &d)
	}
	slices.SortFunc(m.Stay, func(a, b Stay) int { return compareRefs(a.VM, b.VM) })
	return m
}

// sourceOf is the datastore that the VM of the demand is to leave.
func (c *choice) sourceOf(d *Demand) (source vsphere.Ref, problem string) {
	at := slices.IndexFunc(c.st.VMs, func(vm StoredVM) bool { return vm.Ref == d.VM })
	if at < 0 {
		return d.Source, fmt.Sprintf("the VM %s is not known", d.VM)
	}
	if d.Source.Zero() {
		if source = c.fullest(&c.st.VMs[at]); source.Zero() {
			return source, fmt.Sprintf("none of the datastores that %s is on is known", c.st.VMs[at].Name)
		}
		return source, ""
	}
	return d.Source, ""
}

// candidates returns the VMs that may leave the source, the smallest first, and notes why others stay.
func (c *choice) candidates(m *Moves, d *Demand) (list []candidate) {
	flying := map[vsphere.Ref]bool{}
	for _, f := range d.Flights {
		flying[f.VM] = true
	}
	for i := range c.st.VMs {
		vm := &c.st.VMs[i]
		p := partOn(vm, c.source.Ref)
		if !p.held {
			continue
		}
		stable, words := c.refusal(vm, d)
		if stable == "" && flying[vm.Ref] {
			stable, words = stayPending, "a move of it is under way"
		}
		if stable != "" {
			m.stay(vm, stable, words)
			continue
		}
		list = append(list, candidate{vm: vm, part: p})
	}
	slices.SortFunc(list, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.used, b.used), compareRefs(a.vm.Ref, b.vm.Ref))
	})
	return list
}

func (m *Moves) stay(vm *StoredVM, stable, words string) {
	m.Stay = append(m.Stay, Stay{VM: vm.Ref, Name: vm.Name, Reason: stable, Detail: words})
}

// moveOne moves the VM of the demand.
func (c *choice) moveOne(m *Moves, d *Demand) {
	m.Reason = "it keeps nothing on " + c.source.Name
	for _, one := range c.candidates(m, d) {
		if one.vm.Ref != d.VM {
			m.stay(one.vm, stayNotNeeded, "another VM is asked for")
		} else if at, ok := c.best(one.vm, one.part); ok {
			m.Moves = append(m.Moves, c.relocation(one.vm, at, one.part))
			m.Source.After = max(0, m.Source.Used-one.used)
			m.Enough, m.Reason = true, ""
		} else {
			m.stay(one.vm, stayNoDestination, c.nearest(one.vm, one.part))
		}
	}
	for _, stay := range m.Stay {
		if stay.VM == d.VM {
			m.Reason = fmt.Sprintf("%s stays: %s", stay.Name, stay.Detail)
		}
	}
}

// relieve brings the source under its target.
func (c *choice) relieve(m *Moves, d *Demand) {
	m.Source.Target = c.s.TargetUsage - Margin
	list := c.candidates(m, d)
	movable := list[:0:0]
	for _, one := range list {
		if one.used == 0 {
			m.stay(one.vm, stayNotNeeded, "moving it frees nothing")
		} else if _, ok := c.best(one.vm, one.part); !ok {
			m.stay(one.vm, stayNoDestination, c.nearest(one.vm, one.part))
		} else {
			movable = append(movable, one)
		}
	}
	need := max(0, m.Source.Used-below(m.Source.Capacity, m.Source.Target))
	freed := c.choose(movable, need)
	if m.Enough = freed >= need; m.Enough {
		freed -= c.giveBack(movable, freed-need)
	}
	m.Source.After = max(0, m.Source.Used-freed)
	for _, one := range movable {
		if one.chosen {
			continue
		}
		if m.Enough {
			m.stay(one.vm, stayNotNeeded, "enough is freed without it")
		} else {
			m.stay(one.vm, stayNoDestination, "with the other moves "+c.nearest(one.vm, one.part))
		}
	}
	for _, one := range movable { // to be told with what each destination has after its turn
		if one.chosen {
			c.give(one.to, one.part)
		}
	}
	for _, one := range slices.Backward(movable) {
		if one.chosen {
			m.Moves = append(m.Moves, c.relocation(one.vm, one.to, one.part))
		}
	}
	switch {
	case need == 0:
		m.Reason = fmt.Sprintf("%s is %.1f %% used with what is under way, which is below %d %%", m.Source.Name, points(m.Source.Used, m.Source.Capacity), m.Source.Target)
	case m.Enough:
	case len(m.Moves) == 0:
		m.Reason = fmt.Sprintf("no VM on %s can be moved; to come below %d %%, %s must go", m.Source.Name, m.Source.Target, gb(need))
	default:
		m.Reason = fmt.Sprintf("the moves free %s; to come below %d %%, %s must go from %s", gb(freed), m.Source.Target, gb(need), m.Source.Name)
	}
}

// below returns the most bytes that are less than so many percent of the capacity.
func below(capacity int64, percent int) int64 {
	if capacity%100*int64(percent)%100 == 0 {
		return percentOf(capacity, percent) - 1
	}
	return percentOf(capacity, percent)
}

// choose marks what is moved, and returns what that frees: need or more, or all that can be.
func (c *choice) choose(list []candidate, need int64) (freed int64) {
	for freed < need {
		one := c.pick(list, need-freed)
		if one == nil {
			break
		}
		one.chosen = true
		c.take(one.to, one.part)
		freed += one.used
	}
	return freed
}

// pick returns the smallest VM that alone frees the rest, else the largest; nil if none is left that some
// datastore can take.
func (c *choice) pick(list []candidate, rest int64) *candidate {
	enough := atLeast(list, rest)
	for i := enough; i < len(list); i++ {
		if c.possible(&list[i]) {
			return &list[i]
		}
	}
	for i := enough - 1; i >= 0; i-- {
		if c.possible(&list[i]) {
			return &list[i]
		}
	}
	return nil
}

// atLeast returns where those begin that free at least this much.
func atLeast(list []candidate, used int64) int {
	at, _ := slices.BinarySearchFunc(list, used, func(one candidate, used int64) int { return cmp.Compare(one.used, used) })
	return at
}

// possible tells whether the VM can be chosen yet, and finds its destination.
func (c *choice) possible(one *candidate) (ok bool) {
	if one.chosen || one.lost {
		return false
	}
	one.to, ok = c.best(one.vm, one.part)
	one.lost = !ok
	return ok
}

// giveBack exchanges VMs that are chosen for smaller ones while too much is freed, and returns by how much less
// that is. No VM can be given back for nothing: each frees more than is too much.
func (c *choice) giveBack(list []candidate, excess int64) (less int64) {
	for i := len(list) - 1; i >= 0 && less < excess; i-- {
		was := &list[i]
		if !was.chosen {
			continue
		}
		c.give(was.to, was.part)
		first := atLeast(list, was.used-(excess-less))
		for j := first; j < min(atLeast(list, was.used), first+maxExchanges); j++ {
			if list[j].chosen {
				continue
			}
			if at, ok := c.best(list[j].vm, list[j].part); ok {
				less += was.used - list[j].used
				list[j].to, list[j].chosen, was.chosen = at, true, false
				was = &list[j]
				break
			}
		}
		c.take(was.to, was.part)
	}
	return less
}
