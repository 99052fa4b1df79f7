package vcenter

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Scope is the cluster or host to which a request is limited. The zero value is everything.
type Scope struct {
	Ref  vsphere.Ref
	Name string // must match too, unless empty
	// Detail asks for what most policies do not need: the tags of the three owners' categories, the paths,
	// the groups of the candidates, and the hosts (of a host's cluster; all without a Ref).
	Detail bool
	// Narrow leaves out the VMs outside the scope where more than so many carry the tag: it costs one call more, and what is
	// read no longer grows with the other clusters. 0: never.
	Narrow int
}

// vmProperties are the properties of a policy.VM. Each costs time with thousands of VMs.
var vmProperties = []string{
	"name", "parent", "parentVApp", "resourcePool", "disabledMethod",
	"config.template", "config.uuid", "config.instanceUuid", "config.changeVersion", "config.managedBy", limitProperty,
	"runtime.powerState", "runtime.connectionState", "runtime.host", "runtime.bootTime",
	"guest.toolsRunningStatus", "guest.hostName", "guest.ipAddress",
	"summary.quickStats.overallCpuUsage", "summary.quickStats.hostMemoryUsage", "summary.quickStats.uptimeSeconds",
}

// Candidates takes a snapshot of everything that carries the tag: one REST call for the objects, one
// SOAP call for their state, their ancestors and the existence of the scope. The snapshot is only
// narrowed to the scope as Scope.Narrow says; a scope this vCenter does not have is refused with kind ScopeNotFound. Details
// cost two REST calls more, the first beside that for the objects, and one more per 1000 owners' tags.
func (g *Gateway) Candidates(ctx context.Context, tag string, scope Scope) (vsphere.Snapshot, error) {
	const op = "list candidates with"
	refs, details, err := g.candidates(ctx, op, tag, scope.Detail)
	if err != nil {
		return vsphere.Snapshot{}, err
	}
	c := call{op: op, object: fmt.Sprintf("tag %q", tag)}
	vms, others := split(refs)
	vms, elsewhere, err := g.narrow(ctx, c, vms, scope)
	if err != nil {
		return vsphere.Snapshot{}, err
	}
	want := wanted{vms: vms, members: details.membersFor(vms), scope: scope.Ref, hosts: scope.Detail}
	inventory, err := g.inventory(ctx, c, want)
	if err != nil {
		return vsphere.Snapshot{}, err
	}
	name, err := inventory.check(scope)
	if err != nil {
		return vsphere.Snapshot{}, err
	}
	snapshot := vsphere.Snapshot{
		Time: time.Now().UTC(), Scope: scope.Ref, ScopeName: name,
		Others: others, Elsewhere: elsewhere, VCenterAddrs: g.Addresses(),
	}
	for _, ref := range vms {
		vm, ok := inventory.vm(ref)
		if !ok { // destroyed, but its tag association still exists
			snapshot.Others = append(snapshot.Others, ref)
			continue
		}
		vm.Tagged = true
		snapshot.VMs = append(snapshot.VMs, vm)
	}
	if scope.Detail {
		details.fill(&snapshot, inventory)
		snapshot.Hosts = inventory.hostsOf(scope.Ref)
		err = g.findWakeable(ctx, c, snapshot.Hosts)
	}
	return snapshot, err
}

// candidates lists the objects that carry the tag, with the owners' tags if requested.
func (g *Gateway) candidates(ctx context.Context, op, tag string, detail bool) ([]vsphere.Ref, details, error) {
	if detail {
		return g.tagDetails(ctx, op, tag)
	}
	refs, err := g.tagged(ctx, op, tag)
	return refs, nil, err
}

// Recheck reads tag membership and state of some VMs again, just before acting on them: one REST and one
// SOAP call, side by side. A VM absent from the result no longer exists.
func (g *Gateway) Recheck(ctx context.Context, tag string, refs []vsphere.Ref) (map[vsphere.Ref]vsphere.VM, error) {
	return g.state(ctx, "check again", tag, refs)
}

// State reads the state of some VMs: one SOAP call, and, unless the tag is empty, one REST call beside it
// for the VMs that carry it. A VM absent from the result does not exist.
func (g *Gateway) State(ctx context.Context, tag string, refs []vsphere.Ref) (map[vsphere.Ref]vsphere.VM, error) {
	return g.state(ctx, "read the state of", tag, refs)
}

func (g *Gateway) state(ctx context.Context, op, tag string, refs []vsphere.Ref) (map[vsphere.Ref]vsphere.VM, error) {
	if len(refs) == 0 {
		return map[vsphere.Ref]vsphere.VM{}, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		refs []vsphere.Ref
		err  error
	}
	membership := make(chan answer, 1)
	go func() {
		var a answer
		if tag != "" {
			a.refs, a.err = g.tagged(ctx, op, tag)
		}
		membership <- a
	}()
	inventory, err := g.inventory(ctx, call{op: op, object: g.describeAll(refs)}, wanted{vms: refs})
	if err != nil {
		return nil, err
	}
	carrying := <-membership
	if carrying.err != nil {
		return nil, carrying.err
	}
	vms := make(map[vsphere.Ref]vsphere.VM, len(refs))
	tagged := setOf(carrying.refs)
	for _, ref := range refs {
		if vm, ok := inventory.vm(ref); ok {
			vm.Tagged = tagged[ref]
			vms[ref] = vm
		}
	}
	return vms, nil
}

func split(refs []vsphere.Ref) (vms, others []vsphere.Ref) {
	for _, ref := range refs {
		if ref.Type == vsphere.TypeVM {
			vms = append(vms, ref)
		} else {
			others = append(others, ref)
		}
	}
	return vms, others
}

// describeAll names the objects of a bulk call, the first few of many.
func (g *Gateway) describeAll(refs []vsphere.Ref) string {
	const most = 3
	var list []string
	for _, ref := range refs[:min(len(refs), most)] {
		list = append(list, g.names.describe(ref))
	}
	if more := len(refs) - most; more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, ", ")
}

// inventory is the result of one retrieval: VMs, their ancestors, and the scope.
type inventory map[vsphere.Ref]object

// wanted is the content of an inventory.
type wanted struct {
	vms     []vsphere.Ref
	members []vsphere.Ref // other VMs, of which only the power state and whether they are templates
	scope   vsphere.Ref
	hosts   bool // those of the scope
}

// inventory retrieves the VMs and their ancestors, and the scope if there is one, in one call.
func (g *Gateway) inventory(ctx context.Context, c call, want wanted) (inventory, error) {
	if len(want.vms) == 0 && len(want.members) == 0 && want.scope.Zero() && !want.hosts {
		return nil, nil
	}
	var root vsphere.Ref
	objects, err := g.retrieveWith(ctx, c, func(s *soapSession) ([]types.PropertyFilterSpec, error) {
		root = fromMoRef(s.client.ServiceContent.RootFolder)
		return want.specs(s.client.ServiceContent.RootFolder), nil
	})
	if err != nil {
		return nil, err
	}
	found := make(inventory, len(objects)+1)
	found[root] = object{ref: root} // the end of every way up, whether or not we may see it
	for _, o := range objects {
		found[o.ref] = o
		if o.ref.Type == vsphere.TypeVM {
			g.names.learn(o.ref, o.text("name"))
		}
	}
	return found, nil
}

func (w wanted) specs(root types.ManagedObjectReference) []types.PropertyFilterSpec {
	spec := types.PropertyFilterSpec{PropSet: []types.PropertySpec{
		{Type: vsphere.TypeVM, PathSet: vmProperties},
		{Type: "ManagedEntity", PathSet: []string{"name", "parent"}},
		{Type: "VirtualApp", PathSet: []string{"name", "parent", "parentFolder"}},
	}}
	for _, ref := range w.vms {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: toMoRef(ref), SelectSet: upwards()})
	}
	var below []types.BaseSelectionSpec
	if w.hosts {
		spec.PropSet = append(spec.PropSet,
			types.PropertySpec{Type: vsphere.TypeHost, PathSet: append([]string{"recentTask"}, hostProperties...)},
			types.PropertySpec{Type: "Task", PathSet: []string{"info.state", "info.descriptionId"}})
		below = hosts(recentTasks(vsphere.TypeHost))
	}
	switch {
	case !w.scope.Zero():
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: toMoRef(w.scope), SelectSet: below})
	case w.hosts:
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: root, SelectSet: below})
	}
	specs := []types.PropertyFilterSpec{spec}
	if len(w.members) > 0 {
		members := types.PropertyFilterSpec{PropSet: []types.PropertySpec{
			{Type: vsphere.TypeVM, PathSet: []string{"runtime.powerState", "config.template"}},
		}}
		for _, ref := range w.members {
			members.ObjectSet = append(members.ObjectSet, types.ObjectSpec{Obj: toMoRef(ref)})
		}
		specs = append(specs, members)
	}
	if len(spec.ObjectSet) == 0 {
		return specs[1:]
	}
	return specs
}

// upwards traverses from a VM to its folders and data centre, its host and cluster, its pools and vApp.
func upwards() []types.BaseSelectionSpec {
	climb, appears := &types.SelectionSpec{Name: "up"}, &types.SelectionSpec{Name: "appears"}
	return []types.BaseSelectionSpec{
		&types.TraversalSpec{
			SelectionSpec: types.SelectionSpec{Name: "up"},
			Type:          "ManagedEntity", Path: "parent",
			SelectSet: []types.BaseSelectionSpec{climb, appears},
		},
		&types.TraversalSpec{
			SelectionSpec: types.SelectionSpec{Name: "appears"},
			Type:          "VirtualApp", Path: "parentFolder",
			SelectSet: []types.BaseSelectionSpec{climb},
		},
		&types.TraversalSpec{Type: vsphere.TypeVM, Path: "runtime.host", SelectSet: []types.BaseSelectionSpec{climb}},
		&types.TraversalSpec{Type: vsphere.TypeVM, Path: "resourcePool", SelectSet: []types.BaseSelectionSpec{climb, appears}},
		&types.TraversalSpec{Type: vsphere.TypeVM, Path: "parentVApp", SelectSet: []types.BaseSelectionSpec{climb, appears}},
	}
}

// check returns the name of the scope, or an error when it is not in this vCenter.
func (inv inventory) check(scope Scope) (name string, err error) {
	if scope.Ref.Zero() && scope.Name == "" {
		return "", nil
	}
	fail := func(format string, args ...any) (string, error) {
		return "", &Error{
			Op: "find scope", Object: strings.TrimSpace(scope.Ref.String() + " " + scope.Name), Kind: ScopeNotFound,
			Err:    fmt.Errorf(format, args...),
			Remedy: "the event or request comes from another vCenter, or the object was removed; nothing is preempted elsewhere instead",
		}
	}
	if scope.Ref.Zero() {
		return fail("a scope needs its managed object reference, not only a name")
	}
	o, ok := inv[scope.Ref]
	if !ok {
		return fail("this vCenter has no such object")
	}
	name = o.text("name")
	if scope.Name != "" && unescape(scope.Name) != unescape(name) {
		return fail("the object of this reference is called %q here", name)
	}
	return name, nil
}

// unescape undoes vSphere's writing of / \ and % in names.
func unescape(name string) string {
	if plain, err := url.PathUnescape(name); err == nil {
		return plain
	}
	return name
}

const toolsStatus = "guest.toolsRunningStatus"

// toolsStarting reports whether the guest's tools are starting.
func (o object) toolsStarting() bool {
	return o.text(toolsStatus) == string(types.VirtualMachineToolsRunningStatusGuestToolsExecutingScripts)
}

// vm makes a policy.VM of the retrieved properties; ok is false if the VM does not exist.
func (inv inventory) vm(ref vsphere.Ref) (vm vsphere.VM, ok bool) {
	o, ok := inv[ref]
	if !ok || ref.Type != vsphere.TypeVM {
		return vsphere.VM{}, false
	}
	vm = vsphere.VM{
		Ref:             ref,
		Name:            unescape(o.text("name")),
		PowerState:      o.text("runtime.powerState"),
		Template:        o.flag("config.template"),
		Connected:       o.text("runtime.connectionState") == string(types.VirtualMachineConnectionStateConnected),
		ToolsRunning:    o.toolsStarting() || o.text(toolsStatus) == string(types.VirtualMachineToolsRunningStatusGuestToolsRunning),
		ToolsStarting:   o.toolsStarting(),
		BIOSUUID:        o.text("config.uuid"),
		InstanceUUID:    o.text("config.instanceUuid"),
		ChangeVersion:   o.text("config.changeVersion"),
		Host:            o.refTo("runtime.host"),
		DisabledMethods: o.texts("disabledMethod"),
		CPUMHz:          o.number("summary.quickStats.overallCpuUsage"),
		MemoryMB:        o.number("summary.quickStats.hostMemoryUsage"),
		UptimeSeconds:   o.number("summary.quickStats.uptimeSeconds"),
		CPULimitMHz:     max(0, o.number(limitProperty)),
	}
	if managed, ok := o.props["config.managedBy"].(types.ManagedByInfo); ok {
		vm.ManagedBy, vm.ManagedType = managed.ExtensionKey, managed.Type
	}
	if boot, ok := o.props["runtime.bootTime"].(time.Time); ok {
		vm.BootTime = boot.UTC()
	}
	for _, addr := range []string{o.text("guest.hostName"), o.text("guest.ipAddress")} {
		if addr != "" {
			vm.GuestAddrs = append(vm.GuestAddrs, addr)
		}
	}
	if host, ok := inv[vm.Host]; ok {
		vm.Cluster = host.refTo("parent")
	}
	vm.Ancestors = inv.ancestors(o, vm.Host)
	return vm, true
}

// ancestors lists the objects above a VM: folders up to the root, then host and cluster, then pools.
func (inv inventory) ancestors(vm object, host vsphere.Ref) []vsphere.Ref {
	var list []vsphere.Ref
	seen := make(map[vsphere.Ref]bool)
	folder, _ := inv.placed(vm.ref)
	for _, start := range []vsphere.Ref{folder, host, vm.refTo("resourcePool"), vm.refTo("parentVApp")} {
		for ref := start; !ref.Zero() && !seen[ref]; ref = inv[ref].refTo("parent") {
			seen[ref] = true
			list = append(list, ref)
		}
	}
	return list
}

var errNotVM = errors.New("not a virtual machine")
