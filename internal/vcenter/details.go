package vcenter

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// hostProperties are the properties of a policy.Host.
var hostProperties = []string{
	"name", "parent", "runtime.connectionState", "runtime.standbyMode", "runtime.inMaintenanceMode",
	"summary.hardware.cpuMhz", "summary.hardware.numCpuCores", "summary.hardware.memorySize",
	"summary.quickStats.overallCpuUsage", "summary.quickStats.overallMemoryUsage",
}

// RecheckDetail is Recheck with what policy.RecheckAll needs: a snapshot of those VMs with their tags and
// paths and their groups as they are now; without hosts. A scope that no longer exists is refused, as in Candidates.
// Three REST calls, two side by side, then one SOAP call; one more REST call per 1000 tags of owners.
func (g *Gateway) RecheckDetail(ctx context.Context, tag string, refs []vsphere.Ref, scope Scope) (vsphere.Snapshot, error) {
	const op = "check again"
	carrying, details, err := g.tagDetails(ctx, op, tag)
	if err != nil {
		return vsphere.Snapshot{}, err
	}
	want := wanted{vms: unique(slices.Clone(refs)), members: details.membersFor(refs), scope: scope.Ref}
	inv, err := g.inventory(ctx, call{op: op, object: g.describeAll(refs)}, want)
	if err != nil {
		return vsphere.Snapshot{}, err
	}
	name, err := inv.check(scope)
	if err != nil {
		return vsphere.Snapshot{}, err
	}
	snapshot := vsphere.Snapshot{Time: time.Now().UTC(), Scope: scope.Ref, ScopeName: name, VCenterAddrs: g.Addresses()}
	tagged := setOf(carrying)
	for _, ref := range want.vms {
		if vm, ok := inv.vm(ref); ok {
			vm.Tagged = tagged[ref]
			snapshot.VMs = append(snapshot.VMs, vm)
		}
	}
	details.fill(&snapshot, inv)
	return snapshot, nil
}

// ownerTag is an owners' tag, and the VMs that carry it.
type ownerTag struct {
	category, name string
	vms            []vsphere.Ref
}

// details are all such tags; nil if nobody asked.
type details []ownerTag

// tagDetails reads in parallel which objects carry the tag, and which VMs carry which owners' tags.
func (g *Gateway) tagDetails(ctx context.Context, op, tag string) (carrying []vsphere.Ref, d details, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		var err error
		d, err = g.ownersSay(ctx, op)
		failed <- err
	}()
	carrying, err = g.tagged(ctx, op, tag)
	if err != nil {
		cancel()
		<-failed
		return nil, nil, err
	}
	if err := <-failed; err != nil {
		return nil, nil, err
	}
	return carrying, d, nil
}

// ownersSay reads which VMs carry which owners' tags. It fails if one of the owners' categories cannot be seen.
func (g *Gateway) ownersSay(ctx context.Context, op string) (details, error) {
	d, err := g.ownerTags(ctx, op, ownerCategories)
	if err != nil || g.unseenCategories() == nil {
		return d, err
	}
	if err := g.CheckOwnerCategories(ctx); err != nil {
		return nil, err
	}
	return g.ownerTags(ctx, op, ownerCategories) // with those that have become visible
}

// groups returns the VMs of the application groups that any of the VMs belongs to, by name.
func (d details) groups(of map[vsphere.Ref]bool) map[string][]vsphere.Ref {
	groups := make(map[string][]vsphere.Ref)
	for _, t := range d {
		if t.category == policy.CategoryGroup && slices.ContainsFunc(t.vms, func(ref vsphere.Ref) bool { return of[ref] }) {
			groups[t.name] = t.vms
		}
	}
	return groups
}

// membersFor lists the other members of the VMs' groups.
func (d details) membersFor(vms []vsphere.Ref) (others []vsphere.Ref) {
	known := setOf(vms)
	for _, members := range d.groups(known) {
		for _, ref := range members {
			if !known[ref] {
				others = append(others, ref)
			}
		}
	}
	others = unique(others)
	slices.SortFunc(others, byText)
	return others
}

// fill adds tags and paths to the VMs of the snapshot, and the groups to the snapshot.
func (d details) fill(s *vsphere.Snapshot, inv inventory) {
	at := make(map[vsphere.Ref]int, len(s.VMs))
	of := make(map[vsphere.Ref]bool, len(s.VMs))
	for i := range s.VMs {
		vm := &s.VMs[i]
		at[vm.Ref], of[vm.Ref] = i, true
		inv.locate(vm)
	}
	for _, t := range d {
		for _, ref := range t.vms {
			if i, ok := at[ref]; ok {
				vm := &s.VMs[i]
				if vm.Tags == nil {
					vm.Tags = make(map[string][]string)
				}
				vm.Tags[t.category] = append(vm.Tags[t.category], t.name)
			}
		}
	}
	for name, members := range d.groups(of) {
		if s.Groups == nil {
			s.Groups = make(map[string]vsphere.Group)
		}
		s.Groups[name] = inv.group(members)
	}
}

// group counts the members that exist and are no templates.
func (inv inventory) group(members []vsphere.Ref) (group vsphere.Group) {
	for _, ref := range members {
		o, ok := inv[ref]
		if !ok || o.flag("config.template") {
			continue
		}
		group.Total++
		if o.text("runtime.powerState") == vsphere.PoweredOn {
			group.Up = append(group.Up, ref)
		}
	}
	return group
}

// ownerTags reads which VMs carry the tags of these categories, sorted by name: a call for the list of
// each category's tags, so that one that was created a moment ago counts, and one per 1000 tags in those categories.
func (g *Gateway) ownerTags(ctx context.Context, op string, categories []string) (details, error) {
	for again := false; ; again = true {
		ids, err := g.ownerTagIDs(ctx, categories, g.tags.unnamed)
		if err != nil {
			return nil, err
		}
		d, err := g.carriers(ctx, op, ids, categories)
		if KindOf(err) != NotFound || again {
			return d, err
		} // one was deleted in the meantime
	}
}

// tagsAtOnce is how many tags one call asks about.
const tagsAtOnce = 1000

func (g *Gateway) carriers(ctx context.Context, op string, ids, categories []string) (details, error) {
	var d details
	for some := range slices.Chunk(ids, tagsAtOnce) {
		var answer []tags.AttachedObjects
		c := call{op: op, object: "the tags of owners"}
		err := g.rest(ctx, c, func(ctx context.Context, c *rest.Client) (err error) {
			answer, err = tags.NewManager(c).ListAttachedObjectsOnTags(ctx, some)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, a := range answer {
			_, category := g.tags.category(a.TagID)
			category, _ = sameName(categories, category)
			t := ownerTag{category: category, name: g.tags.name(a.TagID)}
			for _, o := range a.ObjectIDs {
				if ref := fromMoRef(o.Reference()); ref.Type == vsphere.TypeVM {
					t.vms = append(t.vms, ref)
				}
			}
			slices.SortFunc(t.vms, byText)
			d = append(d, t)
		}
	}
	slices.SortFunc(d, func(a, b ownerTag) int { return strings.Compare(a.category+":"+a.name, b.category+":"+b.name) })
	return d, nil
}

// readCategories reads the names of categories, some at a time. Those deleted in the meantime are left out.
func (g *Gateway) readCategories(ctx context.Context, ids []string) error {
	return g.forEach(ctx, ids, func(ctx context.Context, id string) error {
		name, err := g.readCategory(ctx, id)
		if err == nil {
			g.tags.learnCategory(id, name)
		} else if KindOf(err) == NotFound {
			g.tags.forgetCategory(id)
			return nil
		}
		return err
	})
}

func (g *Gateway) readCategory(ctx context.Context, id string) (name string, err error) {
	err = g.rest(ctx, call{op: "read tag category", object: id}, func(ctx context.Context, c *rest.Client) error {
		var category tags.Category
		err := c.Do(ctx, c.Resource(categoryPath).WithID(id).Request(http.MethodGet), &category)
		name = category.Name
		return err
	})
	return name, err
}

const categoryPath = "/com/vmware/cis/tagging/category"

// hosts traverses from a scope to its hosts, from a host to all hosts of its cluster, and from there to what else is asked.
func hosts(further types.BaseSelectionSpec) []types.BaseSelectionSpec {
	compute := &types.TraversalSpec{Type: vsphere.TypeCompute, Path: "host", SelectSet: []types.BaseSelectionSpec{further}}
	down := &types.SelectionSpec{Name: "down"}
	return []types.BaseSelectionSpec{
		&types.TraversalSpec{
			SelectionSpec: types.SelectionSpec{Name: "down"},
			Type:          "Folder", Path: "childEntity",
			SelectSet: []types.BaseSelectionSpec{
				down, compute,
				&types.TraversalSpec{Type: "Datacenter", Path: "hostFolder", SelectSet: []types.BaseSelectionSpec{down}},
			},
		},
		&types.TraversalSpec{Type: "Datacenter", Path: "hostFolder", SelectSet: []types.BaseSelectionSpec{down}},
		compute,
		&types.TraversalSpec{Type: vsphere.TypeHost, Path: "parent", SelectSet: []types.BaseSelectionSpec{compute}},
	}
}

// ClusterOf returns the cluster that the host is in; zero if it stands alone. One call.
func (g *Gateway) ClusterOf(ctx context.Context, host vsphere.Ref) (vsphere.Ref, error) {
	c := call{op: "look for the cluster of", object: host.String()}
	objects, err := g.retrieve(ctx, c, types.PropertyFilterSpec{
		PropSet:   []types.PropertySpec{{Type: vsphere.TypeHost, PathSet: []string{"parent"}}},
		ObjectSet: []types.ObjectSpec{{Obj: toMoRef(host)}},
	})
	switch {
	case err != nil:
		return vsphere.Ref{}, err
	case len(objects) == 0 || objects[0].refTo("parent").Zero():
		return vsphere.Ref{}, &Error{Op: c.op, Object: c.object, Kind: NotFound, Err: errNoParent}
	}
	if parent := objects[0].refTo("parent"); parent.Type == vsphere.TypeCluster {
		return parent, nil
	}
	return vsphere.Ref{}, nil
}

var errNoParent = errors.New("this vCenter shows neither the host nor what it is in")

// hostsOf lists the hosts below the scope, for a host those of its cluster; without a scope all.
func (inv inventory) hostsOf(scope vsphere.Ref) (list []vsphere.Host) {
	if scope.Type == vsphere.TypeHost {
		scope = inv[scope].refTo("parent")
	}
	for ref, o := range inv {
		if ref.Type == vsphere.TypeHost && (scope.Zero() || inv.below(o, scope)) {
			list = append(list, inv.host(o))
		}
	}
	slices.SortFunc(list, func(a, b vsphere.Host) int { return byText(a.Ref, b.Ref) })
	return list
}

// below reports whether the object is below this ancestor.
func (inv inventory) below(o object, ancestor vsphere.Ref) bool {
	for depth := 0; depth < maxDepth; depth++ {
		parent := o.refTo("parent")
		if parent == ancestor {
			return true
		}
		var ok bool
		if o, ok = inv[parent]; !ok {
			return false
		}
	}
	return false
}

// maxDepth bounds the way up in an inventory that changed while it was read, and may seem to have a cycle.
const maxDepth = 100

const bytesPerMB = 1 << 20

func (inv inventory) host(o object) vsphere.Host {
	standby := o.text("runtime.standbyMode")
	h := vsphere.Host{
		Ref:           o.ref,
		Name:          unescape(o.text("name")),
		Cluster:       o.refTo("parent"),
		Connected:     o.text("runtime.connectionState") == string(types.HostSystemConnectionStateConnected) && (standby == "" || standby == string(types.HostStandbyModeNone)),
		InMaintenance: o.flag("runtime.inMaintenanceMode"),
		Standby:       standby == string(types.HostStandbyModeIn),
		CPUMHz:        o.number("summary.hardware.cpuMhz") * o.number("summary.hardware.numCpuCores"),
		MemoryMB:      o.number("summary.hardware.memorySize") / bytesPerMB,
		CPUUsedMHz:    o.number("summary.quickStats.overallCpuUsage"),
		MemoryUsedMB:  o.number("summary.quickStats.overallMemoryUsage"),
	}
	h.EnteringMaintenance = !h.InMaintenance && slices.ContainsFunc(o.refs("recentTask"), func(task vsphere.Ref) bool {
		t := inv[task]
		return t.text("info.state") == string(types.TaskInfoStateRunning) && t.text("info.descriptionId") == enterMaintenance
	})
	return h
}

// enterMaintenance is what vCenter calls the task of a host that is entering maintenance.
const enterMaintenance = "HostSystem.enterMaintenanceMode"

func setOf(refs []vsphere.Ref) map[vsphere.Ref]bool {
	set := make(map[vsphere.Ref]bool, len(refs))
	for _, ref := range refs {
		set[ref] = true
	}
	return set
}

func byText(a, b vsphere.Ref) int { return strings.Compare(a.String(), b.String()) }
