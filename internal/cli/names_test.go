package cli_test

import (
	"testing"

	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// fakeNames knows everything but what is misspelt.
func fakeNames(_ workflow.Context, in preemptapi.NamesInput) (out preemptapi.NamesResult, err error) {
	if in.Tag == "preemptibel" {
		out.Unknown = append(out.Unknown, `vCenter has no tag "preemptibel"`)
	}
	switch in.Cluster {
	case "":
	case "wrong":
		out.Unknown = append(out.Unknown, `vCenter has no cluster "wrong": did you mean west?`)
	default:
		out.Cluster = vsphere.Ref{Type: vsphere.TypeCluster, Value: "domain-c7"}
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
		"a cluster to plan":          {[]string{"workflow", "plan", "--cluster", "wrong"}, 3, "did you mean west?"},
		"a cluster to run in":        {[]string{"workflow", "run", "-w", "names", "--cluster", "wrong"}, 3, "did you mean west?"},
		"a cluster for room":         {[]string{"make-room", "--cpus", "4", "--cluster", "wrong"}, 3, "did you mean west?"},
		"a cluster for a schedule":   {[]string{"schedule", "create", "names", "--every", "1h", "--cluster", "wrong"}, 3, "did you mean west?"},
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
