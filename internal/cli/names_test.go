package cli_test

import (
	"strings"
	"testing"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// fakeNames knows everything but what is misspelt.
func fakeNames(_ workflow.Context, in preemptapi.NamesInput) (out preemptapi.NamesResult, err error) {
	unknown := func(named, wrong, says string) {
		if named == wrong {
			out.Unknown = append(out.Unknown, says)
		}
	}
	unknown(in.Tag, "preemptibel", `vCenter has no tag "preemptibel"`)
	unknown(in.Policy, "nosuch", `the worker's file has no policy "nosuch"`)
	unknown(in.Datastore, "wrong", `vCenter has no datastore "wrong": did you mean vmfs-1?`)
	for _, vm := range in.VMs {
		unknown(vm, "vmfs-5", `vCenter has no VM "vmfs-5"`)
	}
	unknown(in.Cluster, "wrong", `vCenter has no cluster "wrong": did you mean west?`)
	unknown(in.Place, "wrong", `vCenter has no cluster or host "wrong": did you mean west?`)
	unknown(in.Cluster, "domain-c404", `vCenter has no cluster "domain-c404"`)
	out.Cluster, out.Place = fakePlace(in.Cluster), fakePlace(in.Place)
	if in.Datastore == "vmfs-5" {
		out.Datastore = vsphere.Ref{Type: vsphere.TypeDatastore, Value: "datastore-5"}
	}
	for _, vm := range in.VMs {
		unknown(vm, "misspelt", `vCenter has no VM "misspelt": did you mean web-1?`)
		if vm == "double" {
			out.Ambiguous = append(out.Ambiguous, `2 VMs are called "double"`)
		}
	}
	if in.List != "" {
		out.Listed = fakeList(in.List, in.Prefix)
	}
	return out, nil
}

// fakePlace is the cluster or host of a name.
func fakePlace(name string) vsphere.Ref {
	ref, whole := vsphere.ParseRef(name)
	switch {
	case whole:
		return ref
	case strings.HasPrefix(name, "domain-"):
		return vsphere.Ref{Type: vsphere.TypeCluster, Value: name}
	case name == "esx-1":
		return vsphere.Ref{Type: vsphere.TypeHost, Value: "host-9"}
	case name == "", name == "wrong":
		return vsphere.Ref{}
	}
	return vsphere.Ref{Type: vsphere.TypeCluster, Value: "domain-c7"}
}

// fakeList lists names that begin with a prefix.
func fakeList(kind preemptapi.NameKind, prefix string) (names []string) {
	all := map[preemptapi.NameKind][]string{
		preemptapi.NamesOfVMs: {"app-1", "app-2", "bad\x1bname"}, preemptapi.NamesOfClusters: {"west", "north east"},
		preemptapi.NamesOfDatastores: {"vmfs-1", "vmfs-2"}, preemptapi.NamesOfPolicies: {"default", "nightly"},
	}
	for _, name := range all[kind] {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names
}

func TestAMisspeltNameStartsNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"a tag":                      {[]string{"workflow", "run", "-w", "names", "-t", "preemptibel"}, 3, "no tag"},
		"a tag, waited for":          {[]string{"workflow", "run", "-w", "names", "-t", "preemptibel", "--wait"}, 3, "no tag"},
		"a VM to evict":              {[]string{"evict", "misspelt"}, 3, "no VM"},
		"a VM to evict, not waited":  {[]string{"evict", "misspelt", "--wait=false"}, 3, "no VM"},
		"two VMs of a name to evict": {[]string{"evict", "double"}, 2, "2 VMs"},
		"a VM to restore":            {[]string{"restore", "misspelt"}, 3, "no VM"},
		"a cluster to restore":       {[]string{"restore", "--cluster", "wrong"}, 3, "wrong"},
		"a cluster to plan":          {[]string{"workflow", "plan", "--cluster", "wrong"}, 3, "did you mean west?"},
		"a cluster to run in":        {[]string{"workflow", "run", "-w", "names", "--cluster", "wrong"}, 3, "did you mean west?"},
		"a cluster for room":         {[]string{"make-room", "--cpus", "4", "--cluster", "wrong"}, 3, "did you mean west?"},
		"a cluster for a schedule":   {[]string{"schedule", "create", "names", "--every", "1h", "--cluster", "wrong"}, 3, "did you mean west?"},
		"a MoRef of no cluster":      {[]string{"workflow", "run", "-w", "names", "--cluster", "domain-c404"}, 3, "domain-c404"},
		"a cluster to pause":         {[]string{"pause", "--cluster", "wrong", "--reason", "r"}, 3, "did you mean west?"},
		"a host to run on":           {[]string{"workflow", "run", "-w", "names", "--cluster", "HostSystem:host-9"}, 2, "is a host: name its cluster"},
		"a policy":                   {[]string{"workflow", "run", "-w", "names", "--policy", "nosuch"}, 3, "no policy"},
		"a policy to plan":           {[]string{"workflow", "plan", "--policy", "nosuch"}, 3, "no policy"},
		"a policy to evict by":       {[]string{"evict", "web-1", "--policy", "nosuch"}, 3, "no policy"},
		"a policy to restore by":     {[]string{"restore", "--policy", "nosuch"}, 3, "no policy"},
		"a policy for room":          {[]string{"make-room", "--for", "web-1", "--policy", "nosuch"}, 3, "no policy"},
		"a policy to explain":        {[]string{"explain", "web-1", "--policy", "nosuch"}, 3, "no policy"},
		"a policy for a schedule":    {[]string{"schedule", "create", "names", "--every", "1h", "--policy", "nosuch"}, 3, "no policy"},
		"a tag for a schedule":       {[]string{"schedule", "create", "names", "--every", "1h", "--tag", "preemptibel"}, 3, "no tag"},
		"a VM to plan room for":      {[]string{"workflow", "plan", "--room-for", "misspelt"}, 3, "did you mean web-1?"},
		"a VM to try to evict":       {[]string{"evict", "misspelt", "--dry-run"}, 3, "no VM"},
		"a VM to spare":              {[]string{"spare", "misspelt", "--reason", "r"}, 3, "no VM"},
		"a VM to explain":            {[]string{"explain", "misspelt"}, 3, "no VM"},
		"a VM's tags":                {[]string{"tags", "show", "misspelt"}, 3, "no VM"},
		"a VM to try on":             {[]string{"doctor", "--attribute-on", "misspelt"}, 3, "no VM"},
		"a VM to remedy":             {[]string{"remediation", "run", "misspelt"}, 3, "no VM"},
		"a VM to plan for":           {[]string{"remediation", "plan", "misspelt"}, 3, "no VM"},
		"a datastore to empty":       {[]string{"remediation", "run", "--datastore", "wrong"}, 3, "did you mean vmfs-1?"},
		"a datastore to plan for":    {[]string{"remediation", "plan", "--datastore", "wrong"}, 3, "did you mean vmfs-1?"},
		"a VM's history":             {[]string{"history", "--vm", "misspelt"}, 3, "did you mean web-1?"},
		"a cluster's history":        {[]string{"history", "--cluster", "wrong"}, 3, "did you mean west?"},
		"a cluster with VMs off":     {[]string{"off", "--cluster", "wrong"}, 3, "did you mean west?"},
		"a VM's workflows":           {[]string{"workflow", "list", "--vm", "misspelt"}, 3, "did you mean web-1?"},
		"a cluster's workflows":      {[]string{"workflow", "list", "--cluster", "wrong"}, 3, "did you mean west?"},
		"headroom of no cluster":     {[]string{"workflow", "run", "-w", "names", "--headroom"}, 2, "--headroom needs --cluster"},
		"headroom of an alarm":       {[]string{"workflow", "plan", "--headroom", "--cluster", "west", "--event", "{}"}, 2, "leave --event out"},
		"headroom, and reconcile":    {[]string{"schedule", "create", "names", "--every", "1h", "--reconcile", "--headroom"}, 2, "--headroom is for a preemption"},
		"an empty cluster":           {[]string{"restore", "--cluster", ""}, 2, "--cluster is empty"},
		"an empty policy":            {[]string{"workflow", "run", "-w", "names", "--policy", " "}, 2, "--policy is empty"},
	} {
		s.run(c.args...).want(t, c.code, "stderr", "Error:", c.says)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	s.run("workflow", "status", "-w", "names").want(t, 3, "stderr", "no workflow names")
	s.run("workflow", "run", "-w", "names-2", "--reply-to", "", "--event", "").want(t, 0, "stdout", "names-2")
}
