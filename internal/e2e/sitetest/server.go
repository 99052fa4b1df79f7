package sitetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.temporal.io/api/enums/v1"

	"github.com/vsphere-preemption/vsphere-preemption/internal/embedded"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
)

// TemporalServer is a Temporal server of a test run; every site uses a task queue of its own on it.
type TemporalServer struct {
	hostPort string
	stop     func()
}

// Stop ends the server.
func (s *TemporalServer) Stop() { s.stop() }

// HostPort is where the server listens.
func (s *TemporalServer) HostPort() string { return s.hostPort }

// Namespace is the namespace that the sites use.
func (s *TemporalServer) Namespace() string { return "vsphere-preemption" }

// serverEnv marks a process of this test binary that is a Temporal server, and runs no test; it holds its rollAfter.
const serverEnv = "E2E_SERVER"

// ServeTemporal serves, and then ends the process, where this process was started to be a Temporal server. Call it first in
// the TestMain of a package that calls StartServer.
func ServeTemporal() {
	if os.Getenv(serverEnv) != "" {
		os.Exit(serverMain())
	}
}

// StartServer starts Temporal in this process; under the race detector in one of its own without it, for it
// is our code that the detector is to watch, and a watched Temporal is many times slower.
// rollAfter is the length of a history at which it suggests continue-as-new; 0: the server's default.
func StartServer(rollAfter int) (*TemporalServer, error) {
	if RaceDetector {
		return startServerProcess(rollAfter)
	}
	s, err := startEmbedded(rollAfter)
	if err != nil {
		return nil, err
	}
	return &TemporalServer{hostPort: s.HostPort(), stop: s.Stop}, nil
}

// RollAfter is how many events a history has on the rolling server before continue-as-new is suggested: few enough that
// every long-lived workflow rolls within seconds, and enough for it to do something in between.
const RollAfter = 40

var theRolling struct {
	once   sync.Once
	server *TemporalServer
	err    error
}

// Rolling is a second server, on which long-lived workflows continue as new after few events. All tests that want it
// share it; use it with NewOn.
func Rolling(t testing.TB) *TemporalServer {
	t.Helper()
	theRolling.once.Do(func() { theRolling.server, theRolling.err = StartServer(RollAfter) })
	if theRolling.err != nil {
		t.Fatalf("start the server on which workflows roll: %v", theRolling.err)
	}
	return theRolling.server
}

func stopRolling() {
	if theRolling.server != nil {
		theRolling.server.Stop()
	}
}

func startEmbedded(rollAfter int) (*embedded.Server, error) {
	attrs := map[string]enums.IndexedValueType{}
	for _, name := range preempt.SearchAttributes() {
		attrs[name] = enums.INDEXED_VALUE_TYPE_KEYWORD
	}
	dir := os.Getenv("E2E_FILE") // of one server, and of the other
	if rollAfter > 0 {
		dir = os.Getenv("E2E_ROLLING_FILE")
	}
	return embedded.Start(context.Background(), embedded.Options{
		InMemory: dir == "", Dir: dir, SearchAttributes: attrs, RollAfter: rollAfter,
	})
}

// serverMain is the server process: it says where it listens, and serves until its input ends, which is
// when its parent is gone.
func serverMain() int {
	rollAfter, err := strconv.Atoi(os.Getenv(serverEnv))
	if err != nil {
		fmt.Fprintln(os.Stderr, serverEnv+":", err)
		return 1
	}
	s, err := startEmbedded(rollAfter)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(s.HostPort())
	_, _ = io.Copy(io.Discard, os.Stdin)
	s.Stop()
	return 0
}

func startServerProcess(rollAfter int) (*TemporalServer, error) {
	dir, err := os.MkdirTemp("", "e2e-server-")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "server")
	build := exec.Command("go", "test", "-race=false", "-c", "-o", path, ".")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("build the server without the race detector: %w", err)
	}
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), serverEnv+"="+strconv.Itoa(rollAfter))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	hostPort, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("the server process did not say where it listens: %w", err)
	}
	return &TemporalServer{hostPort: strings.TrimSpace(hostPort), stop: func() {
		_ = in.Close()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}}, nil
}
