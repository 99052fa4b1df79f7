package chaos

import (
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"github.com/vsphere-preemption/vsphere-preemption/internal/released"
)

var upgradeFrom = flag.String("chaos.from", "HEAD~20", "commit of the earlier worker, of which a round is taken over and to which it is handed back")

// earlier builds the worker of an earlier commit.
func earlier(t *testing.T, commit string) (folder string) {
	t.Helper()
	if err := exec.Command("git", "rev-parse", "--verify", "--quiet", commit+"^{commit}").Run(); err != nil {
		t.Skipf("there is no commit %s here: this needs a clone with its history, or -chaos.from", commit)
	}
	folder, source := t.TempDir(), filepath.Join(t.TempDir(), "source")
	for _, args := range [][]string{{"mkdir", source}, {"sh", "-c", `git -C "$(git rev-parse --show-toplevel)" archive "$0" | tar -x -C "$1"`, commit, source}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("take %s out of git: %v\n%s", commit, err, out)
		}
	}
	if err := released.BuildFrom(t.Context(), source, folder, "worker"); err != nil {
		t.Fatal(err)
	}
	return folder
}

// TestNothingIsLostByAnUpgradeInTheMiddleOfARound kills the workers of one version while guests shut down and while VMs
// come back, and starts those of another version, forth and back. Both versions serve the same rounds and restores.
func TestNothingIsLostByAnUpgradeInTheMiddleOfARound(t *testing.T) {
	if !*long {
		t.Skip("it builds an earlier worker: -chaos.long")
	}
	t.Parallel()
	before := earlier(t, *upgradeFrom)
	use := before
	w := newWorld(t, seeded(t), site{temporal: startSQLite, worker: func(_ *world, _ int, cmd *exec.Cmd) {
		cmd.Path = filepath.Join(use, "worker")
	}})
	for _, change := range []struct{ name, to string }{
		{"the upgrade", w.programs}, {"the way back", before}, {"the second upgrade", w.programs}, {"the second way back", before},
	} {
		from := use
		w.vc.ResetCalls()
		began, was := time.Now().Add(-time.Second), w.attributes()
		for _, c := range w.clusters() {
			w.turn(c, "yellow") // MEDIUM
		}
		w.eventually("guests are asked to shut down", func() error {
			if w.vc.Calls()["ShutdownGuest"] < maxVMs*len(w.clusters()) {
				return errors.New("not all were")
			}
			return nil
		})
		at := time.Now()
		use = change.to
		w.replaceWorkers()
		w.eventually("a round on each cluster is over", func() error { return w.over(began) })
		took := time.Since(at)
		rounds, err := w.rounds(began)
		w.must(err)
		violations, off := w.judge(was, rounds)
		for _, v := range violations {
			t.Errorf("%s: %s", change.name, v)
		}
		for _, c := range w.clusters() {
			w.turn(c, "green")
		}
		w.eventually("somebody is back", w.someBack)
		use = from
		w.replaceWorkers()
		w.eventually("everybody is back", w.back)
		use = change.to
		w.replaceWorkers()
		fmt.Fprintf(t.Output(), "%s, from or to %s: %d VMs off, reported %.1f s after it\n", change.name, *upgradeFrom, off, took.Seconds())
	}
}

// replaceWorkers kills all workers and starts others.
func (w *world) replaceWorkers() {
	for i := range w.workers {
		w.workers[i].kill()
	}
	for i := range w.workers {
		w.startWorker(i)
	}
}

// over is nil when a round on each cluster has begun since then, and none is under way.
func (w *world) over(since time.Time) error {
	all, err := w.rounds(since)
	for _, c := range w.clusters() {
		if err == nil && len(all[c.Ref.Value]) == 0 {
			err = fmt.Errorf("there is none on %s", c.Name)
		}
	}
	return err
}

// someBack is nil when a VM that was preempted is on again.
func (w *world) someBack() error {
	for _, vm := range w.vc.VMs() {
		if w.attribute(vm.Ref).Preempted && w.vc.PowerState(vm.Ref) == types.VirtualMachinePowerStatePoweredOn {
			return nil
		}
	}
	return errors.New("nobody is")
}
