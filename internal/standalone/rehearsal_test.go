package standalone

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/program"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// savedSite is the inventory of a small site as govc would save it: of cluster-a's three batch VMs one is a template.
func savedSite(t *testing.T) (dir string) {
	t.Helper()
	vc, err := simulation.Start(t.Context(), simulation.Options{Clusters: 2, HostsPerCluster: 1, VMsPerCluster: 4, Tagged: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer vc.Close()
	template := vc.VM("cluster-a-batch-03")
	if err := vc.SetPowerState(template, types.VirtualMachinePowerStatePoweredOff); err != nil {
		t.Fatal(err)
	}
	if err := vc.SetTemplate(template); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "site")
	if err := vc.Save(context.Background(), dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func rehearse(dir string, more ...string) []string {
	return append([]string{"--simulate", "--once", "--in-memory", "--headless", "--inventory", dir, "--tagged", "*-batch-*"}, more...)
}

func TestAnAlarmIsRehearsedOnASavedInventory(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, rehearse(savedSite(t), "--alarm", "Host CPU", "--on", "cluster-a", "--red")...).run(program.Done).quiet()
	tr.says(
		line("start", "vsphere-preemption standalone .*a twin of the vCenter saved in .*site; the real one is not touched"),
		line("watch", "vcenter-watch@vsphere-preemption follows vCenter's events, with 1 rules: Host CPU"),
		line("vCenter", `cluster-a \(domain-c\d+\): 1 host, 4 VMs of which 3 are on, \d+ % CPU`),
		line("vCenter", `cluster-b \(domain-c\d+\): 1 host, 4 VMs of which 4 are on`),
		line("tagged", "6 of 8 VMs carry preemptible: cluster-a-batch-01, cluster-a-batch-02"),
		line("alarm", "Host CPU on cluster-a: green to red"),
		line("found", "6 VMs tagged preemptible: 2 chosen, 4 left as they are"),
		line("left", `3 it is not in the contended cluster \(out_of_scope\): cluster-b-batch-01`),
		line("left", `1 it is a template \(template\): cluster-a-batch-03`),
		line("done", "round completed"),
		"^Result", `^total +2 of 2`, "^Why the others stay", `^3 +out_of_scope`,
		line("checked", "vCenter agrees with the result about all 8 VMs: 2 are off and annotated, 6 are as before"),
	)
}

func TestARehearsalActsByTheFileOfTheSiteAndTellsNobodyOutside(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "preemption.yaml")
	text := `
policies:
  default:
    maxVMs: 1
rules:
  - alarm: "Host*"
    preempt:
      tag: preemptible
      replyTo: http://192.0.2.1/reply
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	tr := newTrial(t, rehearse(savedSite(t), "--config", file, "--alarm", "Host CPU", "--on", "esx-b-1", "--red")...)
	var site *stack
	tr.program.beforeCheck = func(s *stack) { site = s }
	tr.run(program.Done)
	tr.says(line("alarm", "Host CPU on esx-b-1: green to red"), line("found", "6 VMs tagged preemptible: 1 chosen, 5 left as they are"), line("checked", ""))
	if n := len(site.set.File.Rules); n != 1 {
		t.Errorf("%d rules: only those of the file count", n)
	}
	for _, r := range append(site.set.File.Rules, site.receiver.Rules...) {
		if p, ok := r.Action.(trigger.Preempt); !ok || p.ReplyTo != "" {
			t.Errorf("rule %s answers to %q", r.Name(), p.ReplyTo)
		}
	}
}

func TestWhatCannotBeRehearsedIsRefused(t *testing.T) {
	t.Parallel()
	dir := savedSite(t)
	for name, tc := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"not a simulation":         {[]string{"--inventory", dir}, program.Usage, []string{"--simulate"}},
		"no inventory":             {[]string{"--simulate", "--alarm", "a", "--on", "b", "--red"}, program.Usage, []string{"--inventory"}},
		"no alarm":                 {rehearse(dir, "--red"), program.Usage, []string{"--alarm"}},
		"no place":                 {rehearse(dir, "--alarm", "a", "--red"), program.Usage, []string{"--on"}},
		"no colour":                {rehearse(dir, "--alarm", "a", "--on", "b"), program.Usage, []string{"--red", "--yellow"}},
		"a name that is none":      {rehearse(dir, "--alarm", "a\x1b[31m", "--on", "b", "--red"), program.Usage, []string{"control characters"}},
		"a name without end":       {rehearse(dir, "--alarm", strings.Repeat("a", 5000), "--on", "b", "--red"), program.Usage, []string{"255 bytes"}},
		"two colours":              {rehearse(dir, "--alarm", "a", "--on", "b", "--red", "--yellow"), program.Usage, []string{"--red", "--yellow"}},
		"a glob that is none":      {rehearse(dir, "--tagged", "[a"), program.Usage, []string{`"[a"`}},
		"a place that is not":      {rehearse(dir, "--alarm", "a", "--on", "nosuch", "--red"), program.Failed, []string{"nosuch", "cluster-a (domain-c", "esx-a-1 (host-"}},
		"a folder that is not":     {rehearse("/no/such/folder"), program.Failed, []string{"/no/such/folder"}},
		"a folder of other things": {rehearse(t.TempDir()), program.Failed, []string{"govc object.save"}},
	} {
		t.Run(name, func(t *testing.T) {
			newTrial(t, tc.args...).run(tc.code).complains(tc.want...)
		})
	}
}

func TestARehearsalWithoutAnAlarmTellsWhatCarriesTheTag(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, "--simulate", "--once", "--in-memory", "--headless", "--inventory", savedSite(t)).run(program.Done)
	tr.says(line("tagged", "0 of 8 VMs carry preemptible"), line("tagged", "tags are read from tags.json"))
	tr.saysNot("alarm   ")
}
