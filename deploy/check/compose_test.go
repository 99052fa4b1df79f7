package check

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	composetypes "github.com/compose-spec/compose-go/v2/types"
)

func composed(t *testing.T, env ...string) (*composetypes.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"../compose/compose.yaml"}, cli.WithEnv(env), cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	return options.LoadProject(t.Context())
}

func TestTheComposeFileTakesTheWorkersVariablesAndListensHereAlone(t *testing.T) {
	p, err := composed(t, "VCENTER_URL=https://vc.example.com")
	if err != nil {
		t.Fatal(err)
	}
	known := variables(t, "worker")
	worker := p.Services["worker"]
	for name, required := range known {
		if _, given := worker.Environment[name]; required && !given && name != "TEMPORAL_ADDRESS" {
			t.Errorf("the worker lacks %s", name)
		}
	}
	for name := range worker.Environment {
		if _, ok := known[name]; !ok {
			t.Errorf("the worker reads no %s; it reads %v", name, slices.Sorted(maps.Keys(known)))
		}
	}
	for name, s := range p.Services {
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s listens on %q", name, port.HostIP)
			}
		}
	}
	if len(worker.Secrets) != 2 || !worker.ReadOnly || len(worker.CapDrop) != 1 {
		t.Errorf("%+v", worker)
	}
	found := false
	for _, v := range worker.Volumes {
		found = found || strings.HasSuffix(v.Source, "deploy/base/preemption.yaml") && v.ReadOnly
	}
	if !found {
		t.Errorf("the worker has not the checked file: %+v", worker.Volumes)
	}
}

func TestTheComposeFileWantsTheAddressOfVCenter(t *testing.T) {
	if _, err := composed(t); err == nil || !strings.Contains(err.Error(), "VCENTER_URL") {
		t.Errorf("%v", err)
	}
}
