package cli

import (
	"cmp"
	"context"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// clusterFlag registers --cluster: what it is for, and what is done without it.
func clusterFlag(cmd *cobra.Command, to *string, what, without string) {
	cmd.Flags().StringVar(to, "cluster", "", what+": its name, inventory path or MoRef (default: "+without+")")
}

// placeFlag is clusterFlag for a command that takes a host too.
func placeFlag(cmd *cobra.Command, to *string, what, without string) {
	cmd.Flags().StringVar(to, "cluster", "", what+", or on this host: its name, inventory path or MoRef (default: "+without+")")
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

// clusterMoRef is how vCenter makes the MoRefs of clusters and of hosts without one; hostMoRef how it makes those of hosts.
var (
	clusterMoRef = regexp.MustCompile(`^domain-[cs][0-9]+$`)
	hostMoRef    = regexp.MustCompile(`^host-[0-9]+$`)
)

// placeMoRef reads the MoRef of a cluster or host, whole or in short.
func placeMoRef(named string) (vsphere.Ref, bool) {
	ref, whole := vsphere.ParseRef(named)
	switch {
	case whole:
		return ref, ref.Type != vsphere.TypeVM
	case clusterMoRef.MatchString(named):
		return vsphere.Ref{Type: vsphere.TypeCluster, Value: named}, true
	case hostMoRef.MatchString(named):
		return vsphere.Ref{Type: vsphere.TypeHost, Value: named}, true
	}
	return vsphere.Ref{}, false
}

// clusterNamed returns the cluster that a person named by name, inventory path or MoRef; none is the zero reference. A worker looks it
// up. Where none can, a MoRef is taken as it is.
func (a *app) clusterNamed(ctx context.Context, s *session, named string) (vsphere.Ref, error) {
	ref, err := a.placed(ctx, s, named, preemptapi.NamesInput{Cluster: named})
	if err == nil && ref.Type == vsphere.TypeHost {
		err = usagef("--cluster %s is a host: name its cluster", named)
	}
	return ref, err
}

// placeNamed is clusterNamed for a cluster or a host.
func (a *app) placeNamed(ctx context.Context, s *session, named string) (vsphere.Ref, error) {
	return a.placed(ctx, s, named, preemptapi.NamesInput{Place: named})
}

func (a *app) placed(ctx context.Context, s *session, named string, in preemptapi.NamesInput) (vsphere.Ref, error) {
	named = strings.TrimSpace(named)
	taken, plain := placeMoRef(named)
	if named == "" || plain && (strings.HasPrefix(taken.Value, "domain-s") || taken.Type != vsphere.TypeCluster && taken.Type != vsphere.TypeHost) {
		return taken, nil // what acts on it says whether there is such an object
	}
	polled, err := s.polled(ctx)
	switch {
	case err != nil:
		return taken, err
	case !polled && plain:
		return taken, nil
	case !polled:
		return taken, a.noWorker("only a worker can look up what is called " + named + "; a MoRef such as domain-c7 is taken as it is")
	}
	out, err := a.lookUp(ctx, s, in)
	switch found := cmp.Or(out.Cluster, out.Place); {
	case err != nil:
		return vsphere.Ref{}, err
	case !found.Zero():
		return found, nil
	case plain:
		return taken, nil
	case s.unheeded != nil:
		return taken, s.unheeded
	}
	return taken, failedf("%q could not be looked up in vCenter in time: try again, or give its MoRef, such as domain-c7", named)
}
