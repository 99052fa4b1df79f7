package watch

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/serviceerror"

	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

func TestOneEventThatCannotBeHandedOverHoldsUpNoOther(t *testing.T) {
	for name, err := range map[string]error{
		"a fault of no known kind":       serviceerror.NewInternal("?"),
		"an intake that is always late":  serviceerror.NewDeadlineExceeded("late"),
		"too much waits at its workflow": &trigger.BacklogError{WorkflowID: "bad", TaskQueue: "q"},
		"an error that Temporal repeats": serviceerror.NewInvalidArgument("no"),
	} {
		p := &fakeTemporal{fails: map[string]error{"bad": err}}
		f := newTestFollower(p, nil)

		names := []string{"bad"}
		for i := range 40 {
			names = append(names, fmt.Sprint("good-", i))
		}
		all := falls(t, names...)
		polls, told := 0, error(nil)
		for ; polls == 0 || told != nil; polls++ {
			if polls > patience {
				t.Fatalf("%s: still held up: %v", name, told)
			}
			names = append(names, fmt.Sprint("later-", polls)) // by which Temporal is seen to be there
			all = falls(t, names...)
			told = f.handOver(t.Context(), unhandled(f, all), false)
			if others := len(names) - 1; len(p.taken) != others {
				t.Fatalf("%s: %d of %d others were handed over", name, len(p.taken), others)
			}
		}
		final := errors.Is(err, trigger.ErrRefused) || polls == 1
		if len(unhandled(f, all)) != 0 || !final && (len(f.aside) != 1 || f.checkpoint.AsideCount != 1 || f.checkpoint.Aside[0].Reason == "") {
			t.Errorf("%s: left %d, aside %+v", name, len(unhandled(f, all)), f.checkpoint.Aside)
		}
		if final && f.checkpoint.Refused != 1 {
			t.Errorf("%s: refused %d", name, f.checkpoint.Refused)
		}
		p.fails = nil
		if final {
			continue
		}
		f.aside[all[0].about.Subject].next = time.Time{}
		if err := f.handOver(t.Context(), f.asideDue(nil), false); err != nil || len(p.taken) != len(names) || len(f.aside) != 0 || f.checkpoint.AsideCount != 0 {
			t.Errorf("%s: given again: %v, %d taken, %+v", name, err, len(p.taken), f.checkpoint.Aside)
		}
	}
}

func TestAnOutageHoldsEverything(t *testing.T) {
	p := &fakeTemporal{fails: map[string]error{"": serviceerror.NewUnavailable("away")}}
	f := newTestFollower(p, nil)
	all := falls(t, "a", "b", "c")
	for range 2 * longPatience {
		if err := f.handOver(t.Context(), unhandled(f, all), false); err == nil {
			t.Fatal("an outage was taken for the fault of the events")
		}
	}
	if len(unhandled(f, all)) != 3 || len(f.aside) != 0 {
		t.Errorf("%d left, %d aside", len(unhandled(f, all)), len(f.aside))
	}
	p.fails = nil
	if err := f.handOver(t.Context(), unhandled(f, all), false); err != nil || len(p.taken) != 3 {
		t.Errorf("%v, %d taken", err, len(p.taken))
	}
}

func TestTextIsCutBetweenLetters(t *testing.T) {
	if got := clip(strings.Repeat("ü", 400)); strings.ContainsRune(got, '\uFFFD') || len(got) > 310 {
		t.Errorf("%q", got)
	}
}
