package simulation

import (
	"slices"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Deny lets vCenter say that our user lacks these privileges, everywhere. It does so in words alone: no call is
// refused for them. Each call replaces what the one before denied.
func (v *VCenter) Deny(privileges ...string) {
	v.rules.mu.Lock()
	defer v.rules.mu.Unlock()
	v.rules.denied = slices.Clone(privileges)
}

func (r *rules) deniedNow() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.denied
}

// authorization answers who may do what.
type authorization struct {
	Self   types.ManagedObjectReference
	denied []string
}

// Reference implements mo.Reference.
func (a *authorization) Reference() types.ManagedObjectReference { return a.Self }

// HasUserPrivilegeOnEntities grants everything but what is denied.
func (a *authorization) HasUserPrivilegeOnEntities(req *types.HasUserPrivilegeOnEntities) soap.HasFault {
	res := &types.HasUserPrivilegeOnEntitiesResponse{}
	for _, e := range req.Entities {
		p := types.EntityPrivilege{Entity: e}
		for _, id := range req.PrivId {
			p.PrivAvailability = append(p.PrivAvailability, types.PrivilegeAvailability{PrivId: id, IsGranted: !slices.Contains(a.denied, id)})
		}
		res.Returnval = append(res.Returnval, p)
	}
	return &methods.HasUserPrivilegeOnEntitiesBody{Res: res}
}
