package check

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/cli"
	_ "github.com/vmware/govmomi/cli/fields"
	_ "github.com/vmware/govmomi/cli/permissions"
	_ "github.com/vmware/govmomi/cli/role"
	_ "github.com/vmware/govmomi/cli/tags"
	_ "github.com/vmware/govmomi/cli/tags/association"
	_ "github.com/vmware/govmomi/cli/tags/category"
	vim "github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	_ "github.com/vmware/govmomi/vapi/simulator"
	"github.com/vmware/govmomi/vim25"
)

// The lines are run as they stand, by govc's own code, on a simulated vCenter. It enforces no privilege, so that this
// shows that the lines are right, not that the privileges suffice.
func TestTheGuidesGovcLinesRun(t *testing.T) {
	simulator.Test(func(ctx context.Context, c *vim25.Client) {
		t.Setenv("GOVC_URL", c.URL().String())
		t.Setenv("GOVC_USERNAME", "user")
		t.Setenv("GOVC_PASSWORD", "pass")
		t.Setenv("GOVC_INSECURE", "true")
		t.Setenv("GOVMOMI_HOME", t.TempDir())
		ran := 0
		for _, name := range []string{"installation.md", "security.md"} {
			for line := range strings.Lines(document(t, name)) {
				line, found := strings.CutPrefix(strings.TrimSpace(line), "govc ")
				if !found {
					continue
				}
				line = strings.ReplaceAll(strings.ReplaceAll(line, "/dc-1/vm/batch-01", "/DC0/vm/DC0_C0_RP0_VM0"), "/dc-1", "/DC0")
				if code := cli.Run(strings.Fields(line)); code != 0 {
					t.Errorf("%s: govc %s: exit code %d", name, line, code)
				}
				ran++
			}
		}
		if ran < 12 {
			t.Errorf("%d lines were run", ran)
		}
		roles, err := vim.NewAuthorizationManager(c).RoleList(ctx)
		if err != nil {
			t.Fatal(err)
		}
		role := roles.ByName("vsphere-preemption")
		if role == nil || !slices.Contains(role.Privilege, "VirtualMachine.Interact.PowerOff") || !slices.Contains(role.Privilege, "Datastore.AllocateSpace") {
			t.Errorf("the role is %+v", role)
		}
	})
}
