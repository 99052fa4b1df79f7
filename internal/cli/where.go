package cli

import (
	"context"
	"regexp"

	"github.com/spf13/cobra"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// clusterFlag registers --cluster: what it is for, and what is done without it.
func clusterFlag(cmd *cobra.Command, to *string, what, without string) {
	cmd.Flags().StringVar(to, "cluster", "", what+": its name, inventory path or MoRef (default: "+without+")")
}

// headroomFlag registers --headroom.
func headroomFlag(cmd *cobra.Command, to *bool) {
	cmd.Flags().BoolVar(to, "headroom", false, "only what the policy's headroom lacks in the --cluster goes: nobody while it is there")
}

// whereFlags say in which cluster VMs are to go, and whether for its headroom.
type whereFlags struct {
	cluster  string
	headroom bool
}

// check validates the flags; event is the flag of that name.
func (f whereFlags) check(event string) error {
	switch {
	case f.headroom && f.cluster == "":
		return usagef("--headroom needs --cluster: in which cluster is room to be kept free?")
	case f.headroom && event != "":
		return usagef("--headroom is not for an alarm: leave --event out")
	}
	return nil
}

// in puts the flags into a request, the cluster by its MoRef.
func (f whereFlags) in(ctx context.Context, a *app, s *session, req *preemption.WorkflowRequest) error {
	ref, err := a.clusterNamed(ctx, s, f.cluster)
	req.Headroom, req.Cluster = f.headroom, ref.Value
	return err
}

// clusterMoRef is how vCenter makes the MoRefs of clusters and of hosts without one.
var clusterMoRef = regexp.MustCompile(`^domain-[cs][0-9]+$`)

// clusterNamed returns the cluster that a person named; none is the zero reference. A MoRef is taken as it is, and what acts on
// it says whether there is such a cluster; a name is looked up by a worker.
func (a *app) clusterNamed(ctx context.Context, s *session, named string) (vsphere.Ref, error) {
	ref, whole := vsphere.ParseRef(named)
	switch {
	case named == "" || whole && ref.Type != vsphere.TypeVM:
		return ref, nil
	case clusterMoRef.MatchString(named):
		return vsphere.Ref{Type: vsphere.TypeCluster, Value: named}, nil
	}
	polled, err := s.polled(ctx)
	if err != nil {
		return ref, err
	}
	if !polled {
		return ref, a.noWorker("only a worker can look up which cluster is called " + named + "; a MoRef such as domain-c7 is taken as it is")
	}
	out, err := a.lookUp(ctx, s, preemptapi.NamesInput{Cluster: named})
	if err == nil && out.Cluster.Zero() {
		err = failedf("cluster %q could not be looked up in vCenter in time: try again, or give its MoRef, such as domain-c7", named)
	}
	return out.Cluster, err
}
