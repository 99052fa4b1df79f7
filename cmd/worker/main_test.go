package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/program/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m, "worker") }

// away is a complete environment in which neither Temporal nor vCenter answers.
func away(more ...string) []string {
	return append([]string{
		"TEMPORAL_URL=127.0.0.1:1", "TEMPORAL_NAMESPACE=ns", "TEMPORAL_TASKQUEUE=q",
		"VCENTER_URL=https://127.0.0.1:1/sdk", "VCENTER_SECRET_PATH=/no/such/folder", "HTTP_ADDR=127.0.0.1:0",
	}, more...)
}

func TestTheBinarysFlagsAndConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(file, []byte("limits:\n  vcenterCalls: 99\nrules: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pem := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(pem, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		env, args      []string
		code           int
		stdout, stderr []string
	}{
		"--version":                      {nil, []string{"--version"}, 0, []string{"worker v1.2.3 (commit abcdef, 2026-01-02T03:04:05Z, go1."}, nil},
		"--help":                         {nil, []string{"--help"}, 0, []string{"Usage: worker", "--config FILE", "TEMPORAL_URL", "VCENTER_URL", "Exit codes"}, nil},
		"an unknown flag":                {away(), []string{"--nope"}, 2, nil, []string{"worker: flag provided but not defined: -nope; see worker --help"}},
		"an argument":                    {away(), []string{"start"}, 2, nil, []string{`worker: unexpected argument "start"`}},
		"no environment":                 {nil, nil, 2, nil, []string{"  - TEMPORAL_URL: not set", "  - TEMPORAL_NAMESPACE: not set", "  - TEMPORAL_TASKQUEUE: not set", "  - VCENTER_URL: not set"}},
		"a file that is missing":         {away(), []string{"--config", "/no/such.yaml"}, 2, nil, []string{"  - configuration file: open /no/such.yaml: no such file or directory"}},
		"a bad file by -f":               {away(), []string{"-f", file}, 2, nil, []string{"  - " + file + ":2: limits.vcenterCalls: 99 is not within 1 to 50", "  - " + file + ":3: rules: wants a list of rules"}},
		"a bad file by variable":         {away("PREEMPTION_CONFIG=" + file), nil, 2, nil, []string{file + ":2: limits.vcenterCalls"}},
		"environment and file":           {away("DEBUG=maybe", "PREEMPTION_CONFIG="+file), nil, 2, nil, []string{`  - DEBUG: "maybe"`, file + ":2: "}},
		"a trace format of another time": {away("OTEL_TRACES_EXPORTER=zipkin", "DEBUG=maybe"), nil, 2, nil, []string{`  - DEBUG: "maybe"`, `  - OTEL_TRACES_EXPORTER: "zipkin" is not supported: set otlp or none`}},
		"headers for traces that are none": {
			away("OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", "OTEL_EXPORTER_OTLP_HEADERS=hunter2", "OTEL_EXPORTER_OTLP_PROTOCOL=http/json"),
			nil, 2, nil,
			[]string{"  - OTEL_EXPORTER_OTLP_HEADERS: entry 1 is not of the form name=value\n", `  - OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" is not supported: set http/protobuf or grpc`},
		},
		"a console that all could read":   {away("UI_ADDR=:0"), nil, 2, nil, []string{"UI_ADDR: the console would be open to everybody", "set UI_TOKEN_FILE or UI_TRUSTED_HEADER"}},
		"a console's token that is away":  {away("UI_ADDR=:0", "UI_TOKEN_FILE=/no/such"), nil, 2, nil, []string{"UI_TOKEN_FILE: read the token: "}},
		"a CA file without a certificate": {away("VCENTER_CA_FILE=" + pem), nil, 2, nil, []string{"VCENTER_CA_FILE must name a PEM file"}},
	} {
		t.Run(name, programtest.Run{Env: c.env, Args: c.args, Code: c.code, Stdout: c.stdout, Stderr: c.stderr}.Check)
	}
}

func TestATakenExplicitAddressEndsTheWorker(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cmd, _, stderr := programtest.Command(t, away("HTTP_ADDR="+taken.Addr().String()))
	_ = cmd.Run() // the exit code tells
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(stderr.String(), "HTTP_ADDR") {
		t.Errorf("exit code %d, want 1 and a word on HTTP_ADDR:\n%s", code, stderr)
	}
}

func TestAWorkerLivesUnreadyWhileNothingAnswersAndStopsOnASignal(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	cmd, _, stderr := programtest.Command(t, away("HTTP_ADDR="+addr, "VCENTER_INSECURE=true"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	code, body := await(t, addr, "/readyz")
	if code != http.StatusServiceUnavailable || !strings.Contains(body, "polling: not polling task queue q") || !strings.Contains(body, "vcenter: connect to 127.0.0.1:1: ") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	if code, body := await(t, addr, "/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("/healthz: %d %s", code, body)
	}
	if code, body := await(t, addr, "/metrics"); code != http.StatusOK || !strings.Contains(body, `version="v1.2.3"`) ||
		!strings.Contains(body, `preemption_plans_total{policy="default",result="short"} 0`) {
		t.Errorf("/metrics: %d %s", code, body)
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(stderr.String(), "waiting for Temporal") && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("a signal must end it with 0: %v", err)
	}
	for _, want := range []string{
		`"level":"WARN","msg":"waiting for Temporal","temporal":"127.0.0.1:1","namespace":"ns"`, `"reason":"VCENTER_INSECURE=true"`,
		`"msg":"vCenter cannot be used; requests wait until it can"`, "connection refused", `"msg":"worker stopped"`,
	} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, stderr)
		}
	}
}

// await asks until there is an answer.
func await(t *testing.T, addr, path string) (int, string) {
	t.Helper()
	for range 200 {
		resp, err := http.Get("http://" + addr + path)
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	t.Fatalf("nothing answers on %s", addr)
	return 0, ""
}

func TestTheBinaryStaysSmall(t *testing.T) {
	size := programtest.Size(t)
	t.Logf("%.2f MB", float64(size)/1e6)
	// Half a MiB of it is the Prometheus client, which brings figures of the Go runtime and the process besides ours,
	// and as much are remediation and the types of the vSphere API that it uses, and those of its storage policies.
	// The console with its pages, scripts and charts is two thirds of a MiB.
	// The channels of notifications brought half a MiB: seven services of their library, chosen one by one.
	// Tracing brought one and a half MiB: the SDK of OpenTelemetry, OTLP, and its two protocols.
	if size > 43<<20 {
		t.Errorf("the stripped worker has %d bytes; the limit is 43 MiB", size)
	}
}

func TestNothingHeavyIsLinked(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.Lines(string(out)) {
		for _, heavy := range []string{"go.temporal.io/server", "github.com/vmware/govmomi/simulator", "github.com/temporalio/ui-server", "modernc.org/sqlite"} {
			if strings.HasPrefix(path, heavy) {
				t.Errorf("the worker links %s", path)
			}
		}
	}
}
