package chaos

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
)

// alone is the released standalone on its data folder, against the world's vCenter.
type alone struct {
	w    *world
	data string
	proc *child
}

// newAlone is a world in which one standalone does all the work.
func newAlone(t *testing.T, data string) (*world, *alone) {
	t.Helper()
	w := &world{t: t, random: seeded(t), programs: programs(t, "standalone", "preemptctl"), secret: t.TempDir(), sink: newSink(t), colours: map[string]string{}, times: map[string]int{}, judged: map[string]bool{}}
	w.config = filepath.Join(t.TempDir(), "preemption.yaml")
	w.must(os.WriteFile(w.config, fmt.Appendf(nil, config, w.sink.URL), 0o600))
	w.startVCenter(t, enough(sized(1, 20)))
	a := &alone{w: w, data: data}
	a.start()
	return w, a
}

func (a *alone) command() *exec.Cmd {
	cmd := exec.Command(filepath.Join(a.w.programs, "standalone"), "--headless", "--data", a.data)
	cmd.Env = []string{
		"TEMPORAL_NAMESPACE=" + namespace, "TEMPORAL_TASKQUEUE=" + queue, "VCENTER_URL=" + a.w.vc.URL(), "VCENTER_INSECURE=true",
		"VCENTER_SECRET_PATH=" + a.w.secret, "HTTP_ADDR=127.0.0.1:0", "PREEMPTION_CONFIG=" + a.w.config, "HOME=" + a.data,
	}
	return cmd
}

var served = regexp.MustCompile(`127\.0\.0\.1:[0-9]+, namespace`)

// start starts it, and waits until it says where its Temporal is.
func (a *alone) start() {
	a.w.t.Helper()
	cmd := a.command()
	out, err := cmd.StdoutPipe()
	a.w.must(err)
	a.proc = spawn(a.w.t, "standalone", cmd)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if found := served.FindString(lines.Text()); found != "" {
			a.dial(strings.TrimSuffix(found, ", namespace"))
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return
		}
	}
	a.w.t.Fatalf("standalone does not start:\n%s", a.proc.LastWords())
}

func (a *alone) dial(hostPort string) {
	a.w.t.Helper()
	c, err := client.NewLazyClient(client.Options{HostPort: hostPort, Namespace: namespace, Logger: sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler))})
	a.w.must(err)
	a.w.t.Cleanup(c.Close)
	a.w.client, a.w.address = c, hostPort
}

func (a *alone) restart() {
	a.proc.kill()
	a.start()
}

// TestNothingIsLostWhenStandaloneIsKilled kills it at random instants. It goes on by its data folder.
func TestNothingIsLostWhenStandaloneIsKilled(t *testing.T) {
	t.Parallel()
	w, a := newAlone(t, t.TempDir())
	w.besiege("standalone", sized(1, 20), []attack{{"standalone is killed", func(*world) { a.restart() }}})
}

// TestNothingIsLostWhenTheDiskOfStandaloneIsFull fills the disk of its data for seconds. In the long form it is also
// killed while the disk is full.
func TestNothingIsLostWhenTheDiskOfStandaloneIsFull(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("a small disk is mounted, which only root may: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	w, a := newAlone(t, filepath.Join(disk, "data"))
	filler := filepath.Join(disk, "filler")
	full := func(w *world, meanwhile func()) {
		fill(t, filler)
		meanwhile()
		time.Sleep(2*time.Second + w.within(5*time.Second))
		w.must(os.Remove(filler))
	}
	all := []attack{{"the disk is full for seconds", func(w *world) { full(w, func() {}) }}}
	if *long {
		all = append(all, attack{"the disk is full, and standalone is killed", func(w *world) {
			full(w, a.proc.kill)
			a.start()
		}})
	}
	w.besiege("standalone", sized(1, 20), all)
}

// fill writes until the disk takes no more.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 4 // and the rest in small pieces
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestStandaloneRefusesDamagedDataAndBeginsAnew damages the data folder while VMs are off. Standalone says what to do;
// after that, the VMs are known by what is written on them.
func TestStandaloneRefusesDamagedDataAndBeginsAnew(t *testing.T) {
	if !*long {
		t.Skip("it takes minutes: -chaos.long")
	}
	t.Parallel()
	w, a := newAlone(t, t.TempDir())
	for _, c := range w.clusters() {
		w.turn(c, "red")
	}
	w.eventually("the VMs of all clusters are off and annotated", w.preempted)
	a.proc.kill()
	files, err := filepath.Glob(filepath.Join(a.data, "*.db"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	w.must(os.Remove(files[0] + "-wal"))
	info, err := os.Stat(files[0])
	w.must(err)
	w.must(os.Truncate(files[0], info.Size()/2))
	said, err := a.command().CombinedOutput()
	move := "mv " + files[0] + " " + files[0] + ".damaged"
	if err == nil || !bytes.Contains(said, []byte(move)) {
		t.Fatalf("with damaged data: %v\n%s", err, said)
	}
	w.must(exec.Command("sh", "-c", move).Run())
	a.start()
	w.countPreempted()
	for _, c := range w.clusters() { // it has no state of alarms: it restores what vCenter says is over
		w.turn(c, "green")
	}
	w.eventually("a worker takes the restore", func() error { return w.tryCtl("restore") })
	w.eventually("everybody is back", w.back)
}
