package vcenter

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	pbmmethods "github.com/vmware/govmomi/pbm/methods"
	pbmtypes "github.com/vmware/govmomi/pbm/types"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// profilesAsked is for how many VMs and disks one call reads the storage policies.
const profilesAsked = 1000

// storagePolicies records the storage policies of the VMs and their disks, and which datastores vCenter finds
// compatible with each. If it may not read them, the VMs say why they are unknown. Two calls, one more for each policy
// and for each 1000 VMs and disks.
func (g *Gateway) storagePolicies(ctx context.Context, inv inventory, st *placement.Storage) error {
	if len(st.VMs) == 0 {
		return nil
	}
	var keys []string
	for _, vm := range st.VMs {
		keys = append(keys, profileKeys(inv[vm.Ref])...)
	}
	of, err := g.profilesOf(ctx, keys)
	if KindOf(err) == NoPermission {
		for i := range st.VMs {
			st.VMs[i].PolicyUnknown = "its storage policy cannot be seen: the service account needs the privilege StorageProfile.View"
		}
		return nil
	}
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for i := range st.VMs {
		vm := &st.VMs[i]
		for _, key := range profileKeys(inv[vm.Ref]) {
			if reason := of.unknown[key]; reason != "" {
				vm.PolicyUnknown = "its storage policy is unknown: " + reason
			}
			for _, id := range of.ids[key] {
				if used[id] = true; !slices.Contains(vm.Policies, id) {
					vm.Policies = append(vm.Policies, id)
				}
			}
		}
	}
	st.Compatible = map[string][]vsphere.Ref{}
	for id := range used {
		if st.Compatible[id], err = g.compatible(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// profileKeys names a VM, that is its home, and its disks as the policy service does.
func profileKeys(vm object) []string {
	keys := []string{vm.ref.Value}
	for _, device := range vm.devices() {
		if disk, ok := device.(*types.VirtualDisk); ok {
			keys = append(keys, diskKey(vm.ref, disk.Key))
		}
	}
	return keys
}

func diskKey(vm vsphere.Ref, disk int32) string { return fmt.Sprintf("%s:%d", vm.Value, disk) }

// profiles are the ids of the storage policies of VMs and disks, and of which they are unknown and why.
type profiles struct {
	ids     map[string][]string
	unknown map[string]string
}

func (g *Gateway) profilesOf(ctx context.Context, keys []string) (profiles, error) {
	of := profiles{ids: map[string][]string{}, unknown: map[string]string{}}
	for part := range slices.Chunk(keys, profilesAsked) {
		req := pbmtypes.PbmQueryAssociatedProfiles{}
		for _, key := range part {
			kind := pbmtypes.PbmObjectTypeVirtualMachine
			if strings.Contains(key, ":") {
				kind = pbmtypes.PbmObjectTypeVirtualDiskId
			}
			req.Entities = append(req.Entities, pbmtypes.PbmServerObjectRef{ObjectType: string(kind), Key: key})
		}
		var found []pbmtypes.PbmQueryProfileResult
		err := g.inPolicies(ctx, "read the storage policies of", func(ctx context.Context, c policyService) error {
			req.This = c.content.ProfileManager
			res, err := pbmmethods.PbmQueryAssociatedProfiles(ctx, c, &req)
			if err == nil {
				found = res.Returnval
			}
			return err
		})
		if err != nil {
			return of, err
		}
		for _, one := range found {
			for _, id := range one.ProfileId {
				of.ids[one.Object.Key] = append(of.ids[one.Object.Key], id.UniqueId)
			}
			if one.Fault != nil {
				of.unknown[one.Object.Key] = cmp.Or(one.Fault.LocalizedMessage, "vCenter does not say why")
			}
		}
	}
	return of, nil
}

// compatible asks vCenter which datastores meet a storage policy.
func (g *Gateway) compatible(ctx context.Context, id string) (refs []vsphere.Ref, err error) {
	err = g.inPolicies(ctx, "check datastores against a storage policy of", func(ctx context.Context, c policyService) error {
		res, err := pbmmethods.PbmCheckRequirements(ctx, c, &pbmtypes.PbmCheckRequirements{
			This: c.content.PlacementSolver,
			PlacementSubjectRequirement: []pbmtypes.BasePbmPlacementRequirement{
				&pbmtypes.PbmPlacementCapabilityProfileRequirement{ProfileId: pbmtypes.PbmProfileId{UniqueId: id}},
			},
		})
		if err != nil {
			return err
		}
		refs = nil
		for _, place := range res.Returnval {
			if place.Hub.HubType == vsphere.TypeDatastore && len(place.Error) == 0 {
				refs = append(refs, vsphere.Ref{Type: vsphere.TypeDatastore, Value: place.Hub.HubId})
			}
		}
		return nil
	})
	slices.SortFunc(refs, byText)
	return refs, err
}

// policyService is vCenter's service of storage policies. The client of govmomi links a megabyte that we do not use.
type policyService struct {
	soap.RoundTripper
	content pbmtypes.PbmServiceInstanceContent
}

// inPolicies makes calls of the policy service, which shares our SOAP session.
func (g *Gateway) inPolicies(ctx context.Context, op string, f func(context.Context, policyService) error) error {
	return g.soap(ctx, call{op: op, object: "VMs"}, func(ctx context.Context, s *soapSession) error {
		sc := s.client.NewServiceClient("/pbm", "pbm")
		sc.Client.Transport = g.transport
		sc.Cookie = s.client.SessionCookie
		c := policyService{RoundTripper: observed{sc, g}}
		res, err := pbmmethods.PbmRetrieveServiceContent(ctx, c, &pbmtypes.PbmRetrieveServiceContent{
			This: types.ManagedObjectReference{Type: "PbmServiceInstance", Value: "ServiceInstance"},
		})
		if err != nil {
			return err
		}
		c.content = res.Returnval
		return f(ctx, c)
	})
}

// keepPolicies makes a move keep the storage policies of the moved files. Otherwise vCenter may use its defaults.
func (g *Gateway) keepPolicies(ctx context.Context, vm object, spec *types.VirtualMachineRelocateSpec) error {
	of, err := g.profilesOf(ctx, profileKeys(vm))
	if err != nil {
		return err
	}
	of.keep(vm.ref.Value, spec.Datastore != nil, &spec.Profile)
	for i := range spec.Disk {
		of.keep(diskKey(vm.ref, spec.Disk[i].DiskId), true, &spec.Disk[i].Profile)
	}
	return nil
}

func (p profiles) keep(key string, moves bool, to *[]types.BaseVirtualMachineProfileSpec) {
	for _, id := range p.ids[key] {
		if moves {
			*to = append(*to, &types.VirtualMachineDefinedProfileSpec{ProfileId: id})
		}
	}
}
