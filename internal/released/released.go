// Package released builds our programs as a release does and runs them as processes: what benchmarks and attacks do to
// them is done to what users run. It imports no other package of this module.
package released

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const module = "github.com/vsphere-preemption/vsphere-preemption"

// Build builds programs such as worker into a folder. It must run within this module.
func Build(ctx context.Context, dir string, names ...string) error {
	if err := lookAtSources(ctx); err != nil {
		return err
	}
	return BuildFrom(ctx, ".", dir, names...)
}

// lookAtSources reads the folders that programs are built from. Go keeps the result of a test until something changes that
// its process has looked at, and what go build reads is not of its process: an attack on a changed worker would not run.
func lookAtSources(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return fmt.Errorf("find the folder of %s: %w; run this in it", module, err)
	}
	root := strings.TrimSpace(string(out))
	for _, name := range []string{"go.mod", "go.sum"} {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			return fmt.Errorf("look at what programs are built from: %w", err)
		}
	}
	for _, name := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, name), func(_ string, _ fs.DirEntry, err error) error { return err })
		if err != nil {
			return fmt.Errorf("look at what programs are built from: %w", err)
		}
	}
	return nil
}

// BuildFrom builds programs of another checkout of this module. Of standalone the paths are not trimmed, for that would
// compile the Temporal server once more.
func BuildFrom(ctx context.Context, checkout, dir string, names ...string) error {
	for _, name := range names {
		args := []string{"build", "-C", checkout, "-ldflags", "-s -w", "-o", filepath.Join(dir, name)}
		env := os.Environ()
		if name != "standalone" {
			args, env = append(args, "-trimpath"), append(env, "CGO_ENABLED=0")
		}
		cmd := exec.CommandContext(ctx, "go", append(args, module+"/cmd/"+name)...)
		cmd.Env = env
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w; run this in the module's folder:\n%s", name, err, out)
		}
	}
	return nil
}

// Worker is what a worker is told by its environment, as documented.
type Worker struct {
	Temporal, Namespace, Queue string
	VCenter, Secret            string // address, and folder with user name and password
	Config                     string // file; "": the defaults
	Home                       string
}

// Env is that environment. The worker trusts any certificate of vCenter.
func (w Worker) Env() []string {
	env := []string{
		"TEMPORAL_URL=" + w.Temporal, "TEMPORAL_NAMESPACE=" + w.Namespace, "TEMPORAL_TASKQUEUE=" + w.Queue,
		"VCENTER_URL=" + w.VCenter, "VCENTER_INSECURE=true", "VCENTER_SECRET_PATH=" + w.Secret, "HTTP_ADDR=127.0.0.1:0",
		"HOME=" + w.Home,
	}
	if w.Config != "" {
		env = append(env, "PREEMPTION_CONFIG="+w.Config)
	}
	return env
}

// Process is a program under way, in a process group of its own.
type Process struct {
	cmd  *exec.Cmd
	log  tail
	gone chan struct{}
}

// Start starts a command. What it writes to stderr goes to log; where that is nil, LastWords has the end of it.
func Start(cmd *exec.Cmd, log *os.File) (*Process, error) {
	p := &Process{cmd: cmd, gone: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = &p.log
	if log != nil {
		cmd.Stderr = log
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	go func() {
		defer close(p.gone)
		_ = cmd.Wait() // how it ended is in its last words
	}()
	return p, nil
}

// Gone is closed when the process has ended.
func (p *Process) Gone() <-chan struct{} { return p.gone }

// PID is the id of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends the process and those that it started, as kill -9 does.
func (p *Process) Kill() {
	_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
	<-p.gone
}

// Stop asks the process to end, and kills it if it does not within a while.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.gone:
	case <-time.After(30 * time.Second):
		p.Kill()
	}
}

// LastWords is the end of what the process wrote to stderr.
func (p *Process) LastWords() string { return p.log.String() }

// Memory is the resident memory of the process in bytes: now, and at most so far.
func (p *Process) Memory() (now, peak int64, err error) {
	path := "/proc/" + strconv.Itoa(p.PID()) + "/status"
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, fmt.Errorf("read the memory of %s: %w; it needs Linux, and a process that lives", p.cmd.Path, err)
	}
	return kilobytes(string(text), "VmRSS:"), kilobytes(string(text), "VmHWM:"), nil
}

// Spent is the processor time that a process has used; it needs Linux.
func Spent(pid int) (time.Duration, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("read the processor time of process %d: %w", pid, err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	ticks := 0
	for _, field := range strings.Fields(rest)[11:13] { // user and system, in hundredths of a second
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, fmt.Errorf("read the processor time of process %d: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

func kilobytes(status, field string) int64 {
	_, rest, _ := strings.Cut(status, field)
	line, _, _ := strings.Cut(rest, "\n")
	n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(line), " kB"), 10, 64)
	return n << 10
}

// tailBytes is how much of what a process says is kept.
const tailBytes = 4000

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - tailBytes; over > 0 {
		t.text = append([]byte(nil), t.text[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
