package vcenter

import (
	"slices"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// chosen are the VMs that a round on everything would take.
func chosen(t *testing.T, g *Gateway, protect policy.Protect) (going []vsphere.Ref, spared map[vsphere.Ref]policy.Spared) {
	t.Helper()
	snapshot, err := g.Candidates(t.Context(), "preemptible", Scope{Detail: true})
	check(t, err)
	p := policy.Default()
	p.Protect = protect
	plan := policy.Choose(snapshot, policy.Demand{Tag: "preemptible", Criticality: "HIGH"}, p)
	for _, target := range plan.Targets {
		going = append(going, target.Ref)
	}
	slices.SortFunc(going, byText)
	spared = map[vsphere.Ref]policy.Spared{}
	for _, s := range plan.Spared {
		spared[s.Ref] = s
	}
	return going, spared
}

func TestAFolderProtectsTheVMsOfItsVApps(t *testing.T) {
	v, g := warm(t, small())
	refs := taggedRefs(v)
	prod, err := v.CreateFolder(v.VMFolder(), "prod")
	check(t, err)
	web, err := v.CreateFolder(prod, "web")
	check(t, err)
	_, err = v.PutInVApp("shop", web, toMoRef(refs[0]), toMoRef(refs[1]))
	check(t, err)
	for name, folder := range map[string]string{"by name": "prod", "by path": "/datacenter/vm/prod", "the vApp's own folder": "web"} {
		t.Run(name, func(t *testing.T) {
			going, spared := chosen(t, g, policy.Protect{Folders: []string{folder}})
			if !slices.Equal(going, refs[2:]) {
				t.Errorf("%v go, want %v", going, refs[2:])
			}
			if s := spared[refs[0]]; s.Reason != policy.ExcludedFolder {
				t.Errorf("spared: %+v", s)
			}
		})
	}
	snapshot, err := g.RecheckDetail(t.Context(), "preemptible", refs, Scope{})
	check(t, err)
	vm := vmOf(t, snapshot, refs[0])
	if vm.FolderPath != "/datacenter/vm/prod/web" || !slices.Contains(vm.Ancestors, fromMoRef(prod)) {
		t.Errorf("folder %q, ancestors %v", vm.FolderPath, vm.Ancestors)
	}
}

func TestAFolderThatCannotBeSeenProtects(t *testing.T) {
	v, g := warm(t, small())
	refs := taggedRefs(v)
	prod, err := v.CreateFolder(v.VMFolder(), "prod")
	check(t, err)
	web, err := v.CreateFolder(prod, "web")
	check(t, err)
	check(t, v.MoveToFolder(web, toMoRef(refs[0])))
	_, err = v.PutInVApp("shop", web, toMoRef(refs[1]))
	check(t, err)
	v.HideObjects(prod)
	protect := policy.Protect{Folders: []string{"/datacenter/vm/prod"}}
	going, spared := chosen(t, g, protect)
	if !slices.Equal(going, refs[2:]) {
		t.Errorf("%v go, want %v", going, refs[2:])
	}
	for _, ref := range refs[:2] {
		if s := spared[ref]; s.Reason != policy.FolderUnseen || s.Detail == "" {
			t.Errorf("spared: %+v", s)
		}
	}
	if going, _ := chosen(t, g, policy.Protect{}); len(going) != 3 {
		t.Errorf("%v go, though no folder matters", going)
	}
	_, spared = chosen(t, g, policy.Protect{Folders: []string{"web"}})
	if s := spared[refs[0]]; s.Reason != policy.ExcludedFolder { // what is seen of the path counts
		t.Errorf("spared: %+v", s)
	}
}

func TestAResourcePoolThatCannotBeSeenProtects(t *testing.T) {
	v, g := warm(t, small())
	refs := taggedRefs(v)
	vapp, err := v.PutInVApp("shop", v.VMFolder(), toMoRef(refs[0]))
	check(t, err)
	v.HideObjects(vapp)
	going, spared := chosen(t, g, policy.Protect{ResourcePools: []string{"batch"}})
	if !slices.Equal(going, refs[1:]) || spared[refs[0]].Reason != policy.PoolUnseen {
		t.Errorf("%v go; spared: %+v", going, spared[refs[0]])
	}
}
