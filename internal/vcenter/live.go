package vcenter

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// APIVersion is vCenter's own API version; see ServiceVersion for the negotiated one. One call.
func (g *Gateway) APIVersion(ctx context.Context) (own string, err error) {
	err = g.soap(ctx, call{op: "ask the version of", object: g.url.Host}, func(ctx context.Context, s *soapSession) error {
		own = s.client.ServiceContent.About.ApiVersion
		_, err := methods.GetCurrentTime(ctx, s.client)
		return err
	})
	return own, err
}

// ClusterModes are the modes of a cluster. An empty text means off.
type ClusterModes struct {
	Ref       vsphere.Ref
	Seen      bool   // false: its configuration is not shown to us
	DRS       string // fullyAutomated, partiallyAutomated or manual
	DPM       string // automated or manual
	HA        bool
	Admission string // of HA, the policy: FailoverLevel, FailoverResources or FailoverHost
}

// ClusterModes lists the clusters that our user sees. One call.
func (g *Gateway) ClusterModes(ctx context.Context) ([]ClusterModes, error) {
	objects, err := g.retrieveWith(ctx, call{op: "read the configuration of", object: "clusters"}, func(s *soapSession) ([]types.PropertyFilterSpec, error) {
		return []types.PropertyFilterSpec{{
			PropSet:   []types.PropertySpec{{Type: vsphere.TypeCluster, PathSet: []string{"configurationEx"}}},
			ObjectSet: []types.ObjectSpec{{Obj: s.client.ServiceContent.RootFolder, Skip: types.NewBool(true), SelectSet: clusters()}},
		}}, nil
	})
	var list []ClusterModes
	for _, o := range objects {
		if o.ref.Type == vsphere.TypeCluster {
			list = append(list, modesOf(o))
		}
	}
	slices.SortFunc(list, func(a, b ClusterModes) int { return strings.Compare(a.Ref.Value, b.Ref.Value) })
	return list, err
}

// clusters traverses from the root to what is in the folders of hosts.
func clusters() []types.BaseSelectionSpec {
	down := &types.SelectionSpec{Name: "down"}
	return []types.BaseSelectionSpec{&types.TraversalSpec{
		SelectionSpec: types.SelectionSpec{Name: "down"}, Type: "Folder", Path: "childEntity",
		SelectSet: []types.BaseSelectionSpec{
			down, &types.TraversalSpec{Type: "Datacenter", Path: "hostFolder", SelectSet: []types.BaseSelectionSpec{down}},
		},
	}}
}

func modesOf(o object) ClusterModes {
	m := ClusterModes{Ref: o.ref}
	var c *types.ClusterConfigInfoEx
	switch v := o.props["configurationEx"].(type) {
	case types.ClusterConfigInfoEx:
		c = &v
	case *types.ClusterConfigInfoEx:
		c = v
	}
	if c == nil {
		return m
	}
	m.Seen = true
	if switchedOn(c.DrsConfig.Enabled) {
		m.DRS = string(c.DrsConfig.DefaultVmBehavior)
	}
	if d := c.DpmConfigInfo; d != nil && switchedOn(d.Enabled) {
		m.DPM = string(d.DefaultDpmBehavior)
	}
	m.HA = switchedOn(c.DasConfig.Enabled)
	if m.HA && switchedOn(c.DasConfig.AdmissionControlEnabled) {
		m.Admission = "unknown"
		switch c.DasConfig.AdmissionControlPolicy.(type) {
		case *types.ClusterFailoverLevelAdmissionControlPolicy:
			m.Admission = "FailoverLevel"
		case *types.ClusterFailoverResourcesAdmissionControlPolicy:
			m.Admission = "FailoverResources"
		case *types.ClusterFailoverHostAdmissionControlPolicy:
			m.Admission = "FailoverHost"
		}
	}
	return m
}

func switchedOn(b *bool) bool { return b != nil && *b }

// TakesSeveral reads several objects with one filter, and makes a filter to wait for them. It returns how many
// objects were answered. Two calls, and two for the filter's collector.
func (g *Gateway) TakesSeveral(ctx context.Context, refs []vsphere.Ref) (answered int, err error) {
	spec := types.PropertyFilterSpec{PropSet: []types.PropertySpec{{Type: "ManagedEntity", PathSet: []string{"parent"}}}}
	for _, ref := range refs {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: toMoRef(ref)})
	}
	objects, err := g.retrieve(ctx, call{op: "read", object: "several objects at once"}, spec)
	if err != nil {
		return 0, err
	}
	pc, err := g.openCollector(ctx)
	if err != nil {
		return len(objects), err
	}
	defer g.giveBack(ctx, pc)
	return len(objects), g.addFilter(ctx, call{op: "watch", object: "several objects at once"}, pc, spec)
}

// LongestValue is the length of the longest value of any custom attribute on some VMs. One call.
func (g *Gateway) LongestValue(ctx context.Context, refs []vsphere.Ref) (longest int, err error) {
	spec := types.PropertyFilterSpec{PropSet: []types.PropertySpec{{Type: vsphere.TypeVM, PathSet: []string{"customValue"}}}}
	for _, ref := range refs {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: toMoRef(ref)})
	}
	if len(refs) == 0 {
		return 0, nil
	}
	objects, err := g.retrieve(ctx, call{op: "read", object: "custom attributes"}, spec)
	for _, o := range objects {
		list, _ := o.props["customValue"].(types.ArrayOfCustomFieldValue)
		for _, v := range list.CustomFieldValue {
			if s, ok := v.(*types.CustomFieldStringValue); ok {
				longest = max(longest, len(s.Value))
			}
		}
	}
	return longest, err
}

// Lag is how much later than the end of its task the time of a power-off event is, by vCenter's clock.
type Lag struct {
	Median, Longest time.Duration
	Events          int // that have their task
}

const (
	lagEvents = 50 // the last ones
	lagPages  = 20 // of events, and of tasks, read at most
	lagApart  = 2 * time.Minute
)

// PowerOffLag compares the last power-off events since then with the tasks that they belong to.
func (g *Gateway) PowerOffLag(ctx context.Context, since time.Time) (Lag, error) {
	events, err := g.lastPowerOffs(ctx, since)
	if err != nil || len(events) == 0 {
		return Lag{}, err
	}
	ended, err := g.powerOffTasks(ctx, events[0].CreatedTime.Add(-lagApart))
	if err != nil {
		return Lag{}, err
	}
	var lags []time.Duration
	for _, e := range events {
		if at, ok := nearest(ended[e.Vm.Vm], e.CreatedTime); ok {
			lags = append(lags, e.CreatedTime.Sub(at))
		}
	}
	if len(lags) == 0 {
		return Lag{}, nil
	}
	slices.Sort(lags)
	return Lag{Median: lags[len(lags)/2], Longest: lags[len(lags)-1], Events: len(lags)}, nil
}

func (g *Gateway) lastPowerOffs(ctx context.Context, since time.Time) (last []types.Event, err error) {
	h, err := g.openHistory(ctx, call{op: "read", object: "power-off events"}, []string{"VmPoweredOffEvent"}, since)
	if err != nil {
		return nil, err
	}
	defer h.destroy(ctx)
	for range lagPages {
		page, err := h.next(ctx)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			break
		}
		for _, event := range page {
			if e := event.GetEvent(); e.Vm != nil {
				last = append(last, *e)
			}
		}
		last = last[max(0, len(last)-lagEvents):]
	}
	return last, nil
}

// powerOffTasks are the ends of the power-off tasks since then that succeeded, by VM.
func (g *Gateway) powerOffTasks(ctx context.Context, since time.Time) (map[types.ManagedObjectReference][]time.Time, error) {
	ended := map[types.ManagedObjectReference][]time.Time{}
	c := call{op: "read", object: "power-off tasks", write: true}
	err := g.soap(ctx, c, func(ctx context.Context, s *soapSession) error {
		manager := s.client.ServiceContent.TaskManager
		if manager == nil {
			return nil
		}
		made, err := methods.CreateCollectorForTasks(ctx, s.client, &types.CreateCollectorForTasks{This: *manager, Filter: types.TaskFilterSpec{
			Time:  &types.TaskFilterSpecByTime{TimeType: types.TaskFilterSpecTimeOptionCompletedTime, BeginTime: &since},
			State: []types.TaskInfoState{types.TaskInfoStateSuccess},
		}})
		if err != nil {
			return err
		}
		defer g.cleanUp(ctx, 0, func(ctx context.Context) error {
			_, err := methods.DestroyCollector(ctx, s.client, &types.DestroyCollector{This: made.Returnval})
			return err
		})
		for range lagPages {
			page, err := methods.ReadNextTasks(ctx, s.client, &types.ReadNextTasks{This: made.Returnval, MaxCount: eventPage})
			if err != nil || len(page.Returnval) == 0 {
				return err
			}
			for _, t := range page.Returnval {
				if t.Entity != nil && t.CompleteTime != nil && strings.HasSuffix(t.DescriptionId, ".powerOff") {
					ended[*t.Entity] = append(ended[*t.Entity], *t.CompleteTime)
				}
			}
		}
		return nil
	})
	return ended, err
}

// nearest is the time closest to at; ok is false if none is near enough to belong to it.
func nearest(times []time.Time, at time.Time) (found time.Time, ok bool) {
	for _, t := range times {
		if apart := at.Sub(t).Abs(); apart <= lagApart && (!ok || apart < at.Sub(found).Abs()) {
			found, ok = t, true
		}
	}
	return found, ok
}
