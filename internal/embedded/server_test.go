package embedded

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

const queue = "test"

func echoActivity(_ context.Context, s string) (string, error) { return s, nil }

func echoWorkflow(ctx workflow.Context, s string) (string, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 10 * time.Second})
	var out string
	err := workflow.ExecuteActivity(ctx, echoActivity, s).Get(ctx, &out)
	return out, err
}

func mustStart(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func dial(t testing.TB, s *Server) client.Client {
	t.Helper()
	c, err := client.Dial(client.Options{
		HostPort: s.HostPort(), Namespace: s.Namespace(),
		Logger: sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func startWorker(t testing.TB, c client.Client) worker.Worker {
	t.Helper()
	w := worker.New(c, queue, worker.Options{})
	w.RegisterWorkflow(echoWorkflow)
	w.RegisterActivity(echoActivity)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return w
}

func runEcho(ctx context.Context, c client.Client, o client.StartWorkflowOptions) (string, error) {
	o.TaskQueue = queue
	run, err := c.ExecuteWorkflow(ctx, o, echoWorkflow, "hello")
	if err != nil {
		return "", err
	}
	var out string
	return out, run.Get(ctx, &out)
}

func mustEcho(t testing.TB, c client.Client, o client.StartWorkflowOptions) {
	t.Helper()
	if out, err := runEcho(t.Context(), c, o); err != nil || out != "hello" {
		t.Fatalf("workflow answered %q, %v", out, err)
	}
}

func TestInMemoryServerRunsAWorkflowAndFreesItsPort(t *testing.T) {
	t.Parallel()
	var logs bytes.Buffer
	began := time.Now()
	s := mustStart(t, Options{InMemory: true, Logger: slog.New(slog.NewTextHandler(&logs, nil))})
	up := time.Since(began)
	c := dial(t, s)
	w := startWorker(t, c)
	mustEcho(t, c, client.StartWorkflowOptions{})
	t.Logf("Start took %v, first workflow done after %v", up, time.Since(began))

	if s.Namespace() != defaultNamespace || s.UIURL() != "" {
		t.Errorf("namespace %q, UI %q", s.Namespace(), s.UIURL())
	}
	w.Stop()
	c.Close()
	s.Stop()
	s.Stop()
	l, err := net.Listen("tcp", s.HostPort())
	if err != nil {
		t.Errorf("the port is not free after Stop: %v", err)
	} else {
		_ = l.Close()
	}
	if logs.Len() > 0 {
		t.Errorf("a normal life was logged:\n%s", logs.String())
	}
}

func TestFileSurvivesARestart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	attrs := map[string]enums.IndexedValueType{"PreemptionAlarm": enums.INDEXED_VALUE_TYPE_KEYWORD}
	s := mustStart(t, Options{Dir: dir, Retention: 48 * time.Hour, SearchAttributes: attrs})
	c := dial(t, s)
	w := startWorker(t, c)
	mustEcho(t, c, client.StartWorkflowOptions{ID: "kept"})

	_, err := Start(t.Context(), Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "another --data folder") {
		t.Errorf("second start on the same folder: %v", err)
	}
	w.Stop()
	c.Close()
	s.Stop()
	assertFiles(t, dir)

	attrs["PreemptionState"] = enums.INDEXED_VALUE_TYPE_KEYWORD
	s = mustStart(t, Options{Dir: dir, SearchAttributes: attrs})
	c = dial(t, s)
	var out string
	if err := c.GetWorkflow(t.Context(), "kept", "").Get(t.Context(), &out); err != nil || out != "hello" {
		t.Errorf("after the restart: %q, %v", out, err)
	}
	assertRetention(t, c, s, 48*time.Hour)
	if n := count(t, c, "PreemptionState IS NULL"); n != 1 {
		t.Errorf("an attribute added at the second start finds %d workflows", n)
	}
	s.Stop()
	attrs["PreemptionState"] = enums.INDEXED_VALUE_TYPE_INT
	if _, err := Start(t.Context(), Options{Dir: dir, SearchAttributes: attrs}); err == nil ||
		!strings.Contains(err.Error(), "PreemptionState has type Keyword, wanted Int") {
		t.Errorf("attribute of another type: %v", err)
	}
}

func assertFiles(t *testing.T, dir string) {
	t.Helper()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data folder: %v, %v", info.Mode(), err)
	}
	info, err := os.Stat(filepath.Join(dir, "temporal-1.32.1.db"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("data file: %v, %v", info, err)
	}
	wal, err := os.Stat(filepath.Join(dir, "temporal-1.32.1.db-wal"))
	if err == nil && wal.Size() > 0 {
		t.Errorf("%d bytes are left outside the data file", wal.Size())
	}
}

func assertRetention(t *testing.T, c client.Client, s *Server, want time.Duration) {
	t.Helper()
	ns, err := c.WorkflowService().DescribeNamespace(t.Context(),
		&workflowservice.DescribeNamespaceRequest{Namespace: s.Namespace()})
	if err != nil {
		t.Fatal(err)
	}
	if got := ns.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration(); got != want {
		t.Errorf("retention %v, want %v", got, want)
	}
}

func count(t *testing.T, c client.Client, query string) int64 {
	t.Helper()
	got, err := c.CountWorkflow(t.Context(), &workflowservice.CountWorkflowExecutionsRequest{Query: query})
	if err != nil {
		t.Fatal(err)
	}
	return got.GetCount()
}

func TestSearchAttributesFindWorkflows(t *testing.T) {
	t.Parallel()
	s := mustStart(t, Options{InMemory: true, SearchAttributes: map[string]enums.IndexedValueType{
		"PreemptionAlarm": enums.INDEXED_VALUE_TYPE_KEYWORD,
		"PreemptionScope": enums.INDEXED_VALUE_TYPE_KEYWORD,
	}})
	c := dial(t, s)
	startWorker(t, c)
	scope := temporal.NewSearchAttributeKeyKeyword("PreemptionScope")
	mustEcho(t, c, client.StartWorkflowOptions{TypedSearchAttributes: temporal.NewSearchAttributes(scope.ValueSet("domain-c7"))})
	err := retry(t.Context(), func() error {
		if n := count(t, c, "PreemptionScope = 'domain-c7' AND PreemptionAlarm IS NULL"); n != 1 {
			return fmt.Errorf("found %d", n)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestTakenPortFallsBackUnlessRequired(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", hostPort(0))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port

	s := mustStart(t, Options{InMemory: true, Port: port, UI: true, UIPort: port})
	if s.HostPort() == hostPort(port) || strings.HasSuffix(s.UIURL(), hostPort(port)) {
		t.Errorf("server on %s, UI on %s", s.HostPort(), s.UIURL())
	}
	for name, o := range map[string]Options{
		"frontend": {Port: port},
		"web UI":   {UI: true, UIPort: port},
	} {
		o.InMemory, o.RequirePort = true, true
		if _, err := Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), "choose another port") {
			t.Errorf("%s on a taken required port: %v", name, err)
		}
	}
}

func TestPreferredFreePortIsUsed(t *testing.T) {
	t.Parallel()
	r, err := reserve(0)
	if err != nil {
		t.Fatal(err)
	}
	if r.release != nil {
		r.release()
	}
	s := mustStart(t, Options{InMemory: true, Port: r.port})
	if s.HostPort() != hostPort(r.port) {
		t.Errorf("wanted port %d, got %s", r.port, s.HostPort())
	}
}

func TestUIServesPagesAndTheAPI(t *testing.T) {
	t.Parallel()
	s := mustStart(t, Options{InMemory: true, UI: true})
	if !strings.HasPrefix(s.UIURL(), "http://127.0.0.1:") {
		t.Fatalf("UI on %s", s.UIURL())
	}
	code, kind, body := get(t, s.UIURL()+"/namespaces/"+s.Namespace()+"/workflows", "")
	if code != http.StatusOK || !strings.HasPrefix(kind, "text/html") || !strings.Contains(body, "<html") {
		t.Errorf("page: %d %s %.80s", code, kind, body)
	}
	code, _, body = get(t, s.UIURL()+"/api/v1/namespaces/"+s.Namespace()+"/workflows", "")
	if code != http.StatusOK {
		t.Errorf("API: %d %s", code, body)
	}
	_, _, body = get(t, s.UIURL()+"/api/v1/settings", "")
	if !strings.Contains(body, `"DefaultNamespace":"`+s.Namespace()+`"`) {
		t.Errorf("settings: %s", body)
	}
	if code, _, _ = get(t, s.UIURL(), "attacker.example:80"); code != http.StatusForbidden {
		t.Errorf("another host name got %d", code)
	}
	s.Stop()
	if _, err := http.Get(s.UIURL()); err == nil {
		t.Error("the UI answers after Stop")
	}
}

func get(t *testing.T, url, host string) (code int, kind, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(b)
}

func TestStartThatCannotSucceedLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ended, Options{Dir: dir}); err == nil {
		t.Error("started with an ended context")
	}
	if _, err := Start(t.Context(), Options{}); err == nil {
		t.Error("started without a folder")
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Options{Dir: file}); err == nil {
		t.Error("started in a file")
	}
	unlock, err := lockFile(filepath.Join(dir, "temporal-1.32.1.db.lock"))
	if err != nil {
		t.Fatalf("the folder is still locked: %v", err)
	}
	unlock()
}

func TestServiceOnATakenPortIsAnError(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", hostPort(0))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	ports, err := reservePorts(0, false)
	if err != nil {
		t.Fatal(err)
	}
	defer ports.release()
	ports.matching.port = taken.Addr().(*net.TCPAddr).Port
	db, err := openStore(t.Context(), Options{InMemory: true, Namespace: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.close()
	_, err = runServices(serverConfig(ports, db.config, 1), tuning(0), ports, newLogger(slog.New(slog.DiscardHandler)), newCounting(new(atomic.Int64)))
	if err == nil || !strings.Contains(err.Error(), "gRPC listener") {
		t.Errorf("started on a taken port: %v", err)
	}
}
