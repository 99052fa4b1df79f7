package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"go.temporal.io/api/enums/v1"

	"github.com/vsphere-preemption/vsphere-preemption/internal/embedded"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
)

// temporalServer is the one Temporal server of a test run; every site uses a task queue of its own on it.
type temporalServer struct {
	hostPort string
	stop     func()
}

func (s *temporalServer) HostPort() string  { return s.hostPort }
func (s *temporalServer) Namespace() string { return "vsphere-preemption" }

// serverEnv marks a process of this test binary that is the Temporal server, and runs no test.
const serverEnv = "E2E_SERVER"

// startServer starts Temporal in this process; under the race detector in one of its own without it, for it
// is our code that the detector is to watch, and a watched Temporal is many times slower.
func startServer() (*temporalServer, error) {
	if raceDetector {
		return startServerProcess()
	}
	s, err := startEmbedded()
	if err != nil {
		return nil, err
	}
	return &temporalServer{hostPort: s.HostPort(), stop: s.Stop}, nil
}

func startEmbedded() (*embedded.Server, error) {
	attrs := map[string]enums.IndexedValueType{}
	for _, name := range preempt.SearchAttributes() {
		attrs[name] = enums.INDEXED_VALUE_TYPE_KEYWORD
	}
	return embedded.Start(context.Background(), embedded.Options{
		InMemory: os.Getenv("E2E_FILE") == "", Dir: os.Getenv("E2E_FILE"), SearchAttributes: attrs,
	})
}

// serverMain is the server process: it says where it listens, and serves until its input ends, which is
// when its parent is gone.
func serverMain() int {
	s, err := startEmbedded()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(s.HostPort())
	_, _ = io.Copy(io.Discard, os.Stdin)
	s.Stop()
	return 0
}

func startServerProcess() (*temporalServer, error) {
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
	cmd.Env = append(os.Environ(), serverEnv+"=1")
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
	return &temporalServer{hostPort: strings.TrimSpace(hostPort), stop: func() {
		_ = in.Close()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}}, nil
}
