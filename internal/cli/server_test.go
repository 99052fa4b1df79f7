package cli_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
)

var everyCommand = map[string][]string{
	"run":          {"workflow", "run"},
	"run --wait":   {"workflow", "run", "--wait"},
	"plan":         {"workflow", "plan"},
	"status":       {"workflow", "status"},
	"list":         {"workflow", "list"},
	"cancel":       {"workflow", "cancel"},
	"repair":       {"workflow", "repair", "some-workflow"},
	"cancel, wait": {"workflow", "cancel", "--wait"},

	"evict":          {"evict", "web-1"},
	"evict, no wait": {"evict", "web-1", "--wait=false"},
	"evict, dry run": {"evict", "web-1", "--dry-run"},

	"schedule create": {"schedule", "create", "nightly", "--at", "22:00"},
	"schedule list":   {"schedule", "list"},
	"schedule pause":  {"schedule", "pause", "nightly"},
	"schedule resume": {"schedule", "resume", "nightly"},
	"schedule run":    {"schedule", "run", "nightly"},
	"schedule delete": {"schedule", "delete", "nightly"},

	"reconcile":   {"reconcile"},
	"tags create": {"tags", "create"},

	"remediation list": {"remediation", "list"},
	"remediation show": {"remediation", "show", "vm-1"},
	"remediation plan": {"remediation", "plan", "web-1"},
	"remediation run":  {"remediation", "run", "vm-1", "--wait"},

	"doctor": {"doctor"},

	"policy replay": {"policy", "replay", "testdata/empty.yaml"},

	"watch status": {"watch", "status"},
	"watch start":  {"watch", "start"},
	"watch stop":   {"watch", "stop"},
}

func TestAnUnreachableServerIsOneLineWithinFiveSeconds(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, never answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	addresses := map[string]struct{ address, says string }{
		"a closed port":   {"127.0.0.1:1", "connection refused"},
		"an unknown name": {"no-such-host.invalid:7233", ""},
		"a silent server": {silent.Addr().String(), "no answer within 5 seconds"},
	}
	for name, args := range everyCommand {
		for where, c := range addresses {
			t.Run(name+" at "+where, func(t *testing.T) {
				t.Parallel()
				start := time.Now()
				got := preemptctl(t, cli.Options{}, append(args, "-s", c.address)...)
				got.want(t, 1, "stderr", "Error: cannot reach Temporal at "+c.address+": ", c.says, "; check --server or TEMPORAL_URL")
				if took := time.Since(start); took > promised {
					t.Errorf("it took %s", took)
				}
				if n := strings.Count(got.stderr, "\n"); n != 1 {
					t.Errorf("%d lines instead of one:\n%s", n, got.stderr)
				}
			})
		}
	}
}

func TestAWrongNamespaceIsNamed(t *testing.T) {
	s := newSite(t, false)
	for name, args := range everyCommand {
		t.Run(name, func(t *testing.T) {
			got := preemptctl(t, cli.Options{}, append(args, "-s", s.address, "-n", "nosuch")...)
			got.want(t, 1, "stderr", `Error: namespace "nosuch" does not exist on `+s.address)
		})
	}
	fromEnv := cli.Options{Env: environment{"TEMPORAL_NAMESPACE": "nosuch", "TEMPORAL_URL": s.address}}
	preemptctl(t, fromEnv, "workflow", "list").want(t, 1, "stderr", `namespace "nosuch" does not exist`)
}
