package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
)

func TestATypoOnTheCommandLineStartsNothingAndIsNoIncident(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	s.Polling()
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"a tag of run":         {[]string{"workflow", "run", "-w", s.ID("cli"), "--tag", "nosuch"}, 3, "nosuch"},
		"a tag of run, waited": {[]string{"workflow", "run", "-w", s.ID("cli"), "--tag", "nosuch", "--wait"}, 3, "nosuch"},
		"a tag of a plan":      {[]string{"workflow", "plan", "--tag", "nosuch"}, 3, "nosuch"},
		"a VM of evict":        {[]string{"evict", "nosuch"}, 3, "no such VM"},
		"a VM of restore":      {[]string{"restore", "nosuch"}, 3, "no such VM"},
		"a cluster of restore": {[]string{"restore", "--cluster", "wrong"}, 3, "wrong"},
		"an empty cluster":     {[]string{"restore", "--cluster", ""}, 2, "--cluster is empty"},
	} {
		if code, out, errs := s.Typed(c.args...); code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("%s: exit %d, want %d\n%s%s", name, code, c.code, out, errs)
		}
	}
	if rounds := s.Rounds(); len(rounds) != 0 {
		t.Errorf("rounds were started: %v", rounds)
	}
	if n := s.OffIn(""); n != 0 {
		t.Errorf("%d VMs are off", n)
	}
}

// incidents are the metrics by which somebody would be called.
var incidents = []string{
	"preemption_rounds_total", "preemption_restores_total", "preemption_remediations_total", "preemption_evictions_total", "preemption_plans_total",
	"preemption_rejections_total", "preemption_notifications_total", "preemption_stalled_workflows", "temporal_workflow_failed_total",
	"temporal_workflow_task_execution_failed_total", "temporal_activity_execution_failed_total", "temporal_activity_task_error_total",
}

// incidentsAt are the worker's figures by which somebody would be called, with their labels.
func incidentsAt(t *testing.T, addr string) (lines []string) {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		name, _, _ := strings.Cut(line, "{")
		if slices.Contains(incidents, name) && !strings.HasSuffix(line, " 0\n") {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}

func TestAWrongNameInAnyCommandIsNoIncident(t *testing.T) {
	t.Parallel()
	program, _ := sitetest.Program(t, "worker")
	s := sitetest.New(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	s.Must(err)
	addr := free.Addr().String()
	s.Must(free.Close())
	file := filepath.Join(t.TempDir(), "preemption.yaml")
	s.Must(os.WriteFile(file, []byte("policies: {default: {cooldown: 0s}, nightly: {maxVMs: 1}}\n"), 0o600))
	worker := s.WorkerProcess(program, "HTTP_ADDR="+addr, "PREEMPTION_CONFIG="+file)
	s.Polling()
	vm := s.VC.VMs()[0].Name
	wrong, near := vm+"x", "did you mean "
	s.Eventually("the worker answers", func() bool {
		code, _, _ := s.Typed("workflow", "plan")
		return code == 0
	})
	before := incidentsAt(t, addr)
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"workflow", "run", "-w", s.ID("cli"), "--tag", "nosuch"}, "nosuch"},
		{[]string{"workflow", "run", "-w", s.ID("cli"), "--policy", "nightli", "--wait"}, near + "nightly"},
		{[]string{"workflow", "run", "-w", s.ID("cli"), "--cluster", "clustr-a"}, near + "cluster-a"},
		{[]string{"workflow", "run", "-w", s.ID("cli"), "--cluster", "domain-c99999"}, "no such cluster"},
		{[]string{"workflow", "plan", "--cluster", "clustr-a"}, near + "cluster-a"},
		{[]string{"workflow", "plan", "--policy", "nightli"}, near + "nightly"},
		{[]string{"workflow", "plan", "--room-for", wrong}, near + vm},
		{[]string{"workflow", "list", "--vm", wrong}, near + vm},
		{[]string{"make-room", "--for", wrong}, near + vm},
		{[]string{"make-room", "--cpus", "1", "--memory", "1GiB", "--cluster", "clustr-a"}, near + "cluster-a"},
		{[]string{"evict", wrong}, near + vm},
		{[]string{"evict", wrong, "--dry-run"}, near + vm},
		{[]string{"evict", "vm-99999"}, "no such VM"},
		{[]string{"restore", wrong, "--wait"}, near + vm},
		{[]string{"restore", "--cluster", "clustr-a", "--wait"}, near + "cluster-a"},
		{[]string{"restore", "--cluster", "host-99999", "--wait"}, "no such cluster or host"},
		{[]string{"restore", "--policy", "nightli", "--wait"}, near + "nightly"},
		{[]string{"pause", "--cluster", "clustr-a", "--reason", "r"}, near + "cluster-a"},
		{[]string{"spare", wrong, "--reason", "r"}, near + vm},
		{[]string{"explain", wrong}, near + vm},
		{[]string{"explain", vm, "--policy", "nightli"}, near + "nightly"},
		{[]string{"history", "--vm", wrong}, near + vm},
		{[]string{"history", "--cluster", "clustr-a"}, near + "cluster-a"},
		{[]string{"off", "--cluster", "clustr-a"}, near + "cluster-a"},
		{[]string{"schedule", "create", s.ID("cli"), "--every", "1h", "--policy", "nightli"}, near + "nightly"},
		{[]string{"tags", "show", wrong}, near + vm},
		{[]string{"remediation", "run", wrong, "--wait"}, near + vm},
		{[]string{"remediation", "run", wrong}, near + vm},
		{[]string{"remediation", "plan", wrong, "--move"}, near + vm},
		{[]string{"remediation", "run", "--datastore", "datastor-a-1", "--wait"}, near + "datastore-a-1"},
		{[]string{"remediation", "plan", "datastore-99999"}, "no such datastore"},
		{[]string{"remediation", "show", "nosuch"}, "nosuch"},
		{[]string{"doctor", "--attribute-on", wrong}, near + vm},
	} {
		began := time.Now()
		code, out, errs := s.Typed(c.args...)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%q takes %s", c.args, took)
		}
		if code != 3 || !strings.Contains(errs, c.says) {
			t.Errorf("%q: exit %d, want 3 and %q\n%s%s", c.args, code, c.says, out, errs)
		}
	}
	if after := incidentsAt(t, addr); !slices.Equal(before, after) {
		t.Errorf("figures moved:\n%s", fmt.Sprint(slices.DeleteFunc(after, func(line string) bool { return slices.Contains(before, line) })))
	}
	if rounds := s.Rounds(); len(rounds) != 0 {
		t.Errorf("rounds were started: %v", rounds)
	}
	s.Must(worker.Process.Signal(syscall.SIGTERM))
	_ = worker.Wait()
	for line := range strings.Lines(worker.Stderr.(*bytes.Buffer).String()) {
		if strings.Contains(line, "ERROR") {
			t.Errorf("the worker's log: %s", line)
		}
	}
}
