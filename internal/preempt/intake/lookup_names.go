package intake

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// namesTime is how long a look-up of names may take: a person waits, and while vCenter is away the request is taken all
// the same.
const namesTime = 5 * time.Second

// longestAnswer bounds what is said about one name: with what to do about it.
const longestAnswer = 600

// Names is the workflow by which a command asks, before anything starts, whether vCenter knows what a person named.
func Names(ctx workflow.Context, in preemptapi.NamesInput) (out preemptapi.NamesResult, err error) {
	var a *Activities
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ScheduleToCloseTimeout: namesTime, StartToCloseTimeout: namesTime,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 2},
	})
	err = workflow.ExecuteActivity(ctx, a.LookUpNames, in).Get(ctx, &out)
	return out, err
}

// LookUpNames looks up what was named in vCenter, and a policy in the worker's file. The result names what is not known, or known
// several times. An error says that they could not be looked up.
func (a *Activities) LookUpNames(ctx context.Context, in preemptapi.NamesInput) (out preemptapi.NamesResult, err error) {
	l := lookUp{Activities: a, out: &out}
	if in.Policy != "" {
		l.policyNamed(in.Policy)
	}
	if in.Tag != "" || !in.Scope.Zero() {
		_, err := a.VCenter.Candidates(ctx, in.Tag, vcenter.Scope{Ref: in.Scope})
		if err := l.take(err); err != nil {
			return out, err
		}
	}
	if err := l.objects(ctx, in); err != nil {
		return out, err
	}
	if len(in.Event) > 0 {
		if out.Ours, err = a.isOurs(ctx, in.Event); err != nil {
			return out, err
		}
	}
	for _, vm := range in.VMs[:min(len(in.VMs), preempt.MaxNamed)] {
		ref, err := a.VCenter.FindVM(ctx, vm)
		if err := l.take(err); err != nil {
			return out, err
		}
		out.VMs = append(out.VMs, ref)
	}
	if in.List != "" {
		out.Listed, err = a.listed(ctx, in.List, in.Prefix)
	}
	return out, err
}

// lookUp is one look-up of names, with its answer.
type lookUp struct {
	*Activities
	out *preemptapi.NamesResult
}

// take notes that a name is not known, or several times; other errors are returned.
func (l lookUp) take(err error) error {
	switch vcenter.KindOf(err) {
	case vcenter.TagNotFound, vcenter.ScopeNotFound, vcenter.NotFound:
		l.out.Unknown = append(l.out.Unknown, shown.Clip(err.Error(), longestAnswer))
	case vcenter.TagAmbiguous, vcenter.Ambiguous:
		l.out.Ambiguous = append(l.out.Ambiguous, shown.Clip(err.Error(), longestAnswer))
	default:
		return err
	}
	return nil
}

// objects finds the cluster, place and datastore that were named.
func (l lookUp) objects(ctx context.Context, in preemptapi.NamesInput) error {
	cluster := func(ctx context.Context, name string) (vsphere.Ref, error) {
		ref, _, err := l.VCenter.FindCluster(ctx, name)
		return ref, err
	}
	for _, one := range []struct {
		name string
		find func(context.Context, string) (vsphere.Ref, error)
		to   *vsphere.Ref
	}{
		{in.Cluster, cluster, &l.out.Cluster}, {in.Place, l.VCenter.FindPlace, &l.out.Place}, {in.Datastore, l.VCenter.Datastore, &l.out.Datastore},
	} {
		if one.name == "" {
			continue
		}
		ref, err := one.find(ctx, one.name)
		if err := l.take(err); err != nil {
			return err
		}
		*one.to = ref
	}
	return nil
}

// policyNamed looks whether the worker's file has a policy.
func (l lookUp) policyNamed(name string) {
	if _, ok := l.Settings.Policies[name]; ok {
		return
	}
	known := slices.Sorted(maps.Keys(l.Settings.Policies))
	text := fmt.Sprintf("the worker's file has no policy %q", preempt.Clip(name))
	if near := shown.Near(name, known); len(near) > 0 {
		text += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	l.out.Unknown = append(l.out.Unknown, shown.Clip(text, longestAnswer))
}

// listed lists the names of a kind that begin with a prefix, in any case.
func (a *Activities) listed(ctx context.Context, kind preemptapi.NameKind, prefix string) (names []string, err error) {
	switch kind {
	case preemptapi.NamesOfVMs:
		names, err = a.VCenter.VMNames(ctx)
	case preemptapi.NamesOfClusters:
		names, err = a.VCenter.ClusterNames(ctx)
	case preemptapi.NamesOfDatastores:
		names, err = a.VCenter.DatastoreNames(ctx)
	case preemptapi.NamesOfPolicies:
		names = slices.Sorted(maps.Keys(a.Settings.Policies))
	default:
		return nil, temporal.NewNonRetryableApplicationError(fmt.Sprintf("names of kind %q cannot be listed: this worker is of another version", kind), "Unknown", nil)
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return len(name) < len(prefix) || !strings.EqualFold(name[:len(prefix)], prefix)
	})
	return names[:min(len(names), preemptapi.MaxListed)], err
}
