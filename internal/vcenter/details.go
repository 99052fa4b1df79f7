package vcenter

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// hostProperties are what a policy.Host is made of.
var hostProperties = []string{
	"name", "parent", "runtime.connectionState", "runtime.standbyMode", "runtime.inMaintenanceMode",
	"summary.hardware.cpuMhz", "summary.hardware.numCpuCores", "summary.hardware.memorySize",
	"summary.quickStats.overallCpuUsage", "summary.quickStats.overallMemoryUsage",
}

// RecheckDetail is Recheck with what policy.RecheckAll needs: a snapshot of those VMs with their tags and
// paths and their groups as they are now; without hosts. A scope that is gone is refused as by Candidates.
// Three REST calls, two side by side, then one SOAP call; one more REST call per 1000 tags of owners.
func (g *Gateway) RecheckDetail(ctx context.Context, tag string, refs []policy.Ref, scope Scope) (policy.Snapshot, error) {
	const op = "check again"
	carrying, details, err := g.tagDetails(ctx, op, tag)
	if err != nil {
		return policy.Snapshot{}, err
	}
	want := wanted{vms: unique(slices.Clone(refs)), members: details.membersFor(refs), scope: scope.Ref}
	inv, err := g.inventory(ctx, call{op: op, object: g.describeAll(refs)}, want)
	if err != nil {
		return policy.Snapshot{}, err
	}
	name, err := inv.check(scope)
	if err != nil {
		return policy.Snapshot{}, err
	}
	snapshot := policy.Snapshot{Time: time.Now().UTC(), Scope: scope.Ref, ScopeName: name, VCenterAddrs: g.Addresses()}
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

// ownerTag is a tag by which owners of VMs have a say, and the VMs that carry it.
type ownerTag struct {
	category, name string
	vms            []policy.Ref
}

// details are all such tags; nil where nobody asked.
type details []ownerTag

// tagDetails reads, side by side, who carries the tag and who carries which tag of the owners.
func (g *Gateway) tagDetails(ctx context.Context, op, tag string) (carrying []policy.Ref, d details, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		var err error
		d, err = g.ownerTags(ctx, op, ownerCategories)
		failed <- err
	}()
	carrying, err = g.tagged(ctx, op, tag)
	if err != nil {
		cancel()
		<-failed
		return nil, nil, err
	}
	return carrying, d, <-failed
}

// groups returns the VMs of the application groups that any of the VMs belongs to, by name.
func (d details) groups(of map[policy.Ref]bool) map[string][]policy.Ref {
	groups := make(map[string][]policy.Ref)
	for _, t := range d {
		if t.category == policy.CategoryGroup && slices.ContainsFunc(t.vms, func(ref policy.Ref) bool { return of[ref] }) {
			groups[t.name] = t.vms
		}
	}
	return groups
}

// membersFor lists who else is in the groups of the VMs.
func (d details) membersFor(vms []policy.Ref) (others []policy.Ref) {
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

// fill gives the VMs of the snapshot their tags and paths, and the snapshot its groups.
func (d details) fill(s *policy.Snapshot, inv inventory) {
	at := make(map[policy.Ref]int, len(s.VMs))
	of := make(map[policy.Ref]bool, len(s.VMs))
	for i := range s.VMs {
		vm := &s.VMs[i]
		at[vm.Ref], of[vm.Ref] = i, true
		vm.FolderPath, vm.PoolPath = inv.paths(vm.Ref)
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
			s.Groups = make(map[string]policy.Group)
		}
		s.Groups[name] = inv.group(members)
	}
}

// group counts the members that exist and are no templates.
func (inv inventory) group(members []policy.Ref) (group policy.Group) {
	for _, ref := range members {
		o, ok := inv[ref]
		if !ok || o.flag("config.template") {
			continue
		}
		group.Total++
		if o.text("runtime.powerState") == policy.PoweredOn {
			group.Up = append(group.Up, ref)
		}
	}
	return group
}

// ownerTags reads which VMs carry the tags of these categories, sorted by name: a call for the list of
// all tags, so that one made a moment ago counts, and one per 1000 tags in those categories.
func (g *Gateway) ownerTags(ctx context.Context, op string, categories []string) (details, error) {
	for again := false; ; again = true {
		ids, err := g.ownerTagIDs(ctx, categories)
		if err != nil {
			return nil, err
		}
		d, err := g.carriers(ctx, op, ids)
		if KindOf(err) != NotFound || again {
			return d, err
		} // one was deleted meanwhile
	}
}

// tagsAtOnce is how many tags one call asks about.
const tagsAtOnce = 1000

func (g *Gateway) carriers(ctx context.Context, op string, ids []string) (details, error) {
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
			t := ownerTag{category: category, name: g.tags.name(a.TagID)}
			for _, o := range a.ObjectIDs {
				if ref := fromMoRef(o.Reference()); ref.Type == policy.TypeVM {
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

// ownerCategories are the categories of which the policy knows.
var ownerCategories = []string{policy.CategoryPriority, policy.CategoryGroup, policy.CategoryProtect}

// ownerTagIDs lists the tags of these categories: one call, and one more for each tag and category of this
// vCenter that was not seen before. A category that does not exist has none.
func (g *Gateway) ownerTagIDs(ctx context.Context, categories []string) ([]string, error) {
	if err := enter(ctx, g.tags.turn); err != nil {
		return nil, interrupted(call{op: "read", object: "tags"}, err)
	}
	defer func() { <-g.tags.turn }()
	if err := g.refresh(ctx, func(id string) bool { return !g.tags.knows(id) }); err != nil {
		return nil, err
	}
	if err := g.readCategories(ctx, g.tags.unnamedCategories()); err != nil {
		return nil, err
	}
	ids := g.tags.inCategories(categories)
	for _, id := range ids {
		g.tags.use(id) // so that a new name of it is noticed
	}
	return ids, nil
}

// readCategories reads the names of categories, some at a time; those deleted meanwhile are left out.
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

// hosts traverses from a scope to its hosts, of a host to all of its cluster, and to their recent tasks.
func hosts() []types.BaseSelectionSpec {
	tasks := &types.TraversalSpec{Type: policy.TypeHost, Path: "recentTask"}
	compute := &types.TraversalSpec{Type: policy.TypeCompute, Path: "host", SelectSet: []types.BaseSelectionSpec{tasks}}
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
		&types.TraversalSpec{Type: policy.TypeHost, Path: "parent", SelectSet: []types.BaseSelectionSpec{compute}},
	}
}

// hostsOf lists the hosts below the scope, of a host those of its cluster; all without one.
func (inv inventory) hostsOf(scope policy.Ref) (list []policy.Host) {
	if scope.Type == policy.TypeHost {
		scope = inv[scope].refTo("parent")
	}
	for ref, o := range inv {
		if ref.Type == policy.TypeHost && (scope.Zero() || inv.below(o, scope)) {
			list = append(list, inv.host(o))
		}
	}
	slices.SortFunc(list, func(a, b policy.Host) int { return byText(a.Ref, b.Ref) })
	return list
}

// below tells whether one of the object's ancestors is this one.
func (inv inventory) below(o object, ancestor policy.Ref) bool {
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

// maxDepth bounds a climb in an inventory that changed while it was read, and may seem to have a cycle.
const maxDepth = 100

const bytesPerMB = 1 << 20

func (inv inventory) host(o object) policy.Host {
	standby := o.text("runtime.standbyMode")
	h := policy.Host{
		Ref:           o.ref,
		Name:          unescape(o.text("name")),
		Cluster:       o.refTo("parent"),
		Connected:     o.text("runtime.connectionState") == string(types.HostSystemConnectionStateConnected) && (standby == "" || standby == string(types.HostStandbyModeNone)),
		InMaintenance: o.flag("runtime.inMaintenanceMode"),
		CPUMHz:        o.number("summary.hardware.cpuMhz") * o.number("summary.hardware.numCpuCores"),
		MemoryMB:      o.number("summary.hardware.memorySize") / bytesPerMB,
		CPUUsedMHz:    o.number("summary.quickStats.overallCpuUsage"),
		MemoryUsedMB:  o.number("summary.quickStats.overallMemoryUsage"),
	}
	h.EnteringMaintenance = !h.InMaintenance && slices.ContainsFunc(o.refs("recentTask"), func(task policy.Ref) bool {
		t := inv[task]
		return t.text("info.state") == string(types.TaskInfoStateRunning) && t.text("info.descriptionId") == enterMaintenance
	})
	return h
}

// enterMaintenance is what vCenter calls the task of a host that is entering maintenance.
const enterMaintenance = "HostSystem.enterMaintenanceMode"

// paths are the inventory paths of the VM's folder and of its resource pool or vApp. A VM in a vApp has no
// folder of its own: the vApp's counts.
func (inv inventory) paths(ref policy.Ref) (folder, pool string) {
	vm := inv[ref]
	above, owner := vm.refTo("parent"), vm.refTo("resourcePool")
	if vapp := vm.refTo("parentVApp"); !vapp.Zero() {
		owner = vapp
		for depth := 0; above.Zero() && inv[vapp].ref == vapp && depth < maxDepth; depth++ {
			above, vapp = inv[vapp].refTo("parentFolder"), inv[vapp].refTo("parent")
		}
	}
	return inv.path(above), inv.path(owner)
}

// path writes the names from the root folder, which has none of its own there, down to the object.
func (inv inventory) path(ref policy.Ref) string {
	path := ""
	for depth := 0; depth < maxDepth; depth++ {
		o, ok := inv[ref]
		parent := o.refTo("parent")
		if !ok || parent.Zero() {
			break
		}
		path, ref = "/"+o.text("name")+path, parent
	}
	return path
}

func setOf(refs []policy.Ref) map[policy.Ref]bool {
	set := make(map[policy.Ref]bool, len(refs))
	for _, ref := range refs {
		set[ref] = true
	}
	return set
}

func byText(a, b policy.Ref) int { return strings.Compare(a.String(), b.String()) }
