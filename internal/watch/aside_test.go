package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// picky is a Temporal that fails for some workflows.
type picky struct {
	mu    sync.Mutex
	fails map[string]error // by a part of the workflow's id
	taken []string
}

func (p *picky) SignalWithStartWorkflow(_ context.Context, id, _ string, _ any, _ client.StartWorkflowOptions, _ any, _ ...any) (client.WorkflowRun, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for part, err := range p.fails {
		if strings.Contains(id, part) {
			return nil, err
		}
	}
	p.taken = append(p.taken, id)
	return nil, nil
}

func following(p *picky) *follower {
	return &follower{
		Activities: &Activities{Engine: &trigger.Engine{Temporal: p, TaskQueue: "q", Rules: []trigger.Rule{{Alarm: "*", Action: trigger.Preempt{Tag: "spot"}}}}},
		idle:       map[[2]string]string{}, log: slog.New(slog.DiscardHandler), dealt: newDealt(nil), metrics: client.MetricsNopHandler, todo: map[watchapi.Mark]bool{},
	}
}

// changes are the falls of so many alarms, a moment one after the other.
func changes(names ...string) (all []news) {
	at := time.Date(2026, 11, 26, 3, 0, 0, 0, time.UTC)
	for i, name := range names {
		at = at.Add(time.Second)
		al := alarm.Alarm{
			Name: name, Ref: alarm.Object{Type: "Alarm", Value: "alarm-" + name}, Entity: alarm.Object{Type: "HostSystem", Value: "host-1"},
			Cluster: alarm.Object{Type: "ClusterComputeResource", Value: "domain-c7"}, From: "red", To: "green", Time: at, EventKey: int64(i + 1),
		}
		all = append(all, news{trigger.Incoming{Event: alarm.Event{Class: alarm.ClassAlarm, Alarm: al}}, []watchapi.Mark{{Key: int64(i + 1), Time: at}}})
	}
	return all
}

// fresh leaves out what was dealt with, as decode does.
func (f *follower) fresh(all []news) (out []news) {
	for _, n := range all {
		if !f.dealt.known[n.marks[0]] {
			out = append(out, n)
		}
	}
	return out
}

func TestOneEventThatCannotBeHandedOverHoldsUpNoOther(t *testing.T) {
	for name, err := range map[string]error{
		"a fault of no known kind":       serviceerror.NewInternal("?"),
		"an intake that is always late":  serviceerror.NewDeadlineExceeded("late"),
		"too much waits at its workflow": &trigger.BacklogError{WorkflowID: "bad", TaskQueue: "q"},
		"an error that Temporal repeats": serviceerror.NewInvalidArgument("no"),
	} {
		p := &picky{fails: map[string]error{"bad": err}}
		f := following(p)

		names := []string{"bad"}
		for i := range 40 {
			names = append(names, fmt.Sprint("good-", i))
		}
		all := changes(names...)
		looks, told := 0, error(nil)
		for ; looks == 0 || told != nil; looks++ {
			if looks > patience {
				t.Fatalf("%s: still held up: %v", name, told)
			}
			names = append(names, fmt.Sprint("later-", looks)) // by which Temporal is seen to be there
			all = changes(names...)
			told = f.handOver(t.Context(), f.fresh(all), false)
			if others := len(names) - 1; len(p.taken) != others {
				t.Fatalf("%s: %d of %d others were handed over", name, len(p.taken), others)
			}
		}
		final := errors.Is(err, trigger.ErrRefused) || looks == 1
		if len(f.fresh(all)) != 0 || !final && (len(f.aside) != 1 || f.point.AsideCount != 1 || f.point.Aside[0].Reason == "") {
			t.Errorf("%s: left %d, aside %+v", name, len(f.fresh(all)), f.point.Aside)
		}
		if final && f.point.Refused != 1 {
			t.Errorf("%s: refused %d", name, f.point.Refused)
		}
		p.fails = nil
		if final {
			continue
		}
		f.aside[asideKey(all[0].Event)].next = time.Time{}
		if err := f.handOver(t.Context(), f.again(nil), false); err != nil || len(p.taken) != len(names) || len(f.aside) != 0 || f.point.AsideCount != 0 {
			t.Errorf("%s: given again: %v, %d taken, %+v", name, err, len(p.taken), f.point.Aside)
		}
	}
}

func TestAnOutageHoldsEverything(t *testing.T) {
	p := &picky{fails: map[string]error{"": serviceerror.NewUnavailable("away")}}
	f := following(p)
	all := changes("a", "b", "c")
	for range 2 * longPatience {
		if err := f.handOver(t.Context(), f.fresh(all), false); err == nil {
			t.Fatal("an outage was taken for the fault of the events")
		}
	}
	if len(f.fresh(all)) != 3 || len(f.aside) != 0 {
		t.Errorf("%d left, %d aside", len(f.fresh(all)), len(f.aside))
	}
	p.fails = nil
	if err := f.handOver(t.Context(), f.fresh(all), false); err != nil || len(p.taken) != 3 {
		t.Errorf("%v, %d taken", err, len(p.taken))
	}
}

func TestTextIsCutBetweenLetters(t *testing.T) {
	if got := clip(strings.Repeat("ü", 400)); strings.ContainsRune(got, '\uFFFD') || len(got) > 310 {
		t.Errorf("%q", got)
	}
}
