package cli_test

import (
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/doctorapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
)

// fakeDiagnosis finds nothing wrong, but at the queue of the test that wants that.
func fakeDiagnosis(ctx workflow.Context, in doctorapi.Input) (doctorapi.Result, error) {
	r := doctorapi.Result{Worker: "worker-1@here", Version: "v1", Checks: []doctorapi.Check{
		{Name: "vCenter login", State: doctorapi.OK, Text: "as somebody"},
		{Name: "tag preemptible", State: doctorapi.Warning, Text: "on 0 VMs", Remedy: "attach it"},
	}}
	switch workflow.GetInfo(ctx).TaskQueueName {
	case "TestDoctorTellsWhatIsWrongAndWhatToDo":
		r.Checks = append(r.Checks, doctorapi.Check{Name: "rule x", State: doctorapi.Failed, Text: "evil \x1b[31m", Remedy: "correct it"})
		r.Rules = 1
	}
	if in.AttributeVM != "" {
		r.Checks = append(r.Checks,
			doctorapi.Check{Name: "attribute length", State: doctorapi.OK, Text: "tried on " + in.AttributeVM},
			doctorapi.Check{Name: "privileges", State: doctorapi.Warning, Text: "lacks it on vm-12 (db (prod) 1) and vm-13 (db 2); workflow evict@db%201 waits"})
	}
	return r, nil
}

// diagnosis is what doctor -o json prints.
type diagnosis struct {
	Worker string
	Checks []doctorapi.Check
}

func (d diagnosis) find(t *testing.T, name string) doctorapi.Check {
	t.Helper()
	for _, c := range d.Checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("there is no check %q in %+v", name, d.Checks)
	return doctorapi.Check{}
}

func TestDoctorOnASoundSiteEndsWell(t *testing.T) {
	s := newSite(t, true)
	got := s.run("doctor")
	got.want(t, 0, "stdout", "Temporal ", "answers at "+s.address, "namespace vsphere-preemption", "worker-1@here looked, of version v1",
		"vCenter login", "warning", "on 0 VMs; attach it", "watch ", "none, as the worker has no rules")
}

func TestDoctorTellsWhatIsWrongAndWhatToDo(t *testing.T) {
	s := newSite(t, true)
	got := s.run("doctor", "-o", "json")
	got.want(t, 1, "stderr", "Error: 2 of ", " checks failed")
	d := decode[diagnosis](t, got.stdout)
	if c := d.find(t, "rule x"); c.State != doctorapi.Failed || c.Remedy != "correct it" {
		t.Errorf("%+v", c)
	}
	if c := d.find(t, "watch"); c.State != doctorapi.Failed || c.Remedy == "" {
		t.Errorf("rules without a watch: %+v", c)
	}
	s.run("doctor").want(t, 1, "stdout", `evil \x1b[31m; correct it`)
	s.run("doctor", "-o", "yaml").want(t, 1, "stdout", "remedy: correct it")
}

func TestDoctorWithoutAWorkerLooksAtTemporalAlone(t *testing.T) {
	s := newSite(t, false)
	got := s.run("doctor")
	got.want(t, 1, "stdout", "ok ", "answers at", "failed", "no worker polls task queue "+s.queue, "start one, or compare its TEMPORAL_NAMESPACE",
		"skipped", "only a worker can check it")
	got.want(t, 1, "stderr", "Error: 1 of ")
}

func TestDoctorWithoutTemporalOrNamespace(t *testing.T) {
	got := preemptctl(t, cli.Options{}, "doctor", "-s", "127.0.0.1:1")
	got.want(t, 1, "stdout", "failed ", "cannot reach Temporal at 127.0.0.1:1: connection refused; check --server or TEMPORAL_URL", "skipped ")
	s := newSite(t, false)
	s.run("doctor", "-n", "nosuch").want(t, 1, "stdout", "failed ", `namespace "nosuch" does not exist`, "preemptctl setup --server "+s.address+" --namespace nosuch")
}

func TestDoctorTellsOfANamespaceThatIsNotSetUp(t *testing.T) {
	s := newSite(t, false)
	const name = "doctor-bare"
	_, err := s.client.WorkflowService().RegisterNamespace(t.Context(), &workflowservice.RegisterNamespaceRequest{
		Namespace: name, WorkflowExecutionRetentionPeriod: durationpb.New(2 * time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace can be used", func() bool {
		return preemptctl(t, cli.Options{}, "workflow", "list", "-s", s.address, "-n", name).code == 0
	})
	got := preemptctl(t, cli.Options{}, "doctor", "-s", s.address, "-n", name, "-o", "json")
	d := decode[diagnosis](t, got.stdout)
	if c := d.find(t, "search attribute PreemptionScope"); c.State != doctorapi.Warning || c.Remedy != "preemptctl setup --server "+s.address+" --namespace "+name {
		t.Errorf("%+v", c)
	}
	if c := d.find(t, "namespace "+name); c.State != doctorapi.Warning || !strings.HasPrefix(c.Text, "retention 2h: what has ended cannot be looked at for long") {
		t.Errorf("%+v", c)
	}
}

func TestDoctorTriesAnAttributeWhereThatIsAskedForAndPrintsNoNamesOfVMsInJSON(t *testing.T) {
	s := newSite(t, true)
	s.run("doctor", "--attribute-on", "db 1").want(t, 0, "stdout", "tried on db 1", "vm-12 (db (prod) 1)")
	got := s.run("doctor", "--attribute-on", "db 1", "-o", "json")
	d := decode[diagnosis](t, got.stdout)
	if c := d.find(t, "attribute length"); c.Text != "tried on …" {
		t.Errorf("%+v", c)
	}
	if c := d.find(t, "privileges"); c.Text != "lacks it on vm-12 and vm-13; workflow evict@… waits" {
		t.Errorf("%+v", c)
	}
}
