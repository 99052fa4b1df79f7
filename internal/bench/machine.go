package bench

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/server/common/headers"
)

// machine is where, and with which versions, was measured.
type machine struct {
	Cores    int    `json:"cores"`
	Memory   string `json:"memory"`
	System   string `json:"system"`
	Go       string `json:"go"`
	Temporal string `json:"temporal"`
	Govmomi  string `json:"govmomi"`
	Commit   string `json:"commit"`
}

// thisMachine describes this machine, and the sources in this folder.
func thisMachine() machine {
	m := machine{
		Cores: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(),
		Temporal: headers.ServerVersion, Memory: "unknown", Govmomi: "unknown", Commit: commit(),
	}
	if info, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kb int64
		if _, err := fmt.Sscanf(string(info), "MemTotal: %d kB", &kb); err == nil {
			m.Memory = fmt.Sprintf("%.0f GiB", float64(kb)/(1<<20))
		}
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "github.com/vmware/govmomi" {
				m.Govmomi = d.Version
			}
		}
	}
	return m
}

// commit is that of the sources, as git says: what "go run" builds carries no stamp.
func commit() string {
	id, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	changes, err := exec.Command("git", "status", "--porcelain", "--untracked-files=no").Output()
	if err != nil || len(changes) > 0 {
		return strings.TrimSpace(string(id)) + " with changes"
	}
	return strings.TrimSpace(string(id))
}

func (m machine) markdown(w io.Writer, command string) {
	fmt.Fprintf(w, "```sh\n%s\n```\n\n%d cores, %s of memory, %s; %s, Temporal %s on a file, govmomi %s; commit %s.\n",
		command, m.Cores, m.Memory, m.System, m.Go, m.Temporal, m.Govmomi, m.Commit)
	fmt.Fprint(w, "Simulator and Temporal share one process; each worker is a process of its own. All share the cores.\n")
	fmt.Fprint(w, "Times are medians; least to greatest.\n")
}

// load is the machine's load over the last minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(text))[0]
}

// waited is for how long, since the machine began, some process had to wait for a core; 0: the system does not say.
func waited() time.Duration {
	text, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "total=")
	line, _, _ := strings.Cut(rest, "\n")
	us, _ := strconv.ParseInt(line, 10, 64) // 0 where it is no number
	return time.Duration(us) * time.Microsecond
}
