package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/doctorapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
)

// environment is a made-up environment.
type environment map[string]string

func (e environment) LookupEnv(key string) (string, bool) { v, ok := e[key]; return v, ok }

func (e environment) Environ() (all []string) {
	for k, v := range e {
		all = append(all, k+"="+v)
	}
	return all
}

// outcome is what one run of the program left behind.
type outcome struct {
	code           int
	stdout, stderr string
}

// preemptctl runs the program in process.
func preemptctl(t *testing.T, o cli.Options, args ...string) outcome {
	t.Helper()
	return preemptctlWith(t.Context(), t, o, args...)
}

func preemptctlWith(ctx context.Context, t *testing.T, o cli.Options, args ...string) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	o.Args, o.Stdout, o.Stderr = args, &out, &errs
	if o.Env == nil {
		o.Env = environment{}
	}
	if o.Stdin == nil {
		o.Stdin = strings.NewReader("")
	}
	code := cli.Run(ctx, o)
	return outcome{code, out.String(), errs.String()}
}

// want checks the exit code and that texts appear on the stream named before them: "stdout" or "stderr".
func (o outcome) want(t *testing.T, code int, stream string, texts ...string) {
	t.Helper()
	if o.code != code {
		t.Fatalf("exit code %d, want %d\nstdout:\n%s\nstderr:\n%s", o.code, code, o.stdout, o.stderr)
	}
	got := o.stdout
	if stream == "stderr" {
		got = o.stderr
	}
	for _, text := range texts {
		if !strings.Contains(got, text) {
			t.Errorf("%s lacks %q:\n%s", stream, text, got)
		}
	}
}

// temporal is the one server of all tests of this package.
var temporal = sync.OnceValues(func() (*sitetest.TemporalServer, error) {
	server, err := sitetest.StartServer(0)
	if err == nil {
		stopTemporal = server.Stop
	}
	return server, err
})

var stopTemporal = func() {}

func TestMain(m *testing.M) {
	sitetest.ServeTemporal()
	sitetest.WaitSideBySide(12)
	code := m.Run()
	stopTemporal()
	os.Exit(code)
}

// site is a task queue of its own on the server, with or without a worker.
type site struct {
	t       *testing.T
	address string
	queue   string
	client  client.Client
	last    string // the remediation that newest returned last
}

func newSite(t *testing.T, withWorker bool) *site {
	t.Helper()
	server, err := temporal()
	if err != nil {
		t.Fatal(err)
	}
	quiet := sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler))
	c, err := client.Dial(client.Options{HostPort: server.HostPort(), Namespace: preemption.DefaultNamespace, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s := &site{t: t, address: server.HostPort(), queue: strings.ReplaceAll(t.Name(), "/", "-"), client: c}
	if !withWorker {
		return s
	}
	w := worker.New(c, s.queue, worker.Options{WorkerStopTimeout: time.Millisecond})
	w.RegisterWorkflowWithOptions(fakeIntake, workflow.RegisterOptions{Name: preemption.WorkflowName})
	w.RegisterWorkflowWithOptions(fakeRound, workflow.RegisterOptions{Name: preemptapi.RoundType})
	w.RegisterWorkflowWithOptions(fakePlan, workflow.RegisterOptions{Name: preemptapi.PlanType})
	w.RegisterWorkflowWithOptions(fakeNames, workflow.RegisterOptions{Name: preemptapi.NamesType})
	w.RegisterWorkflowWithOptions(fakeRestore, workflow.RegisterOptions{Name: preemptapi.RestoreType})
	w.RegisterWorkflowWithOptions(fakeMakeRoom, workflow.RegisterOptions{Name: preemption.MakeRoomWorkflowName})
	registerRemedies(w)
	w.RegisterWorkflowWithOptions(fakeDiagnosis, workflow.RegisterOptions{Name: doctorapi.Type})
	w.RegisterWorkflowWithOptions(fakeLedger, workflow.RegisterOptions{Name: "PreemptionLedger"})
	w.RegisterActivityWithOptions(fakePlanRound, activity.RegisterOptions{Name: preemptapi.PlanActivity})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	s.awaitPoller()
	return s
}

// awaitPoller waits until the server has seen the worker.
func (s *site) awaitPoller() {
	s.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		d, err := s.client.DescribeTaskQueue(s.t.Context(), s.queue, 1)
		if err == nil && len(d.GetPollers()) > 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Fatal("no worker was seen at the task queue")
}

// id is a workflow id of this site alone.
func (s *site) id() string { return "intake-" + s.queue }

// run runs the program against the site.
func (s *site) run(args ...string) outcome {
	s.t.Helper()
	return s.runCtx(s.t.Context(), args...)
}

func (s *site) runCtx(ctx context.Context, args ...string) outcome {
	s.t.Helper()
	return preemptctlWith(ctx, s.t, cli.Options{}, append(args, "-s", s.address, "-q", s.queue)...)
}

// decode reads JSON output.
func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("no JSON: %v\n%s", err, text)
	}
	return v
}

// eventually runs f until it is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("it never came true that %s", what)
}

// promised is how long a command may take that promises an answer within five seconds: a busy machine takes longer.
const promised = 15 * time.Second

// optionsAt are options whose clock stands still.
func optionsAt(now time.Time) cli.Options { return cli.Options{Now: func() time.Time { return now }} }
