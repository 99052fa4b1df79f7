package vcenter

import (
	"context"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// object is one object of a retrieval: its properties by path.
type object struct {
	ref    vsphere.Ref
	props  map[string]any
	denied map[string]error // why a property is absent, if vCenter says so
}

// retrieve reads properties with one call, or a few when vCenter answers in pages. Objects that do not
// exist are left out; properties we may not read are absent.
func (g *Gateway) retrieve(ctx context.Context, c call, specs ...types.PropertyFilterSpec) ([]object, error) {
	return g.retrieveWith(ctx, c, func(*soapSession) ([]types.PropertyFilterSpec, error) { return specs, nil })
}

// retrieveWith is retrieve for specifications that depend on the session's service content.
func (g *Gateway) retrieveWith(ctx context.Context, c call, specify func(*soapSession) ([]types.PropertyFilterSpec, error)) ([]object, error) {
	var page *types.RetrieveResult
	err := g.soap(ctx, c, func(ctx context.Context, s *soapSession) error {
		specs, err := specify(s)
		if err != nil {
			return err
		}
		for i := range specs {
			specs[i].ReportMissingObjectsInResults = types.NewBool(true)
		}
		res, err := methods.RetrievePropertiesEx(ctx, s.client, &types.RetrievePropertiesEx{
			This:    s.client.ServiceContent.PropertyCollector,
			SpecSet: specs,
		})
		if err != nil {
			return err
		}
		page = res.Returnval
		return unauthenticated(page)
	})
	objects := appendObjects(nil, page)
	for err == nil && page != nil && page.Token != "" {
		token := page.Token
		err = g.soap(ctx, c, func(ctx context.Context, s *soapSession) error {
			res, err := methods.ContinueRetrievePropertiesEx(ctx, s.client, &types.ContinueRetrievePropertiesEx{
				This:  s.client.ServiceContent.PropertyCollector,
				Token: token,
			})
			if err != nil {
				return err
			}
			page = &res.Returnval
			return unauthenticated(page)
		})
		objects = appendObjects(objects, page)
	}
	if err != nil {
		return nil, err
	}
	return objects, nil
}

// unauthenticated finds an expired session, which shows only as a fault of every property.
func unauthenticated(page *types.RetrieveResult) error {
	if page == nil {
		return nil
	}
	for _, o := range page.Objects {
		for _, missing := range o.MissingSet {
			var f *types.NotAuthenticated
			if _, ok := fault.As(&missing.Fault, &f); ok {
				return soap.WrapVimFault(f)
			}
		}
	}
	return nil
}

func appendObjects(list []object, page *types.RetrieveResult) []object {
	if page == nil {
		return list
	}
	for _, o := range page.Objects {
		props := make(map[string]any, len(o.PropSet))
		for _, p := range o.PropSet {
			props[p.Name] = p.Val
		}
		list = append(list, object{ref: fromMoRef(o.Obj), props: props, denied: deniedOf(o.MissingSet)})
	}
	return list
}

func deniedOf(set []types.MissingProperty) map[string]error {
	if len(set) == 0 {
		return nil
	}
	denied := make(map[string]error, len(set))
	for _, missing := range set {
		denied[missing.Path] = task.Error{LocalizedMethodFault: &missing.Fault}
	}
	return denied
}

// The typed readers return the zero value for a property that is absent.

func (o object) text(path string) string {
	switch v := o.props[path].(type) {
	case string:
		return v
	case types.VirtualMachinePowerState:
		return string(v)
	case types.VirtualMachineConnectionState:
		return string(v)
	case types.HostSystemConnectionState:
		return string(v)
	case types.TaskInfoState:
		return string(v)
	case types.VirtualMachineFaultToleranceState:
		return string(v)
	}
	return ""
}

func (o object) flag(path string) bool {
	v, _ := o.props[path].(bool)
	return v
}

func (o object) number(path string) int64 {
	switch v := o.props[path].(type) {
	case int16:
		return int64(v)
	case int32:
		return int64(v)
	case int64:
		return v
	}
	return 0
}

func (o object) refTo(path string) vsphere.Ref {
	if v, ok := o.props[path].(types.ManagedObjectReference); ok {
		return fromMoRef(v)
	}
	return vsphere.Ref{}
}

func (o object) refs(path string) (list []vsphere.Ref) {
	v, _ := o.props[path].(types.ArrayOfManagedObjectReference)
	for _, ref := range v.ManagedObjectReference {
		list = append(list, fromMoRef(ref))
	}
	return list
}

func (o object) texts(path string) []string {
	switch v := o.props[path].(type) {
	case types.ArrayOfString:
		return v.String
	case *types.ArrayOfString:
		return v.String
	}
	return nil
}

func fromMoRef(r types.ManagedObjectReference) vsphere.Ref {
	return vsphere.Ref{Type: r.Type, Value: r.Value}
}

func toMoRef(r vsphere.Ref) types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: r.Type, Value: r.Value}
}
