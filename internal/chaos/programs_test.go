package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/released"
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
			if err := released.Build(t.Context(), built.dir, name); err != nil {
				t.Fatal(err)
			}
			built.done[name] = true
		}
	}
	return built.dir
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
