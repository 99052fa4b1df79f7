package placement

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// compareRefs orders references by type, then by value.
func compareRefs(a, b vsphere.Ref) int {
	return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Value, b.Value))
}

// percentOf returns so many percent of n, rounded down.
func percentOf(n int64, percent int) int64 {
	p := int64(percent)
	return n/100*p + n%100*p/100
}

// points is how many percent of the capacity are used.
func points(used, capacity int64) float64 { return float64(used) * 100 / float64(capacity) }

// gb is an amount of space in words.
func gb(bytes int64) string { return fmt.Sprintf("%.1f GB", float64(bytes)/(1<<30)) }

// part is what a VM keeps on one datastore, in bytes.
type part struct {
	held              bool // a disk, or its configuration files
	used, provisioned int64
	policies          []string // storage policies of the VM
}

// partOn adds up what the VM keeps on the datastore.
func partOn(vm *StoredVM, ds vsphere.Ref) (p part) {
	for _, d := range vm.Disks {
		if d.Datastore == ds {
			p.held = true
			p.used += max(0, d.Used)
			p.provisioned += max(0, d.Used, d.Provisioned)
		}
	}
	if vm.Home == ds {
		p.held = true
		p.used += max(0, vm.Other)
		p.provisioned += max(0, vm.Other)
	}
	p.policies = vm.Policies
	return p
}

// store is a datastore with what is on its way to it. What is on its way from it still takes its space, except in
// used.
type store struct {
	*Datastore
	now         int64 // bytes used
	used        int64 // bytes used when all flights are done
	taken       int64 // bytes used, with flights to it and moves chosen
	provisioned int64 // bytes, likewise
	mounts      map[vsphere.Ref]bool
}

// choice is what moves are chosen from. Stores are in the order of their references.
type choice struct {
	st     *Storage
	s      Move
	stores []store
	source *store
	mounts map[[2]vsphere.Ref][]bool // of each store, whether a host and all of its cluster have it
}

// newChoice counts the flights; those of the VM except do not count.
func newChoice(st *Storage, d *Demand, s Move, except vsphere.Ref) *choice {
	c := &choice{st: st, s: s.WithDefaults(), mounts: map[[2]vsphere.Ref][]bool{}}
	for i := range st.Datastores {
		ds := &st.Datastores[i]
		now := max(0, ds.Capacity-ds.Free)
		one := store{Datastore: ds, now: now, used: now, taken: now, provisioned: max(ds.Provisioned, now), mounts: map[vsphere.Ref]bool{}}
		for _, host := range ds.Hosts {
			one.mounts[host] = true
		}
		c.stores = append(c.stores, one)
	}
	slices.SortFunc(c.stores, func(a, b store) int { return compareRefs(a.Ref, b.Ref) })
	for _, f := range d.Flights {
		if f.VM == except && !except.Zero() {
			continue
		}
		if to := c.store(f.Destination); to != nil {
			to.used += max(0, f.Used)
			to.taken += max(0, f.Used)
			to.provisioned += max(0, f.Used, f.Provisioned)
		}
		if from := c.store(f.Source); from != nil {
			from.used -= max(0, f.Used)
		}
	}
	for i := range c.stores {
		c.stores[i].used = max(0, c.stores[i].used)
	}
	return c
}

// store finds a datastore; nil if it is not known.
func (c *choice) store(ref vsphere.Ref) *store {
	at, ok := slices.BinarySearchFunc(c.stores, ref, func(s store, ref vsphere.Ref) int { return compareRefs(s.Ref, ref) })
	if !ok {
		return nil
	}
	return &c.stores[at]
}

// from sets the source, and tells in words why there is none to be had.
func (c *choice) from(ref vsphere.Ref) (problem string) {
	source := c.store(ref)
	switch {
	case source == nil:
		return fmt.Sprintf("the datastore %s is not known", ref)
	case source.Capacity <= 0:
		return fmt.Sprintf("the capacity of %s is not known", source.Name)
	}
	c.source = source
	return ""
}

// fullest is the datastore with the most percent used of those that hold something of the VM, of equals the first
// by reference; zero where none is known.
func (c *choice) fullest(vm *StoredVM) (ref vsphere.Ref) {
	most := -1.0
	for i := range c.stores {
		ds := &c.stores[i]
		if ds.Capacity > 0 && points(ds.used, ds.Capacity) > most && partOn(vm, ds.Ref).held {
			ref, most = ds.Ref, points(ds.used, ds.Capacity)
		}
	}
	return ref
}

// A miss is what keeps a datastore from being a destination. The later ones are nearer to being one.
type miss int

const (
	isSource miss = iota
	noAccess
	inMaintenance
	otherKind
	otherPolicy
	notMounted
	tooProvisioned
	noGain
	tooFull
	tooLittleFree
	fits
)

// judge tells whether the part of a VM may go to the datastore, with all that was chosen before.
func (c *choice) judge(at int, mounted []bool, p part) miss {
	ds := &c.stores[at]
	after := ds.taken + p.used
	switch {
	case ds.Ref == c.source.Ref:
		return isSource
	case !ds.Accessible || ds.Capacity <= 0:
		return noAccess
	case ds.Maintenance:
		return inMaintenance
	case ds.Kind != c.source.Kind:
		return otherKind
	case !c.meets(ds.Ref, p.policies):
		return otherPolicy
	case !mounted[at]:
		return notMounted
	case ds.provisioned+p.provisioned > percentOf(ds.Capacity, c.s.OverCommit):
		return tooProvisioned
	case points(after, ds.Capacity)+MinGain > points(c.source.now, c.source.Capacity):
		return noGain
	case after > percentOf(ds.Capacity, MaxUsage):
		return tooFull
	case ds.Capacity-after < MinFree:
		return tooLittleFree
	}
	return fits
}

// meets reports whether vCenter finds the datastore compatible with all of these storage policies.
func (c *choice) meets(ds vsphere.Ref, policies []string) bool {
	return !slices.ContainsFunc(policies, func(id string) bool { return !slices.Contains(c.st.Compatible[id], ds) })
}

// words says what a miss is.
func (c *choice) words(at int, m miss, p part) string {
	ds := &c.stores[at]
	after := ds.taken + p.used
	switch m {
	case isSource:
		return ds.Name + " is the source"
	case noAccess:
		return ds.Name + " is not accessible"
	case inMaintenance:
		return ds.Name + " is in maintenance"
	case otherKind:
		return fmt.Sprintf("%s is of kind %s, the source of %s", ds.Name, ds.Kind, c.source.Kind)
	case otherPolicy:
		return ds.Name + " does not meet its storage policy"
	case notMounted:
		return ds.Name + " is not mounted on its host and all hosts of its cluster"
	case tooProvisioned:
		return fmt.Sprintf("%s would be provisioned with %s of %s, at most %d %%", ds.Name, gb(ds.provisioned+p.provisioned), gb(ds.Capacity), c.s.OverCommit)
	case noGain:
		return fmt.Sprintf("%s would be %.1f %% used, which is not %d points less than the %.1f %% of %s",
			ds.Name, points(after, ds.Capacity), MinGain, points(c.source.now, c.source.Capacity), c.source.Name)
	case tooFull:
		return fmt.Sprintf("%s would be %.1f %% used, at most %d %%", ds.Name, points(after, ds.Capacity), MaxUsage)
	case tooLittleFree:
		return fmt.Sprintf("%s would have %s free, at least %s", ds.Name, gb(ds.Capacity-after), gb(MinFree))
	}
	return ""
}

// best returns the place of the destination with the most free space, of equals the first by reference; ok is
// false where there is none.
func (c *choice) best(vm *StoredVM, p part) (at int, ok bool) {
	mounted := c.mounted(vm)
	at = -1
	for i := range c.stores {
		if c.judge(i, mounted, p) == fits && (at < 0 || c.free(i) > c.free(at)) {
			at = i
		}
	}
	return at, at >= 0
}

// free is what is free when the flights to the datastore and the moves chosen are done.
func (c *choice) free(at int) int64 { return c.stores[at].Capacity - c.stores[at].taken }

// nearest says which datastore is nearest to being a destination, and what it lacks.
func (c *choice) nearest(vm *StoredVM, p part) string {
	mounted, at, most := c.mounted(vm), -1, isSource
	for i := range c.stores {
		m := c.judge(i, mounted, p)
		if m != isSource && (at < 0 || m > most || m == most && c.free(i) > c.free(at)) {
			at, most = i, m
		}
	}
	if at < 0 {
		return "there is no other datastore"
	}
	return c.words(at, most, p)
}

// mounted tells of each store whether the host of the VM and all usable hosts of its cluster have it.
func (c *choice) mounted(vm *StoredVM) []bool {
	cluster, ok := c.st.Hosts[vm.Host.String()]
	if !ok {
		cluster = vm.Cluster
	}
	key := [2]vsphere.Ref{vm.Host, cluster}
	if known, ok := c.mounts[key]; ok {
		return known
	}
	hosts := c.st.Clusters[cluster.String()]
	all := make([]bool, len(c.stores))
	for i := range c.stores {
		on := c.stores[i].mounts
		all[i] = on[vm.Host] && !slices.ContainsFunc(hosts, func(h vsphere.Ref) bool { return !on[h] })
	}
	c.mounts[key] = all
	return all
}

// take reserves the space of a move on its destination; give gives it back.
func (c *choice) take(at int, p part) {
	c.stores[at].taken += p.used
	c.stores[at].provisioned += p.provisioned
}

func (c *choice) give(at int, p part) {
	c.stores[at].taken -= p.used
	c.stores[at].provisioned -= p.provisioned
}

// relocation takes the destination, and describes the move to it.
func (c *choice) relocation(vm *StoredVM, at int, p part) Relocation {
	c.take(at, p)
	to := &c.stores[at]
	r := Relocation{
		VM: vm.Ref, Name: vm.Name, Host: vm.Host, Cluster: vm.Cluster,
		Source: c.source.Ref, SourceName: c.source.Name, Destination: to.Ref, DestinationName: to.Name,
		Used: p.used, Provisioned: p.provisioned,
	}
	for r.UsageAfter < 100 && percentOf(to.Capacity, r.UsageAfter) < to.taken {
		r.UsageAfter++
	}
	r.Why = fmt.Sprintf("frees %s of %s; %s will be %d %% used", gb(p.used), c.source.Name, to.Name, r.UsageAfter)
	if c.source.PodMode == PodAutomated {
		r.Pod = c.source.Pod
	}
	return r
}

// Destination describes the move of a VM to this datastore, or to the best one where to is zero, from the source
// of the demand, or where it names none from the fullest datastore that the VM is on. It returns a reason in words
// if the VM cannot move, or cannot move there. Flights of the VM itself do not count: they are this move.
func Destination(st Storage, vm StoredVM, to vsphere.Ref, d Demand, s Move) (r Relocation, reason string) {
	c := newChoice(&st, &d, s, vm.Ref)
	source := d.Source
	if source.Zero() {
		source = c.fullest(&vm)
	}
	if source.Zero() {
		return r, "none of the datastores that it is on is known"
	}
	if problem := c.from(source); problem != "" {
		return r, problem
	}
	p := partOn(&vm, source)
	if !p.held {
		return r, "it keeps nothing on " + c.source.Name
	}
	if stay, words := c.refusal(&vm, &d); stay != "" {
		return r, words
	}
	if to.Zero() {
		at, ok := c.best(&vm, p)
		if !ok {
			return r, "no datastore can take it: " + c.nearest(&vm, p)
		}
		return c.relocation(&vm, at, p), ""
	}
	for at := range c.stores {
		if c.stores[at].Ref == to {
			if m := c.judge(at, c.mounted(&vm), p); m != fits {
				return r, c.words(at, m, p)
			}
			return c.relocation(&vm, at, p), ""
		}
	}
	return r, fmt.Sprintf("the datastore %s is not known", to)
}
