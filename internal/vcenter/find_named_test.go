package vcenter

import (
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

func TestAClusterIsFoundByMoRefPathOrName(t *testing.T) {
	v, g := warm(t, simulation.Options{})
	want := fromMoRef(v.Cluster("cluster-a").Ref)
	for name, what := range map[string]string{
		"whole MoRef": want.String(), "MoRef": want.Value, "name": "cluster-a", "path": "/datacenter/host/cluster-a",
		"path without the first slash": "datacenter/host/cluster-a", "name with spaces around": " cluster-a\n",
	} {
		t.Run(name, func(t *testing.T) {
			v.ResetCalls()
			ref, called, err := g.FindCluster(t.Context(), what)
			check(t, err)
			if ref != want || called != "cluster-a" {
				t.Errorf("found %v %q, want %v", ref, called, want)
			}
			wantCalls(t, v, 1)
		})
	}
	for what, hint := range map[string]string{
		"": "inventory path", "edge": "inventory path", "domain-c99999": "inventory path", "clustr-a": "did you mean cluster-a", "/datacenter/host": "inventory path",
	} {
		_, _, err := g.FindCluster(t.Context(), what)
		wantKind(t, err, ScopeNotFound)
		if !strings.Contains(err.Error(), hint) {
			t.Errorf("%q does not say %q", err, hint)
		}
	}
	check(t, v.RenameEntity(v.Cluster("cluster-b").Ref, "cluster-a"))
	_, _, err := g.FindCluster(t.Context(), "cluster-a")
	wantKind(t, err, Ambiguous)
	if !strings.Contains(err.Error(), want.Value) {
		t.Errorf("%q does not name %s", err, want.Value)
	}
}

func TestAHostIsFoundByMoRefPathOrNameBesideTheClusters(t *testing.T) {
	v, g := warm(t, simulation.Options{})
	cluster := fromMoRef(v.Cluster("cluster-a").Ref)
	vm := v.VMs()[0]
	host := fromMoRef(vm.Host)
	v.ResetCalls()
	ref, err := g.FindPlace(t.Context(), host.Value)
	check(t, err)
	wantCalls(t, v, 1)
	_, called, _ := strings.Cut(g.names.describe(host), " (")
	name := strings.TrimSuffix(called, ")")
	if ref != host {
		t.Errorf("found %v, want %v", ref, host)
	}
	for what, want := range map[string]string{
		host.String(): host.Value, name: host.Value, "cluster-a": cluster.Value, "/datacenter/host/cluster-a": cluster.Value,
		"/datacenter/host/cluster-a/" + name: host.Value,
	} {
		ref, err := g.FindPlace(t.Context(), what)
		check(t, err)
		if ref.Value != want {
			t.Errorf("%q is %v, want %s", what, ref, want)
		}
	}
	_, err = g.FindPlace(t.Context(), name+"x")
	wantKind(t, err, ScopeNotFound)
	if !strings.Contains(err.Error(), "did you mean "+name) {
		t.Errorf("%q does not say which name is near", err)
	}
	check(t, v.RenameEntity(v.Cluster("cluster-b").Ref, name))
	_, err = g.FindPlace(t.Context(), name)
	wantKind(t, err, Ambiguous)
	if !strings.Contains(err.Error(), host.String()) {
		t.Errorf("%q does not name the host", err)
	}
}
