package simulation

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// SetValueLimit refuses values of custom attributes that are longer; 0 takes any.
func (v *VCenter) SetValueLimit(characters int) { v.valueLimit.Store(int64(characters)) }

// valueFault is why a value is refused, nil if it is not.
func (v *VCenter) valueFault(method *simulator.Method) types.BaseMethodFault {
	limit := v.valueLimit.Load()
	if req, ok := method.Body.(*types.SetField); ok && limit > 0 && int64(len(req.Value)) > limit {
		return &types.InvalidArgument{InvalidProperty: "value"}
	}
	return nil
}
