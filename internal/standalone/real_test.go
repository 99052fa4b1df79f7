package standalone

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/program"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// real runs the program against a vCenter that is none of its own.
func real(t *testing.T, data string) (*trial, *simulation.VCenter) {
	t.Helper()
	vc, err := simulation.Start(t.Context(), simulation.Options{VMsPerCluster: 2, Tagged: 1})
	if err != nil {
		t.Fatal(err)
	}
	secret := t.TempDir()
	if err := vc.WriteSecret(secret); err != nil {
		t.Fatal(err)
	}
	tr := newTrial(t, "--headless", "--data", data).env("VCENTER_URL="+vc.URL(), "VCENTER_SECRET_PATH="+secret, "VCENTER_INSECURE=true")
	return tr, vc
}

func TestWithoutSimulationItWorksOnTheVCenterOfTheEnvironmentAndEndsNothing(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	first, _ := real(t, data)
	first.start()
	first.await(`(?m)` + line("ready", "requests are accepted"))
	open(t, first)
	first.signals <- os.Interrupt
	first.end(program.Done)
	first.saysNot("simulated", "cluster-cpu", "found")

	second, _ := real(t, data)
	second.start()
	second.await(`(?m)` + line("ready", ""))
	c := dial(t, second)
	d, err := c.DescribeWorkflowExecution(t.Context(), "left-open", "")
	if err != nil {
		t.Fatal(err)
	}
	if got := d.GetWorkflowExecutionInfo().GetStatus(); got != enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
		t.Errorf("a workflow left open is %s after a restart", got)
	}
	second.await(`(?m)` + line("vCenter", `127\.0\.0\.1:\d+, logged in as VSPHERE\.LOCAL\\preemption`))
	second.signals <- os.Interrupt
	second.end(program.Done)
	if _, err := os.Stat(filepath.Join(data, "simulation")); err == nil {
		t.Error("a simulation's folder was made without --simulate")
	}
}

func dial(t *testing.T, tr *trial) client.Client {
	t.Helper()
	c, err := client.Dial(client.Options{
		HostPort: tr.await(`temporal +(127\.0\.0\.1:\d+),`)[1], Namespace: preemption.DefaultNamespace,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func open(t *testing.T, tr *trial) {
	t.Helper()
	_, err := dial(t, tr).ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "left-open", TaskQueue: "nobody"}, "Unknown")
	if err != nil {
		t.Fatal(err)
	}
}

func TestAVCenterThatIsNotThereIsWaitedFor(t *testing.T) {
	t.Parallel()
	tr, vc := real(t, t.TempDir())
	vc.Close()
	tr.start()
	tr.await(`(?m)` + line("vCenter", "cannot be used yet, requests wait until it can: "))
	tr.signals <- os.Interrupt
	tr.end(program.Done)
}

func TestATakenHealthAddressIsAnErrorOnlyWhereItWasAskedFor(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tr := newTrial(t, "--simulate", "--once", "--in-memory", "--headless").env("HTTP_ADDR=" + l.Addr().String()).run(program.Failed)
	tr.complains("HTTP_ADDR", l.Addr().String())
	tr.saysNot("found")
}

func TestTwoProcessesDoNotShareAFolder(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	first := newTrial(t, "--simulate", "--headless", "--data", data)
	first.start()
	first.await(`(?m)` + line("temporal", ""))
	second := newTrial(t, "--simulate", "--once", "--headless", "--data", data).run(program.Failed)
	second.complains("in use by another process", "--data")
	first.await(`(?m)` + line("serving", ""))
	first.signals <- os.Interrupt
	first.end(program.Done).quiet()
	if strings.Contains(first.out.String(), "mismatch") {
		t.Error(first.out.String())
	}
}
