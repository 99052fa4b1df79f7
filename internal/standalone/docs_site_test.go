package standalone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/program"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// docsSite is a simulated site on which the commands run.
type docsSite struct {
	site  *stack
	dir   string            // where they run: with the repository's folders, and the files that the documents speak of
	vms   []simulation.VM   // that the documents' VMs stand for
	exact map[string]string // replacements of whole words
	words *strings.Replacer // replacements of parts of words

	hidden atomic.Int32 // the exit code of the last command that failed, 0 for none
}

// docsConfig has the policies and tags of the cookbook's files besides the demo's.
const docsConfig = `
limits: {allowedTags: [preemptible, spot, night-off]}
vcenter: {aliases: [vcenter.example.org]}
policies:
  default:
    cooldown: 100ms
    criticality:
      HIGH: {action: powerOff}
      MEDIUM: {notice: 1s, action: shutdownGuest, gracePeriod: 4s, thenForce: true}
      LOW: {notice: 1s, action: shutdownGuest, gracePeriod: 4s, thenForce: false}
    withdrawWait: 2s
    lateWatch: 2s
    target: {cpu: 75, margin: 1, ifShort: partial}
    budgets: [{group: "*", minAvailable: 50%}]
    restore: {enabled: true, settle: 1s, wave: 10, giveUp: 1m}
`

// newDocsSite starts a standalone that has shown its demo and serves, and waits until then.
func newDocsSite(t *testing.T) *docsSite {
	t.Helper()
	d := &docsSite{dir: t.TempDir()}
	for _, name := range []string{"docs", "deploy", "cmd", "internal", ".ci"} {
		target, err := filepath.Abs(filepath.Join(docsRoot, name))
		if err == nil {
			err = os.Symlink(target, filepath.Join(d.dir, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	example, err := os.ReadFile(filepath.Join(docsRoot, "docs", "preemption.example.yaml"))
	if err == nil {
		err = os.WriteFile(filepath.Join(d.dir, "preemption.yaml"), withCareful(example), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	tr := newTrial(t, "--simulate", "--in-memory", "--headless", "--config", d.writeConfig(t), "--speed", "0.1")
	tr.program.Ports = Ports{}
	tr.program.beforeCheck = func(s *stack) { d.site = s }
	tr.start()
	tr.await(`(?m)` + line("serving", "until Ctrl-C"))
	if err := d.calm(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tr.signals <- os.Interrupt
		tr.end(program.Done)
	})
	d.name(t)
	d.past(t)
	return d
}

// calm keeps the load of the clusters as low as after the scenario, ends an alarm that a command has raised, and waits until
// the worker runs and vCenter is back where that is timed.
func (d *docsSite) calm(ctx context.Context) error {
	demo := d.site.knobs.demo.Load()
	for _, c := range demo.clusters {
		demo.hold(c, calmCPU)
		if err := c.gauge.Release(); err != nil {
			return err
		}
	}
	return poll(ctx, "wait until the demo has its worker and its vCenter again", func() (bool, error) {
		s := demo.status()
		return s.Worker.Up && (s.VCenter.Up || s.VCenter.Until.IsZero()), nil
	})
}

// withCareful adds the policy that the help of policy show and policy replay names.
func withCareful(example []byte) []byte {
	return bytes.Replace(example, []byte("\npolicies:\n"), []byte("\npolicies:\n  careful: {mode: observe, maxVMs: 1}\n"), 1)
}

// writeConfig writes the configuration of the worker: docsConfig with the policies of the cookbook.
func (d *docsSite) writeConfig(t *testing.T) (path string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(docsRoot, "docs", "cookbook", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the cookbook has no files (%v)", err)
	}
	text := docsConfig
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text += cookbookPolicies(string(raw))
	}
	path = filepath.Join(d.dir, "worker.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// cookbookPolicies returns the policies of a file, but for the default.
func cookbookPolicies(text string) (policies string) {
	_, text, _ = strings.Cut(text, "\npolicies:\n")
	skip := false
	for line := range strings.Lines(text) {
		switch {
		case strings.TrimSpace(line) != "" && !strings.HasPrefix(line, " "):
			return policies
		case strings.HasPrefix(line, "  ") && !strings.HasPrefix(line, "   "):
			skip = strings.HasPrefix(line, "  default:")
		}
		if !skip {
			policies += line
		}
	}
	return policies
}

// name finds or makes VMs, clusters and datastores for the names in the documents.
func (d *docsSite) name(t *testing.T) {
	t.Helper()
	vc := d.site.vcenter
	cluster := vc.Cluster(contended)
	first, second := vc.TaggedVMs(contended)[0], vc.TaggedVMs(contended)[1]
	d.vms = []simulation.VM{first, second}
	var errs []error
	for _, tag := range []string{"spot", "night-off"} {
		errs = append(errs, vc.CreateTag("preemption", tag), vc.AttachTag("preemption", tag, first.Ref))
	}
	full, err := vc.AddDatastore(contended, simulation.DatastoreOptions{Name: "vmfs-1", CapacityGB: 100, UsedGB: 20})
	_, err2 := vc.AddDatastore(contended, simulation.DatastoreOptions{Name: "nfs-1", CapacityGB: 1000})
	errs = append(errs, vc.SetHardware(first.Ref, simulation.Hardware{CPUHotAdd: true, MemoryHotAdd: true}))
	_, err3 := vc.AddDisk(first.Ref, simulation.DiskOptions{CapacityGB: 60, UsedGB: 60, Datastore: full})
	errs = append(errs, vc.SetTags(d.asker(), preemption.BeneficiaryCategory, "critical"), d.askerOff())
	event := fmt.Sprintf(docsEvent, cluster.Ref.Value)
	for _, name := range []string{"alarm.json", "event.json"} {
		errs = append(errs, os.WriteFile(filepath.Join(d.dir, name), []byte(event), 0o600))
	}
	if err := errors.Join(append(errs, err, err2, err3)...); err != nil {
		t.Fatal(err)
	}
	d.exact = map[string]string{
		"VM": first.Name, "[NAME]": "default", "FILE": "preemption.yaml", "2m": "1s", "30m": "1s", "5s": "1s",
		"/etc/vsphere-preemption/preemption.yaml": "preemption.yaml",
	}
	d.words = strings.NewReplacer(
		"/dc-1/vm/prod/web-1", first.Name, "web-1", first.Name, "web-2", second.Name, "test-vm", contended+"-app-01", "db-1", contended+"-app-02", "vm-12", first.Ref.Value, "vm-42", first.Ref.Value,
		"datastore-5", full.Value, "domain-c7", cluster.Ref.Value, "domain-c8", cluster.Ref.Value, "cluster-1", contended,
		"host-21", cluster.Hosts[0].Ref.Value, "esx-01", cluster.Hosts[0].Name,
	)
}

// asker is the VM for which the documents ask for room.
func (d *docsSite) asker() types.ManagedObjectReference {
	return d.site.vcenter.VM(contended + "-app-02")
}

// askerOff turns that VM off, where a command has turned it on.
func (d *docsSite) askerOff() error {
	if d.site.vcenter.PowerState(d.asker()) != types.VirtualMachinePowerStatePoweredOn {
		return nil
	}
	return d.site.vcenter.PowerOffAs(d.asker(), "CORP\\dba")
}

// docsEvent is an alarm on the contended cluster.
const docsEvent = `{"specversion": "1.0", "id": "1", "source": "https://vcenter.example.org/sdk",
"type": "com.vmware.event.router/event", "subject": "AlarmStatusChangedEvent",
"data": {"ComputeResource": {"Name": "cluster-a", "ComputeResource": {"Type": "ClusterComputeResource", "Value": %[1]q}},
"Alarm": {"Name": "cluster-cpu-above-80", "Alarm": {"Type": "Alarm", "Value": "alarm-1"}},
"Entity": {"Name": "cluster-a", "Entity": {"Type": "ClusterComputeResource", "Value": %[1]q}}, "From": "green", "To": "red"}}`

// past asks for what the documents show as something that has happened.
func (d *docsSite) past(t *testing.T) {
	t.Helper()
	run := d.interpreter(t)
	run("past", "preemptctl remediation run vm-12 --resource memory --mode recommend --wait")
	run("past", "preemptctl remediation run datastore-5 --target-usage 95 --wait # exit code 4: there is nothing to do")
}
