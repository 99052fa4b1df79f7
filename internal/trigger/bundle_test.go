package trigger_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// slow stands for a Temporal that takes a signal only when it is let.
type slow struct {
	asked chan string // workflow ids, as they come
	let   chan error  // one for each signal that is taken, with its answer

	mu    sync.Mutex
	taken [][]int64 // the keys of the events of each signal
}

func newSlow() *slow { return &slow{asked: make(chan string, 1000), let: make(chan error, 10)} }

func (s *slow) SignalWithStartWorkflow(ctx context.Context, id, _ string, arg any, _ client.StartWorkflowOptions, _ any, _ ...any) (client.WorkflowRun, error) {
	s.asked <- id
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case err := <-s.let:
		if err != nil {
			return nil, err
		}
	}
	changes, many := arg.([]json.RawMessage)
	if !many {
		b, err := json.Marshal(arg)
		if err != nil {
			return nil, err
		}
		changes = []json.RawMessage{b}
	}
	var keys []int64
	for _, text := range changes {
		var c preemption.AlarmChange
		if err := json.Unmarshal(text, &c); err != nil {
			return nil, err
		}
		keys = append(keys, c.EventKey)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = append(s.taken, keys)
	return nil, nil
}

func key(n int64) func(*alarm.Alarm) { return func(a *alarm.Alarm) { a.EventKey = n } }

// busy is an engine whose Temporal is being told of event 1; give hands it events more, each once the one before waits.
type busy struct {
	*slow
	t      *testing.T
	engine *trigger.Engine
	wg     sync.WaitGroup
	mu     sync.Mutex
	errs   map[int64]error
}

func newBusy(t *testing.T, ctx context.Context) *busy {
	b := &busy{slow: newSlow(), t: t, errs: map[int64]error{}}
	b.engine = &trigger.Engine{Temporal: b.slow, TaskQueue: "q", Rules: []trigger.Rule{{Alarm: "*", Action: trigger.Preempt{Tag: "spot"}}}}
	b.give(ctx, 1)
	if id := <-b.asked; id != "cpu@domain-c7@q" {
		t.Fatal(id)
	}
	return b
}

func (b *busy) give(ctx context.Context, n int64, with ...func(*alarm.Alarm)) {
	in := changed(b.t, "green", "red", append(with, key(n))...)
	id := trigger.WorkflowID(in.Event.Alarm.Name, in.Event.Alarm.Scope(), "q")
	was, orders := b.engine.Entered(id)
	b.wg.Go(func() {
		_, err := b.engine.Handle(ctx, in)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.errs[n] = err
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if is, now := b.engine.Entered(id); is != was || now != orders {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("event %d never waits", n)
		}
	}
}

// over lets Temporal answer as told, then take everything, and waits for all.
func (b *busy) over(answers ...error) {
	for _, err := range answers {
		b.let <- err
	}
	close(b.let)
	b.wg.Wait()
}

func TestWhatComesWhileTemporalIsToldGoesTogetherInOrder(t *testing.T) {
	b := newBusy(t, t.Context())
	for n := int64(2); n <= 6; n++ {
		b.give(t.Context(), n)
	}
	b.give(t.Context(), 7, called("memory"))
	if id := <-b.asked; id != "memory@domain-c7@q" {
		t.Errorf("another workflow's signal waits behind it: %s", id)
	}
	if len(b.asked) != 0 {
		t.Errorf("%d signals more are under way at once to one workflow", len(b.asked))
	}
	b.over()
	for n, err := range b.errs {
		if err != nil {
			t.Errorf("event %d: %v", n, err)
		}
	}
	got := fmt.Sprint(b.taken)
	if len(b.errs) != 7 || (got != "[[1] [7] [2 3 4 5 6]]" && got != "[[7] [1] [2 3 4 5 6]]") && got != "[[1] [2 3 4 5 6] [7]]" {
		t.Errorf("taken %s", got)
	}
}

func TestARefusedSignalIsToldToAllThatAreInIt(t *testing.T) {
	away := errors.New("Temporal is away")
	b := newBusy(t, t.Context())
	b.give(t.Context(), 2)
	b.give(t.Context(), 3)
	b.let <- nil
	<-b.asked
	b.give(t.Context(), 4) // behind what is refused
	b.over(away)
	if b.errs[1] != nil || !errors.Is(b.errs[2], away) || !errors.Is(b.errs[3], away) || b.errs[4] != nil {
		t.Errorf("%v", b.errs)
	}
	if got := fmt.Sprint(b.taken); got != "[[1] [4]]" {
		t.Errorf("taken %s", got)
	}
}

func TestAClientThatLeavesTakesNobodysEventWithIt(t *testing.T) {
	leaving, leave := context.WithCancel(t.Context())
	b := newBusy(t, leaving)
	b.give(leaving, 2)
	b.give(t.Context(), 3)
	leave()
	b.over()
	if b.errs[3] != nil {
		t.Error(b.errs[3])
	}
	if got := fmt.Sprint(b.taken); got != "[[1] [2 3]]" {
		t.Errorf("taken %s", got)
	}
}

func TestNobodyWaitsLongerThanTheirDeadline(t *testing.T) {
	b := newBusy(t, t.Context())
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	b.give(short, 2)
	b.give(short, 3)
	for is, _ := b.engine.Entered("cpu@domain-c7@q"); is != nil; is, _ = b.engine.Entered("cpu@domain-c7@q") {
		time.Sleep(time.Millisecond) // until they have given up
	}
	b.give(t.Context(), 4)
	b.over()
	if !errors.Is(b.errs[2], context.DeadlineExceeded) || !errors.Is(b.errs[3], context.DeadlineExceeded) || b.errs[1] != nil || b.errs[4] != nil {
		t.Errorf("%v", b.errs)
	}
	if got := fmt.Sprint(b.taken); got != "[[1] [4]]" && got != "[[4] [1]]" {
		t.Errorf("taken %s", got)
	}
}

func TestASignalOfManyIsNoLargerThanTheIntakeTakes(t *testing.T) {
	b := newBusy(t, t.Context())
	in := changed(t, "green", "red", key(1000))
	in.TaskQueue = "q"
	order, _, _, err := trigger.Preempt{Tag: "spot"}.Order(in, "*")
	if err != nil {
		t.Fatal(err)
	}
	one := len(asJSON(t, order.Payload))
	n := int64(preemption.MaxRequestBytes/one + 2)
	for i := range n {
		b.give(t.Context(), 1000+i)
	}
	b.over()
	for event, err := range b.errs {
		if err != nil {
			t.Errorf("event %d: %v", event, err)
		}
	}
	all, signals := 0, 0
	for _, keys := range b.taken {
		all, signals = all+len(keys), signals+1
		if size := len(keys) * one; size > preemption.MaxRequestBytes {
			t.Errorf("%d events of %d bytes in one signal", len(keys), one)
		}
	}
	if all != int(n)+1 || signals != 3 {
		t.Errorf("%d events in %d signals", all, signals)
	}
}
