package chaos

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// perHour is a budget of a cluster: two rounds would like to turn off more.
const perHour = 4

// TestABudgetIsNotPassedWhileWorkersAreKilled lets the alarm rise again and again, kills a worker each time, and counts
// what was turned off.
func TestABudgetIsNotPassedWhileWorkersAreKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, seeded(t), site{
		temporal: startSQLite,
		config:   strings.Replace(config, "    maxVMs: 3\n", fmt.Sprintf("    maxVMs: 3\n    budgets: [{scope: true, max: %d, per: 1h}]\n", perHour), 1),
	})
	began, rises, seen := time.Now().Add(-time.Second), sized(2, 30), map[string]int{}
	for range rises {
		for _, c := range w.clusters() {
			w.turn(c, []string{"yellow", "red"}[w.random.IntN(2)])
		}
		at := time.Now()
		time.Sleep(w.within(5 * time.Second))
		w.killWorker(w.random.IntN(len(w.workers)))
		w.eventually("a round on each cluster is over", func() error { return w.over(at.Add(-time.Second)) })
		w.countPreempted()
		for _, vm := range w.vc.VMs() {
			if w.vc.PowerState(vm.Ref) != types.VirtualMachinePowerStatePoweredOn {
				seen[vm.Cluster]++
			}
		}
		for _, c := range w.clusters() {
			w.turn(c, "green")
		}
		w.eventually("everybody is back", w.back)
	}
	all, err := w.rounds(began)
	w.must(err)
	off := 0
	for _, c := range w.clusters() {
		n := 0
		for _, r := range all[c.Ref.Value] {
			n += len(r.Preempted())
		}
		if n != perHour {
			t.Errorf("%d VMs of %s were turned off, where a budget of %d was used up", n, c.Name, perHour)
		}
		if seen[c.Name] != n {
			t.Errorf("vCenter showed %d VMs of %s off, the rounds tell of %d", seen[c.Name], c.Name, n)
		}
		off += n
	}
	fmt.Fprintf(t.Output(), "%d rises on each cluster, a worker killed at each: %d VMs off, by a budget of %d a cluster\n", rises, off, perHour)
}
