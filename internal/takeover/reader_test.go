package takeover

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
)

func TestNoIntakeOfOursIsTakenForAnotherProgramsWhateverItsRelease(t *testing.T) {
	files, err := filepath.Glob("../preempt/testdata/histories/*/*.json")
	if err != nil {
		t.Fatal(err)
	}
	intakes := 0
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		h, err := client.HistoryFromJSON(f, client.HistoryJSONOptions{})
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		begun := h.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes()
		if begun.GetWorkflowType().GetName() != preemption.WorkflowName {
			continue
		}
		intakes++
		j := judge{queue: begun.GetTaskQueue().GetName()}
		if len(h.GetEvents()) > 4 {
			begun.Input = nil // the first run has none; those that continue are not to be known by it alone, once they did anything
		}
		for _, e := range h.GetEvents() {
			if !j.see(e) {
				break
			}
		}
		if j.verdict != ours {
			t.Errorf("%s is judged %v", file, j.verdict)
		}
	}
	if intakes < 10 {
		t.Errorf("only %d recorded intakes were found", intakes)
	}
}

// life writes a history of the prototype down, an event a word.
type life struct {
	r    reader
	at   int64
	task int64
}

func (l *life) add(kind enumspb.EventType, set func(*historypb.HistoryEvent)) int64 {
	l.at++
	e := &historypb.HistoryEvent{EventId: l.at, EventType: kind}
	if set != nil {
		set(e)
	}
	l.r.see(e)
	return l.at
}

func (l *life) signal(name string) int64 {
	return l.add(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_WorkflowExecutionSignaledEventAttributes{
			WorkflowExecutionSignaledEventAttributes: &historypb.WorkflowExecutionSignaledEventAttributes{SignalName: name},
		}
	})
}

func (l *life) request() int64 { return l.signal(preemption.SignalChannel) }

// decide is a workflow task that is completed.
func (l *life) decide() {
	started := l.add(enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED, nil)
	l.task = l.add(enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_WorkflowTaskCompletedEventAttributes{
			WorkflowTaskCompletedEventAttributes: &historypb.WorkflowTaskCompletedEventAttributes{StartedEventId: started},
		}
	})
}

func (l *life) schedule(kind string) int64 {
	return l.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_ActivityTaskScheduledEventAttributes{
			ActivityTaskScheduledEventAttributes: &historypb.ActivityTaskScheduledEventAttributes{
				ActivityType: &commonpb.ActivityType{Name: kind}, WorkflowTaskCompletedEventId: l.task,
			},
		}
	})
}

func (l *life) completed(scheduled int64) {
	l.add(enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_ActivityTaskCompletedEventAttributes{
			ActivityTaskCompletedEventAttributes: &historypb.ActivityTaskCompletedEventAttributes{ScheduledEventId: scheduled},
		}
	})
}

// run is a whole run for what was signalled before.
func (l *life) run() {
	for _, kind := range []string{lookActivity, "PowerOffVMs", "AnnotateVms", "SendPreemptedEvent"} {
		l.decide()
		l.completed(l.schedule(kind))
	}
	l.decide()
}

func (l *life) cancel() { l.add(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED, nil) }

// lives of the prototype, by what each leaves to be done.
var lives = map[string]func(*life) (left []int64, interrupted string){
	"nothing after a run": func(l *life) ([]int64, string) {
		l.request()
		l.run()
		return nil, ""
	},
	"what came after the last task": func(l *life) ([]int64, string) {
		l.request()
		l.run()
		return []int64{l.request(), l.request()}, ""
	},
	"what came when no worker had begun": func(l *life) ([]int64, string) {
		return []int64{l.request(), l.request()}, ""
	},
	"nothing of what it skipped": func(l *life) ([]int64, string) {
		l.request()
		l.run()
		l.request()
		l.decide()
		return nil, ""
	},
	"the request of a run that only looks": func(l *life) ([]int64, string) {
		l.request()
		l.run()
		r := l.request()
		l.decide()
		l.schedule(lookActivity)
		return []int64{r}, ""
	},
	"the request of a run that has looked, of which the workflow does not know yet": func(l *life) ([]int64, string) {
		r := l.request()
		l.decide()
		l.completed(l.schedule(lookActivity))
		return []int64{r}, ""
	},
	"the last of several that came before the run that is looking": func(l *life) ([]int64, string) {
		l.request()
		last := l.request()
		l.run() // of the first; the second waited a minute
		l.schedule(lookActivity)
		return []int64{last}, ""
	},
	"nothing of a run that found nobody": func(l *life) ([]int64, string) {
		l.request()
		l.decide()
		l.completed(l.schedule(lookActivity))
		l.decide()
		return nil, ""
	},
	"nothing of a run that acts, but what it was doing": func(l *life) ([]int64, string) {
		l.request()
		l.decide()
		l.completed(l.schedule(lookActivity))
		l.decide()
		l.schedule("PowerOffVMs")
		return []int64{l.request()}, "PowerOffVMs"
	},
	"nothing of what was cancelled since": func(l *life) ([]int64, string) {
		l.request()
		l.run()
		l.request()
		l.cancel()
		return []int64{l.request()}, ""
	},
	"every alarm change, which it does not know": func(l *life) ([]int64, string) {
		a := l.signal(preemption.AlarmSignal)
		l.request()
		l.run()
		l.signal("Other")
		return []int64{a, l.request()}, ""
	},
}

func TestWhatAPrototypesHistoryLeavesToBeDone(t *testing.T) {
	for name, live := range lives {
		t.Run(name, func(t *testing.T) {
			l := &life{}
			l.add(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED, nil)
			want, interrupted := live(l)
			e := l.r.estate()
			var got []int64
			for _, s := range e.pending {
				got = append(got, s.id)
			}
			if !slices.Equal(got, want) || e.interrupted != interrupted {
				t.Errorf("left are %v and %q, want %v and %q", got, e.interrupted, want, interrupted)
			}
		})
	}
}

func TestWhatAStartCannotCarryIsSignalledInItsOrder(t *testing.T) {
	of := func(name string, v any) signal {
		p, err := converter.GetDefaultDataConverter().ToPayloads(v)
		if err != nil {
			t.Fatal(err)
		}
		return signal{name: name, input: p}
	}
	text := func(n int) string { return string(make([]byte, n/6)) } // \u0000 is six bytes
	plain := of(preemption.SignalChannel, map[string]string{"tag": "a"})
	bundle := of(preemption.AlarmSignal, []int{1, 2})
	large := of(preemption.SignalChannel, text(300<<10))
	for name, c := range map[string]struct {
		pending       []signal
		carried, rest int
	}{
		"requests":                  {[]signal{plain, plain}, 2, 0},
		"an array of alarm changes": {[]signal{plain, bundle, plain}, 1, 2},
		"more than a start holds":   {[]signal{large, large, plain}, 1, 2},
		"no payload":                {[]signal{{name: preemption.SignalChannel}, plain}, 0, 2},
		"bytes":                     {[]signal{of(preemption.SignalChannel, []byte("x"))}, 0, 1},
	} {
		if in, rest := input(c.pending); len(in.Pending) != c.carried || len(rest) != c.rest {
			t.Errorf("%s: %d carried and %d signalled, want %d and %d", name, len(in.Pending), len(rest), c.carried, c.rest)
		}
	}
}
