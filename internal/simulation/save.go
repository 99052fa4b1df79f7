package simulation

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Save writes the inventory into a new folder as 'govc object.save' does, over the API: Options.Inventory loads it.
func (v *VCenter) Save(ctx context.Context, dir string) error {
	objects, err := v.retrieveAll(ctx)
	if err != nil {
		return fmt.Errorf("save the simulated inventory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("save the simulated inventory: %w", err)
	}
	for i, o := range objects {
		o.MissingSet = nil
		if err := writeObject(filepath.Join(dir, fmt.Sprintf("%04d-%s.xml", i, o.Obj.Encode())), o); err != nil {
			return err
		}
	}
	return nil
}

// retrieveAll reads the service instance, the managers and all entities, with all that they have.
func (v *VCenter) retrieveAll(ctx context.Context) ([]types.ObjectContent, error) {
	u, err := soap.ParseURL(v.URL())
	if err != nil {
		return nil, err
	}
	c, err := vim25.NewClient(ctx, soap.NewClient(u, true))
	if err != nil {
		return nil, err
	}
	manager := session.NewManager(c)
	if err := manager.Login(ctx, url.UserPassword(v.Username(), v.Password())); err != nil {
		return nil, err
	}
	defer func() { _ = manager.Logout(ctx) }()
	pc := property.DefaultCollector(c)
	var all []types.ObjectContent
	if err := pc.RetrieveOne(ctx, vim25.ServiceInstance, []string{"content"}, &all); err != nil {
		return nil, err
	}
	entities, err := view.NewManager(c).CreateContainerView(ctx, c.ServiceContent.RootFolder, nil, true)
	if err != nil {
		return nil, err
	}
	defer func() { _ = entities.Destroy(ctx) }()
	below, err := entities.Find(ctx, nil, nil)
	if err != nil {
		return nil, err
	}
	for _, ref := range append(append(mo.References(c.ServiceContent), v.alarmRefs()...), below...) {
		var one []types.ObjectContent
		if err := pc.RetrieveOne(ctx, ref, nil, &one); err != nil {
			return nil, fmt.Errorf("read %s: %w", ref, err)
		}
		all = append(all, one...)
	}
	return all, nil
}

func (v *VCenter) alarmRefs() []types.ManagedObjectReference {
	v.mu.Lock()
	defer v.mu.Unlock()
	var refs []types.ManagedObjectReference
	for _, ref := range v.alarms {
		refs = append(refs, ref)
	}
	return refs
}
