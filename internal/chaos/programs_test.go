package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// built are the released programs, each built once for all tests.
var built struct {
	mu   sync.Mutex
	dir  string
	done map[string]bool
}

// programs returns a folder in which the released programs of those names are.
func programs(t *testing.T, names ...string) string {
	t.Helper()
	built.mu.Lock()
	defer built.mu.Unlock()
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "chaos")
		if err != nil {
			t.Fatal(err)
		}
		built.dir, built.done = dir, map[string]bool{}
	}
	for _, name := range names {
		if !built.done[name] {
			release(t, "../..", built.dir, name)
			built.done[name] = true
		}
	}
	return built.dir
}

// release builds a program of the module in a folder as a release does. Of standalone only the paths are not trimmed,
// for that would compile the Temporal server once more.
func release(t *testing.T, module, into, name string) {
	t.Helper()
	args := []string{"build", "-C", module, "-ldflags", "-s -w", "-o", filepath.Join(into, name)}
	if name != "standalone" {
		args = append(args, "-trimpath")
	}
	build := exec.Command("go", append(args, "./cmd/"+name)...)
	if name != "standalone" {
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
}

// ctl runs preemptctl.
func (w *world) ctl(args ...string) {
	w.t.Helper()
	w.must(w.tryCtl(args...))
}

func (w *world) tryCtl(args ...string) error {
	args = append([]string{"-s", w.address, "-n", namespace, "-q", queue}, args...)
	if out, err := exec.Command(filepath.Join(w.programs, "preemptctl"), args...).CombinedOutput(); err != nil {
		return fmt.Errorf("preemptctl %v: %w\n%s", args, err, out)
	}
	return nil
}
