package main

import (
	"bytes"
	"fmt"
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

func TestMain(m *testing.M) { programtest.Main(m, name) }

// away is a complete environment in which Temporal does not answer.
func away(more ...string) []string {
	return append([]string{
		"TEMPORAL_URL=127.0.0.1:1", "TEMPORAL_NAMESPACE=ns", "TEMPORAL_TASKQUEUE=q",
		"VSPHERE_ALARM_NAME=cluster-cpu-above-80", "VSPHERE_PREEMPTION_TAG=preemptible",
	}, more...)
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheBinarysFlagsAndConfiguration(t *testing.T) {
	bad, empty := file(t, "limits:\n  vcenterCalls: 99\n"), file(t, " \n")
	for name, c := range map[string]struct {
		env, args      []string
		code           int
		stdout, stderr []string
	}{
		"--version": {nil, []string{"--version"}, 0, []string{"kn-go-preemption v1.2.3 (commit abcdef, 2026-01-02T03:04:05Z, go1."}, nil},
		"--help": {nil, []string{"--help"}, 0, []string{
			"Usage: kn-go-preemption", "--config FILE", "TEMPORAL_URL*", "TEMPORAL_NAMESPACE*", "TEMPORAL_TASKQUEUE*", "VSPHERE_ALARM_NAME",
			"VSPHERE_PREEMPTION_TAG", "K_SINK", "PREEMPTION_CONFIG", "RECEIVER_TOKEN_FILE", "PORT", "DEBUG", "LOG_FORMAT", "Exit codes",
		}, nil},
		"an unknown flag":                      {away(), []string{"--nope"}, 2, nil, []string{"kn-go-preemption: flag provided but not defined: -nope; see kn-go-preemption --help"}},
		"an argument":                          {away(), []string{"start"}, 2, nil, []string{`kn-go-preemption: unexpected argument "start"`}},
		"a protocol of traces that it has not": {away("OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=http/json"), nil, 2, nil, []string{`OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" is not supported`}},
		"no environment": {nil, nil, 2, nil, []string{
			"  - TEMPORAL_URL: not set", "  - TEMPORAL_NAMESPACE: not set", "  - TEMPORAL_TASKQUEUE: not set",
			"  - VSPHERE_ALARM_NAME: not set", "  - VSPHERE_PREEMPTION_TAG: not set",
		}},
		"all that is wrong": {away("PORT=http", "DEBUG=maybe", "K_SINK=ftp://x", "RECEIVER_TOKEN_FILE=/no/such", "PREEMPTION_CONFIG="+bad), nil, 2, nil, []string{
			`  - PORT: "http"`, `  - DEBUG: "maybe"`, "  - K_SINK: ", "  - RECEIVER_TOKEN_FILE: read the token: stat /no/such: no such file", "  - " + bad + ":2: limits.vcenterCalls",
		}},
		"a file that is missing":   {away(), []string{"--config", "/no/such.yaml"}, 2, nil, []string{"  - configuration file: open /no/such.yaml"}},
		"a bad file by -f":         {away(), []string{"-f", bad}, 2, nil, []string{"  - " + bad + ":2: limits.vcenterCalls"}},
		"a token file without one": {away("RECEIVER_TOKEN_FILE=" + empty), nil, 2, nil, []string{"  - RECEIVER_TOKEN_FILE: read the token: " + empty + " is empty"}},
	} {
		t.Run(name, programtest.Run{Env: c.env, Args: c.args, Code: c.code, Stdout: c.stdout, Stderr: c.stderr}.Check)
	}
}

func TestATakenPortEndsTheReceiver(t *testing.T) {
	taken, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cmd, _, stderr := programtest.Command(t, away(fmt.Sprintf("PORT=%d", taken.Addr().(*net.TCPAddr).Port)))
	_ = cmd.Run() // the exit code tells
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(stderr.String(), "set PORT to a free port") {
		t.Errorf("exit code %d, want 1 and a word on PORT:\n%s", code, stderr)
	}
}

// start runs the receiver on a free port and waits until it answers.
func start(t *testing.T, env ...string) (cmd *exec.Cmd, url string, stderr *programtest.Output) {
	t.Helper()
	free, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	cmd, _, stderr = programtest.Command(t, away(append(env, fmt.Sprintf("PORT=%d", port))...))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url = fmt.Sprintf("http://127.0.0.1:%d", port)
	for range 500 {
		resp, err := http.Get(url + "/healthz")
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("/healthz: %s", resp.Status)
		}
		return cmd, url, stderr
	}
	t.Fatalf("nothing answers on %s:\n%s", url, stderr)
	return nil, "", nil
}

func ask(t *testing.T, method, url string, body io.Reader, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestAReceiverAnswersWhileTemporalIsAwayAndStopsOnASignal(t *testing.T) {
	event, err := os.ReadFile("../../testdata/alarm-green-to-red-host1.structured.json")
	if err != nil {
		t.Fatal(err)
	}
	token := file(t, "a-secret-token\n")
	cmd, url, stderr := start(t, "RECEIVER_TOKEN_FILE="+token, "DEBUG=true")
	if code, body := ask(t, "GET", url+"/readyz", nil); code != 503 || !strings.HasPrefix(body, "temporal: no answer: ") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	if code, body := ask(t, "POST", url, bytes.NewReader(event), "Content-Type", "application/cloudevents+json"); code != 401 {
		t.Errorf("an event without the token: %d %s", code, body)
	}
	if code, body := ask(t, "POST", url, bytes.NewReader(event), "Content-Type", "application/cloudevents+json", "Authorization", "Bearer a-secret-token"); code != 503 || !strings.Contains(body, "send it again") {
		t.Errorf("the alarm: %d %s", code, body)
	}
	other := strings.ReplaceAll(string(event), "cluster-cpu-above-80", "another alarm")
	if code, body := ask(t, "POST", url, strings.NewReader(other), "Authorization", "Bearer a-secret-token", "Accept", "*/*"); code != 200 || !strings.Contains(body, `no rule is on alarm \"another alarm\"`) {
		t.Errorf("another alarm: %d %s", code, body)
	}
	if code, body := ask(t, "GET", url+"/metrics", nil); code != 200 || !strings.Contains(body, `preemption_receiver_events_total{result="unavailable",type="AlarmStatusChangedEvent"} 1`) || !strings.Contains(body, `version="v1.2.3"`) {
		t.Errorf("/metrics: %d %s", code, body)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("a signal must end it with 0: %v", err)
	}
	for _, want := range []string{
		`"msg":"receiver started"`, `"rules":1,"token":true,"version":"v1.2.3"`, `"msg":"Temporal does not answer: events are answered with 503 until it does"`,
		`"msg":"event refused","result":"unavailable","status":503`, `"msg":"event ignored"`, `"msg":"receiver stopped"`,
	} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, stderr)
		}
	}
	if strings.Contains(stderr.String(), "a-secret-token") {
		t.Errorf("the log tells the token:\n%s", stderr)
	}
}

func TestTheBinaryStaysSmall(t *testing.T) {
	size := programtest.Size(t)
	t.Logf("%.2f MB", float64(size)/1e6)
	if size > 30<<20 {
		t.Errorf("the stripped receiver has %d bytes; the limit is 30 MiB", size)
	}
}

func TestNothingHeavyIsLinked(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.Lines(string(out)) {
		for _, heavy := range []string{
			"go.temporal.io/server", "go.temporal.io/sdk/worker", "github.com/vmware/govmomi", "github.com/temporalio/ui-server", "modernc.org/sqlite",
		} {
			if strings.HasPrefix(path, heavy) {
				t.Errorf("the receiver links %s", path)
			}
		}
	}
}
