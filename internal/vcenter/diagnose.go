package vcenter

import (
	"context"
	"errors"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Presented is the certificate that vCenter presented.
type Presented struct {
	Subject    string
	NotAfter   time.Time
	Thumbprint string // SHA-256
	Trust      string // how it was verified; "": not at all
}

// Presented returns the certificate that vCenter presented last; ok is false without TLS, and before the first answer.
func (g *Gateway) Presented() (c Presented, ok bool) {
	cert := g.transport.certificate()
	if cert == nil {
		return Presented{}, false
	}
	c = Presented{Subject: cert.Subject.String(), NotAfter: cert.NotAfter, Thumbprint: sha256Of(cert).String()}
	switch {
	case g.cfg.Insecure:
	case g.cfg.CAFile != "":
		c.Trust = "VCENTER_CA_FILE"
	case g.cfg.Thumbprint != "":
		c.Trust = "VCENTER_THUMBPRINT"
	default:
		c.Trust = "the system's authorities"
	}
	return c, true
}

// Encrypted reports whether the connection to vCenter uses TLS.
func (g *Gateway) Encrypted() bool { return g.url.Scheme == "https" }

// Named is an object and its name.
type Named struct {
	Ref  vsphere.Ref
	Name string
}

// String writes vm-12 (web-1).
func (n Named) String() string {
	if n.Name == "" {
		return n.Ref.Value
	}
	return n.Ref.Value + " (" + n.Name + ")"
}

// Alarms lists the alarms that this vCenter defines. Two calls.
func (g *Gateway) Alarms(ctx context.Context) ([]Named, error) {
	c := call{op: "list", object: "alarms"}
	var refs []types.ManagedObjectReference
	err := g.soap(ctx, c, func(ctx context.Context, s *soapSession) error {
		manager := s.client.ServiceContent.AlarmManager
		if manager == nil {
			return errors.New("this is an ESX host, not a vCenter: it has no alarms")
		}
		res, err := methods.GetAlarm(ctx, s.client, &types.GetAlarm{This: *manager})
		if err == nil {
			refs = res.Returnval
		}
		return err
	})
	if err != nil || len(refs) == 0 {
		return nil, err
	}
	return g.named(ctx, c, "Alarm", "info.name", refs)
}

// named reads the names of objects. Those that are gone are left out.
func (g *Gateway) named(ctx context.Context, c call, kind, path string, refs []types.ManagedObjectReference) ([]Named, error) {
	spec := types.PropertyFilterSpec{PropSet: []types.PropertySpec{{Type: kind, PathSet: []string{path}}}}
	for _, ref := range refs {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: ref})
	}
	objects, err := g.retrieve(ctx, c, spec)
	var list []Named
	for _, o := range objects {
		list = append(list, Named{o.ref, o.text(path)})
	}
	return list, err
}

// Datacenters lists the datacenters that our user sees. One call.
func (g *Gateway) Datacenters(ctx context.Context) ([]Named, error) {
	c := call{op: "list", object: "datacenters"}
	objects, err := g.retrieveWith(ctx, c, func(s *soapSession) ([]types.PropertyFilterSpec, error) {
		down := &types.TraversalSpec{
			SelectionSpec: types.SelectionSpec{Name: "down"}, Type: "Folder", Path: "childEntity",
			SelectSet: []types.BaseSelectionSpec{&types.SelectionSpec{Name: "down"}},
		}
		return []types.PropertyFilterSpec{{
			PropSet: []types.PropertySpec{{Type: "Datacenter", PathSet: []string{"name"}}},
			ObjectSet: []types.ObjectSpec{{
				Obj: s.client.ServiceContent.RootFolder, Skip: types.NewBool(true), SelectSet: []types.BaseSelectionSpec{down},
			}},
		}}, nil
	})
	var list []Named
	for _, o := range objects {
		if o.ref.Type == "Datacenter" {
			list = append(list, Named{o.ref, o.text("name")})
		}
	}
	return list, err
}

// Tag returns the category of the tag and the objects that carry it.
func (g *Gateway) Tag(ctx context.Context, name string) (category string, carriers []vsphere.Ref, err error) {
	const op = "look at"
	if carriers, err = g.tagged(ctx, op, name); err != nil {
		return "", nil, err
	}
	id, err := g.resolveTag(ctx, op, name)
	if err != nil {
		return "", nil, err
	}
	category, err = g.category(ctx, id)
	return category, carriers, err
}

// HasAttribute reports whether vCenter has the custom attribute for virtual machines. One call.
func (g *Gateway) HasAttribute(ctx context.Context, name string) (bool, error) {
	_, ok, err := g.readField(ctx, name)
	return ok, err
}

// Lack is a privilege that our user does not have on some of the objects asked about.
type Lack struct {
	Privilege string
	On        []Named
}

// Lacks returns which of the privileges our user lacks on which objects; without objects, on vCenter's root. One call,
// and one more if something is lacking.
func (g *Gateway) Lacks(ctx context.Context, privileges []string, on []vsphere.Ref) ([]Lack, error) {
	c := call{op: "look up", object: "the privileges of " + g.User()}
	var answer []types.EntityPrivilege
	err := g.soap(ctx, c, func(ctx context.Context, s *soapSession) error {
		manager := s.client.ServiceContent.AuthorizationManager
		if manager == nil {
			return errors.New("vCenter tells nothing about privileges")
		}
		req := types.HasUserPrivilegeOnEntities{This: *manager, UserName: g.User(), PrivId: privileges}
		for _, ref := range on {
			req.Entities = append(req.Entities, toMoRef(ref))
		}
		if len(on) == 0 {
			req.Entities = []types.ManagedObjectReference{s.client.ServiceContent.RootFolder}
		}
		res, err := methods.HasUserPrivilegeOnEntities(ctx, s.client, &req)
		if err == nil {
			answer = res.Returnval
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	without := map[string][]types.ManagedObjectReference{}
	var all []types.ManagedObjectReference
	for _, e := range answer {
		for _, p := range e.PrivAvailability {
			if !p.IsGranted {
				without[p.PrivId] = append(without[p.PrivId], e.Entity)
				all = append(all, e.Entity)
			}
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	names := map[vsphere.Ref]string{}
	list, err := g.named(ctx, c, "ManagedEntity", "name", unique(all)) // a name that cannot be read is left out
	for _, n := range list {
		names[n.Ref] = n.Name
	}
	if err != nil {
		g.log.Debug("could not read names", "reason", err)
	}
	var lacks []Lack
	for _, p := range privileges {
		if len(without[p]) == 0 {
			continue
		}
		l := Lack{Privilege: p}
		for _, e := range without[p] {
			ref := fromMoRef(e)
			l.On = append(l.On, Named{ref, names[ref]})
		}
		lacks = append(lacks, l)
	}
	return lacks, nil
}
