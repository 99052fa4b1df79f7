package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

// TestEventsArriveWhenTheirAddressIsBack lets rounds end while the reply address refuses everything, and kills workers
// meanwhile. Neither rounds nor restores are held up, and each round's event arrives.
func TestEventsArriveWhenTheirAddressIsBack(t *testing.T) {
	t.Parallel()
	rises := sized(2, 30)
	w := newWorld(t, seeded(t), site{temporal: startSQLite, tagged: enough(rises)})
	began := time.Now().Add(-time.Second)
	w.sink.goDown(true)
	for range rises {
		for _, c := range w.clusters() {
			w.turn(c, []string{"yellow", "red"}[w.random.IntN(2)])
		}
		w.eventually("the VMs of all clusters are off and annotated", w.preempted)
		w.countPreempted()
		w.killWorker(w.random.IntN(len(w.workers)))
		for _, c := range w.clusters() {
			w.turn(c, "green")
		}
		w.eventually("everybody is back although the address is down", w.back)
	}
	if *long {
		time.Sleep(time.Until(began.Add(15 * time.Minute)))
	}
	if n := len(w.sink.seen); n > 0 {
		t.Fatalf("%d events arrived at an address that is down", n)
	}
	w.sink.goDown(false)
	back, rounds := time.Now(), map[string][]preemptapi.RoundResult{}
	w.eventually("all rounds have told of themselves", func() (err error) {
		rounds, err = w.rounds(began)
		return err
	})
	n := w.allTold(rounds)
	if n < rises*len(w.clusters()) {
		t.Errorf("%d rounds for %d rises on %d clusters", n, rises, len(w.clusters()))
	}
	fmt.Fprintf(t.Output(), "%d rounds while the address was down for %.0f s; all events were there %.1f s after it was back\n",
		n, back.Sub(began).Seconds(), time.Since(back).Seconds())
}

// preempted is nil when on each cluster as many VMs are off as a round may turn off, each with its attribute.
func (w *world) preempted() error {
	off := map[string]int{}
	for _, vm := range w.vc.VMs() {
		if w.vc.PowerState(vm.Ref) == types.VirtualMachinePowerStatePoweredOff && w.attribute(vm.Ref).Preempted {
			off[vm.Cluster]++
		}
	}
	for _, c := range w.clusters() {
		if off[c.Name] != maxVMs {
			return fmt.Errorf("%d VMs of %s are off and annotated, not %d", off[c.Name], c.Name, maxVMs)
		}
	}
	return nil
}

// countPreempted counts how often each VM was preempted, where nobody judges.
func (w *world) countPreempted() {
	for _, vm := range w.vc.VMs() {
		if w.attribute(vm.Ref).Preempted {
			w.times[vm.Ref.Value]++
		}
	}
}

// allTold checks that the event of each round arrived, with its VMs, and returns how many rounds there were.
func (w *world) allTold(rounds map[string][]preemptapi.RoundResult) (n int) {
	w.t.Helper()
	w.sink.mu.Lock()
	defer w.sink.mu.Unlock()
	told := map[string][]string{} // the VMs by round
	for id, body := range w.sink.seen {
		var e struct {
			RoundID         string                   `json:"roundID"`
			VirtualMachines []struct{ Value string } `json:"virtualMachines"`
		}
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			w.t.Errorf("event %s: %v: %s", id, err, body)
		}
		for _, vm := range e.VirtualMachines {
			told[e.RoundID] = append(told[e.RoundID], vm.Value)
		}
	}
	for _, bad := range w.sink.bad {
		w.t.Error(bad)
	}
	for _, rs := range rounds {
		for _, r := range rs {
			ours := len(r.Preempted())
			if ours == 0 {
				continue
			}
			n++
			if r.ReplySent != (r.ReplyError == "") || !r.ReplySent || len(told[r.RoundID]) != ours {
				w.t.Errorf("%s preempted %d VMs; events told of %v (%v)", r.RoundID, ours, told[r.RoundID], errors.New(r.ReplyError))
			}
		}
	}
	return n
}
