package cli_test

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

// The reference is the help of every command, so that it cannot say anything else. Write it anew with
// go test ./internal/cli -run TestTheReference -update.
func TestTheReferenceMatchesTheCommands(t *testing.T) {
	const file = "../../docs/cli.md"
	want := reference(t)
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the commands say: go test ./internal/cli -run TestTheReference -update", file)
	}
}

func TestEveryCommandHasExamplesAndItsExitStatus(t *testing.T) {
	for _, args := range commands() {
		help := preemptctl(t, cli.Options{}, append(args, "--help")...).stdout
		for _, part := range []string{"Examples:\n", "Exit status: 0 done; 1 failed"} {
			if !strings.Contains(help, part) {
				t.Errorf("the help of %q lacks %q", strings.Join(args, " "), part)
			}
		}
	}
}

// unrun are commands whose examples cannot be run, as those of the reference are: they serve until they are stopped, or are for
// another shell.
var unrun = []string{"ui", "demo", "completion powershell"}

// commands lists every command: first those that are in an order that reads well.
func commands() [][]string {
	all := [][]string{
		{},
		{"workflow"},
		{"workflow", "run"},
		{"workflow", "plan"},
		{"workflow", "status"},
		{"workflow", "list"},
		{"workflow", "cancel"},
		{"workflow", "repair"},
		{"make-room"},
		{"evict"},
		{"restore"},
		{"pause"},
		{"pause", "list"},
		{"resume"},
		{"spare"},
		{"spare", "list"},
		{"spare", "end"},
		{"explain"},
		{"off"},
		{"history"},
		{"report"},
		{"remediation"},
		{"remediation", "list"},
		{"remediation", "show"},
		{"remediation", "plan"},
		{"remediation", "run"},
		{"reconcile"},
		{"tags"},
		{"tags", "create"},
		{"tags", "show"},
		{"schedule"},
		{"schedule", "create"},
		{"schedule", "list"},
		{"schedule", "pause"},
		{"schedule", "resume"},
		{"schedule", "run"},
		{"schedule", "delete"},
		{"watch"},
		{"watch", "status"},
		{"watch", "start"},
		{"watch", "stop"},
		{"policy"},
		{"policy", "check"},
		{"policy", "show"},
		{"policy", "replay"},
		{"setup"},
		{"doctor"},
		{"demo"},
		{"demo", "status"},
		{"demo", "alarm"},
		{"demo", "load"},
		{"demo", "worker"},
		{"demo", "worker", "kill"},
		{"demo", "vcenter"},
		{"demo", "vcenter", "cut"},
		{"demo", "vcenter", "back"},
		{"completion"},
		{"completion", "bash"},
		{"completion", "zsh"},
		{"completion", "fish"},
	}
	for _, c := range cli.CommandLines() {
		if !slices.Contains(unrun, strings.Join(c.Path, " ")) && !slices.ContainsFunc(all, func(known []string) bool { return slices.Equal(known, c.Path) }) {
			all = append(all, c.Path)
		}
	}
	return all
}

func reference(t *testing.T) string {
	var b strings.Builder
	b.WriteString("# preemptctl\n\n<!-- Generated from the commands: go test ./internal/cli -run TestTheReference -update -->\n\n")
	b.WriteString(intro)
	for _, args := range commands() {
		name := strings.Join(append([]string{"preemptctl"}, args...), " ")
		got := preemptctl(t, cli.Options{}, append(args, "--help")...)
		got.want(t, 0, "stdout", "Usage:")
		b.WriteString("\n## " + name + "\n\n```\n")
		for line := range strings.Lines(got.stdout) {
			b.WriteString(strings.TrimRight(line, " \n") + "\n")
		}
		b.WriteString("```\n")
	}
	return b.String()
}

const intro = `With preemptctl you plan, start, show and cancel preemptions, restores and remediations. It connects only to Temporal and needs
no vCenter password.

## Connection

Each setting is taken from its flag, or else from the environment, or else from its default. An empty flag is
wrong usage; it never selects another namespace.

| setting | flag | environment | default |
| --- | --- | --- | --- |
| address | ` + "`-s`, `--server` | `TEMPORAL_URL`, then `TEMPORAL_ADDRESS` | `localhost:7233`" + ` |
| namespace | ` + "`-n`, `--namespace` | `TEMPORAL_NAMESPACE` | `vsphere-preemption`" + ` |
| task queue | ` + "`-q`, `--queue` | `TEMPORAL_TASKQUEUE` | `vsphere-preemption`" + ` |
| TLS, API key, headers | | ` + "`TEMPORAL_TLS_*`, `TEMPORAL_API_KEY`, `TEMPORAL_GRPC_META_*`" + ` | none |
| profile file | | ` + "`TEMPORAL_CONFIG_FILE`, `TEMPORAL_PROFILE`" + ` | read only where one of them is set |

## Output

| flags | stdout | stderr |
| --- | --- | --- |
| none | the result as a table | notices, warnings |
| ` + "`-o json`, `-o yaml`" + ` | the result itself | notices, warnings |
| ` + "`--json`" + ` | JSON log lines, the result in one of them | notices |
| ` + "`--json -o …`" + ` | the result itself | JSON log lines |

With ` + "`--json`" + ` alone, the log lines are the prototype's, so that scripts keep working: ` + "`run`" + ` writes msg "successfully triggered workflow" with
` + "`workflowID` and `workflowRunID`; `status`" + ` writes msg "retrieved workflow status" with ` + "`status`" + `, the status as a JSON string;
` + "`cancel`" + ` writes msg "successfully cancelled workflow". Control characters in names and reasons are escaped in tables.

On a terminal tables are made to fit: less important columns are left out, and what is too long is cut, marked with ` + "`…`" + `. A pipe, ` + "`-o json` and `-o yaml`" + ` get all.

## Names

VMs, clusters, hosts and datastores are named by name, inventory path or MoRef. A worker looks them up before anything is started, so that a
wrong name ends the command with exit code 3 and starts nothing; the message says what was perhaps meant. A name that several have is wrong
usage, and the message lists them.

## Exit codes

| code | meaning |
| --- | --- |
| 0 | done |
| 1 | failed; also when any VM failed, no worker polls the task queue, or no worker runs the watch |
| 2 | wrong usage |
| 3 | not found: no such workflow, VM, cluster, host, datastore, tag, policy, schedule, watch or file, nothing to cancel; nothing was started |
| 4 | refused: cooldown, a round under way, a VM that is not tagged or is spared, no VM that goes with ` + "`--fail-empty`" + `, a schedule of that name exists, a remediation with nothing to do, a reconciliation under way |
| 130 | interrupted |
`
