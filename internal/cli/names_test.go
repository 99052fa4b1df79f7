package cli_test

import (
	"testing"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

// fakeNames knows everything but what is misspelt.
func fakeNames(_ workflow.Context, in preemptapi.NamesInput) (out preemptapi.NamesResult, err error) {
	if in.Tag == "preemptibel" {
		out.Unknown = append(out.Unknown, `vCenter has no tag "preemptibel"`)
	}
	if in.Scope.Value == "wrong" {
		out.Unknown = append(out.Unknown, "vCenter has no ClusterComputeResource:wrong")
	}
	for _, vm := range in.VMs {
		switch vm {
		case "misspelt":
			out.Unknown = append(out.Unknown, `vCenter has no VM "misspelt"`)
		case "double":
			out.Ambiguous = append(out.Ambiguous, `2 VMs are called "double"`)
		}
	}
	return out, nil
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
