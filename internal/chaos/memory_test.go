package chaos

import (
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// memory is what a worker may have: the kernel gives its heap and stacks no more. A worker that needs more dies.
const memory = 256 << 20

// TestAWorkerWithLittleMemorySurvivesAFloodOfEvents floods the watch with events of alarms while the alarm rises.
func TestAWorkerWithLittleMemorySurvivesAFloodOfEvents(t *testing.T) {
	t.Parallel()
	prlimit, err := exec.LookPath("prlimit")
	if err != nil {
		t.Skip("a limit of memory is set by prlimit of util-linux, which is missing")
	}
	w := newWorld(t, seeded(t), site{temporal: startSQLite, worker: func(_ *world, _ int, cmd *exec.Cmd) {
		cmd.Args = []string{prlimit, fmt.Sprintf("--data=%d", memory), cmd.Path}
		cmd.Path = prlimit
	}})
	events := sized(20_000, 200_000)
	w.besiege("little memory", sized(1, 5), []attack{{fmt.Sprintf("%d events come at once", events), func(w *world) {
		c := w.clusters()[0]
		for i := 0; i < 200 && w.colours[c.Name] != "green"; i++ { // of the alarm that preempts: they are handed over
			w.turn(c, []string{"yellow", "red"}[i%2])
		}
		w.vc.FillHistory(events, 2*time.Second, func(i int) types.BaseEvent { // of another
			e := &types.AlarmStatusChangedEvent{From: "green", To: "red"}
			e.Alarm = types.AlarmEventArgument{EntityEventArgument: types.EntityEventArgument{Name: fmt.Sprint("another alarm ", i)}, Alarm: types.ManagedObjectReference{Type: "Alarm", Value: fmt.Sprint("alarm-", i)}}
			e.Entity = types.ManagedEntityEventArgument{EntityEventArgument: types.EntityEventArgument{Name: c.Name}, Entity: c.Ref}
			e.FullFormattedMessage = "another alarm turned red"
			return e
		})
	}}})
	for i, p := range w.workers {
		select {
		case <-p.Gone():
			t.Errorf("worker %d is dead: %s", i+1, p.LastWords())
		default:
		}
	}
}
