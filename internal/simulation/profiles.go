package simulation

import (
	"slices"
	"strings"
	"sync"

	pbmmethods "github.com/vmware/govmomi/pbm/methods"
	pbmsim "github.com/vmware/govmomi/pbm/simulator"
	pbmtypes "github.com/vmware/govmomi/pbm/types"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// profiles are the storage policies of VMs and disks, and which datastores meet them.
type profiles struct {
	mu     sync.Mutex                                // a leaf
	of     map[string]string                         // VM, or VM:disk → policy
	meet   map[string][]types.ManagedObjectReference // policy → datastores
	hidden bool
}

// startProfiles has the policy service answer from what SetStoragePolicy said.
func (v *VCenter) startProfiles() {
	v.profiles.of, v.profiles.meet = map[string]string{}, map[string][]types.ManagedObjectReference{}
	registry := pbmsim.New()
	for _, ref := range []types.ManagedObjectReference{{Type: "PbmProfileProfileManager", Value: "ProfileManager"}, {Type: "PbmPlacementSolver", Value: "placementSolver"}} {
		switch o := registry.Get(ref).(type) {
		case *pbmsim.ProfileManager:
			registry.Put(&profileManager{o, &v.profiles})
		case *pbmsim.PlacementSolver:
			registry.Put(&placementSolver{o, &v.profiles})
		}
	}
	v.service.RegisterSDK(registry)
}

// SetStoragePolicy gives a VM's home and all of its disks a storage policy, which only those datastores meet.
func (v *VCenter) SetStoragePolicy(vm types.ManagedObjectReference, policy string, meet ...types.ManagedObjectReference) {
	v.profiles.mu.Lock()
	defer v.profiles.mu.Unlock()
	v.profiles.of[vm.Value], v.profiles.meet[policy] = policy, meet
}

// HideStoragePolicies lets the account lack the privilege to see storage policies.
func (v *VCenter) HideStoragePolicies() {
	v.profiles.mu.Lock()
	defer v.profiles.mu.Unlock()
	v.profiles.hidden = true
}

type profileManager struct {
	*pbmsim.ProfileManager
	profiles *profiles
}

// PbmQueryAssociatedProfiles answers the policy of each VM and disk that has one.
func (m *profileManager) PbmQueryAssociatedProfiles(req *pbmtypes.PbmQueryAssociatedProfiles) soap.HasFault {
	m.profiles.mu.Lock()
	defer m.profiles.mu.Unlock()
	if m.profiles.hidden {
		return &pbmmethods.PbmQueryAssociatedProfilesBody{Fault_: simulator.Fault("", &types.NoPermission{PrivilegeId: "StorageProfile.View"})}
	}
	res := &pbmtypes.PbmQueryAssociatedProfilesResponse{}
	for _, entity := range req.Entities {
		one := pbmtypes.PbmQueryProfileResult{Object: entity}
		if id := m.profiles.of[vmOfKey(entity.Key)]; id != "" {
			one.ProfileId = []pbmtypes.PbmProfileId{{UniqueId: id}}
		}
		res.Returnval = append(res.Returnval, one)
	}
	return &pbmmethods.PbmQueryAssociatedProfilesBody{Res: res}
}

type placementSolver struct {
	*pbmsim.PlacementSolver
	profiles *profiles
}

// PbmCheckRequirements answers of each datastore whether it meets the policies.
func (s *placementSolver) PbmCheckRequirements(ctx *simulator.Context, req *pbmtypes.PbmCheckRequirements) soap.HasFault {
	res := s.PlacementSolver.PbmCheckRequirements(ctx, req)
	body, ok := res.(*pbmmethods.PbmCheckRequirementsBody)
	if !ok || body.Res == nil {
		return res
	}
	s.profiles.mu.Lock()
	defer s.profiles.mu.Unlock()
	for i := range body.Res.Returnval {
		hub := &body.Res.Returnval[i]
		for _, r := range req.PlacementSubjectRequirement {
			need, ok := r.(*pbmtypes.PbmPlacementCapabilityProfileRequirement)
			if !ok {
				continue
			}
			meet := s.profiles.meet[need.ProfileId.UniqueId]
			if !slices.Contains(meet, types.ManagedObjectReference{Type: hub.Hub.HubType, Value: hub.Hub.HubId}) {
				hub.Error = append(hub.Error, types.LocalizedMethodFault{Fault: &pbmtypes.PbmCompatibilityCheckFault{}, LocalizedMessage: "The datastore does not meet the policy."})
			}
		}
	}
	return body
}

// vmOfKey is the VM of a key that names it, or a disk of it.
func vmOfKey(key string) string {
	vm, _, _ := strings.Cut(key, ":")
	return vm
}
