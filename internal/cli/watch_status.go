package cli

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/health"
)

// The states of the watch, as status names them.
const (
	watchFollowing  = "following"
	watchPaused     = "paused"
	watchStarting   = "starting"   // no worker has taken it yet
	watchTrouble    = "in trouble" // a worker runs it, but cannot read or hand over at the moment
	watchBehind     = "behind"     // a worker runs it, but its last read was long ago
	watchFailing    = "failing"    // the last attempt failed
	watchSilent     = "silent"     // a worker should answer and does not
	watchUnattended = "unattended" // no worker polls the task queue
	watchEnded      = "ended"
)

// watchSilence is how long the watch may be without a heartbeat, or without a read of vCenter.
const watchSilence = 30 * time.Second

// How often status checks again, and so how long it waits, while one worker hands the watch to another.
const (
	watchLooks = 12
	watchPause = 250 * time.Millisecond
)

// watchStatus is what status prints.
type watchStatus struct {
	WorkflowID    string              `json:"workflowID"`
	RunID         string              `json:"workflowRunID"`
	Execution     string              `json:"execution"` // the workflow's state in Temporal
	State         string              `json:"state"`
	Why           string              `json:"why,omitempty"` // why no worker runs it
	WorkerPolling bool                `json:"workerPolling"`
	PausedAt      time.Time           `json:"pausedAt,omitzero"`
	PausedReason  string              `json:"pausedReason,omitempty"`
	Lag           string              `json:"lag,omitempty"`      // since vCenter's last answer
	Heartbeat     time.Time           `json:"heartbeat,omitzero"` // of the worker that runs it
	Attempt       int32               `json:"attempt,omitempty"`  // of the activity
	Failure       string              `json:"failure,omitempty"`  // of the attempt before
	Checkpoint    watchapi.Checkpoint `json:"checkpoint"`
	// Stalled are the workflows of the task queue that make no progress: events that are handed to them are not acted on.
	Stalled []health.Stall `json:"stalled,omitempty"`
	// Rejected is what the intakes of the task queue rejected in the last day, the newest first.
	Rejected []rejected `json:"rejected,omitempty"`
}

func (a *app) watchStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Args: noArgs,
		Short: "Show the state of the watch of vCenter's events",
		Long: "Show the state of the watch of vCenter's events: which worker runs it, how far it is behind, the last event and\n" +
			"its result, which alarms are active, what intakes rejected in the last day, and what is wrong. A worker reports\n" +
			"every few seconds, so the answer is up to ten seconds old. A paused watch is not a failure.\n\n" +
			exitCodes(", also when the watch is in trouble, no worker runs it, or a workflow that it signals makes no progress", "no such watch", ""),
		Example: "  preemptctl watch status\n  preemptctl watch status -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withSession(cmd, quick+rejectedWait+watchLooks*watchPause, func(ctx context.Context, s *session) error { return a.watchStatus(ctx, s) })
		},
	}
}

func (a *app) watchStatus(ctx context.Context, s *session) error {
	st, found, err := a.settledWatch(ctx, s)
	if err != nil {
		return err
	}
	if !found {
		return a.noWatch("")
	}
	progress := s.progressBeside(ctx)
	st.Stalled = progress.Stalled
	if st.WorkerPolling {
		st.Rejected = s.rejections(ctx)
	}
	err = a.show(view{
		value: st, msg: "retrieved watch status", attrs: []any{"workflowID", st.WorkflowID, "state", st.State, "watch", st},
		table: func(t *table) { a.watchTable(t, st) },
	})
	a.tellStalled(progress)
	switch {
	case err != nil:
		return err
	case (st.State == watchFollowing || st.State == watchPaused) && progress.Healthy():
		return nil
	case st.State == watchFollowing || st.State == watchPaused:
		return failedf("the watch is %s, but %d workflow(s) of task queue %s make no progress, named above", st.State, len(st.Stalled), a.target.queue)
	}
	return failedf("vCenter's events are not followed for task queue %s: %s", a.target.queue, st.Why)
}

// settledWatch reads the watch until it is well, at most a few times; found is false if there is none.
func (a *app) settledWatch(ctx context.Context, s *session) (st watchStatus, found bool, err error) {
	for look := 1; ; look++ {
		w, found, err := s.lookAtWatch(ctx)
		if err != nil || !found {
			return st, found, err
		}
		st = a.watchStatusOf(w)
		if !st.unsettled() || w.silence != nil || look == watchLooks || !clock.Sleep(ctx, watchPause) {
			return st, true, nil
		}
	}
}

// unsettled reports whether the watch may be well a moment later: one worker hands over to another within
// a second or two.
func (st watchStatus) unsettled() bool { return st.State == watchStarting || st.State == watchFailing }

func (a *app) watchStatusOf(w watchLook) watchStatus {
	st := watchStatus{
		WorkflowID: w.id, RunID: w.info.GetExecution().GetRunId(), Execution: statusWord(w.info.GetStatus()), WorkerPolling: w.polled,
		Attempt: w.activity.GetAttempt(), Failure: w.activity.GetLastFailure().GetMessage(), Heartbeat: w.heartbeat(), Checkpoint: w.checkpoint(),
	}
	st.Checkpoint.Seen = nil // of no use to a reader
	st.Checkpoint.Worker = cmp.Or(st.Checkpoint.Worker, w.activity.GetLastWorkerIdentity())
	if w.paused() {
		st.PausedAt, st.PausedReason = w.state.PausedAt, w.state.Reason
	}
	if looked := st.Checkpoint.LookedAt; !looked.IsZero() {
		st.Lag = max(a.Now().Sub(looked), 0).Round(time.Second).String()
	}
	st.State, st.Why = a.judgeWatch(w, st)
	return st
}

// judgeWatch returns the state of the watch in one word, and why no worker runs it if that is so.
func (a *app) judgeWatch(w watchLook, st watchStatus) (state, why string) {
	ago := func(t time.Time) time.Duration { return a.Now().Sub(t) }
	c := st.Checkpoint
	waiting := w.activity.GetState() == enumspb.PENDING_ACTIVITY_STATE_SCHEDULED
	switch {
	case !w.running():
		return watchEnded, fmt.Sprintf("the watch is %s; start it: %s", st.Execution, a.command("watch", "start"))
	case w.paused():
		return watchPaused, ""
	case !w.polled:
		return watchUnattended, fmt.Sprintf("no worker polls task queue %s in namespace %s", a.target.queue, a.target.namespace)
	case w.activity == nil && w.silence != nil:
		return watchSilent, w.silence.Error()
	case waiting && st.Failure != "":
		return watchFailing, fmt.Sprintf("attempt %d waits, for the one before failed: %s", st.Attempt, st.Failure)
	case w.activity == nil || waiting || st.Heartbeat.IsZero():
		return watchStarting, "no worker has taken it up yet"
	case ago(st.Heartbeat) > watchSilence:
		return watchSilent, fmt.Sprintf("worker %s was last heard of at %s", orDash(c.Worker), timestamp(st.Heartbeat))
	case c.Trouble != "":
		return watchTrouble, fmt.Sprintf("%s (since %s; it is tried again and again)", c.Trouble, timestamp(c.Since))
	case c.LookedAt.IsZero():
		return watchStarting, "it reads vCenter for the first time"
	case ago(c.LookedAt) > watchSilence:
		return watchBehind, fmt.Sprintf("vCenter last answered at %s", timestamp(c.LookedAt))
	}
	return watchFollowing, ""
}

// watchTable shows the watch, its last events and the active alarms.
func (a *app) watchTable(t *table, st watchStatus) {
	c := st.Checkpoint
	t.section()
	t.row("watch", st.WorkflowID+" ("+st.State+")")
	t.field("why", st.Why)
	if st.State == watchPaused {
		t.row("paused", timestamp(st.PausedAt)+": "+orDash(st.PausedReason))
		t.row("to continue", a.command("watch", "start"))
	}
	t.row("vCenter", orDash(c.VCenter))
	t.row("worker", orDash(c.Worker))
	if st.Attempt > 1 {
		t.row("attempt", count(int(st.Attempt)))
	}
	if st.State != watchFailing {
		t.field("failed before", st.Failure)
	}
	if !st.Heartbeat.IsZero() {
		t.field("lag", st.Lag)
	}
	t.row("last look", cmp.Or(timestamp(c.LookedAt), "never"))
	t.row("reached", cmp.Or(timestamp(c.Reached), "nothing yet"))
	t.row("events", fmt.Sprintf("%d read, %d handed on, %d caught by comparing states, %d refused", c.Events, c.Sent, c.Caught, c.Refused))
	if c.AsideCount > 0 {
		t.row("set aside", fmt.Sprintf("%d that could not be handed over and are given again", c.AsideCount))
	}
	t.row("last event", noteWords(c.Last))
	t.row("last action", actionWords(c.LastSent))
	if c.LastRefused != nil {
		t.row("last refused", noteWords(c.LastRefused))
	}
	if len(c.Aside) > 0 {
		t.section("SET ASIDE", "TRIES", "WHY")
		for _, e := range c.Aside {
			t.row(e.Event, count(e.Tries), e.Reason)
		}
	}
	if len(st.Rejected) > 0 {
		t.section("REJECTED", "AT", "WHY")
		for _, r := range st.Rejected {
			t.row(r.WorkflowID, timestamp(r.Time), r.Reason)
		}
	}
	if len(c.Levels) > 0 {
		t.section("IN ALARM", "ALARM", "COLOUR", "SINCE", "SCOPE")
		for _, l := range c.Levels {
			t.row(objectWords(l.Entity), objectWords(l.Alarm), l.Colour, timestamp(l.Time), objectWords(l.Scope))
		}
	}
}

// noteWords describes an event and its result.
func noteWords(n *watchapi.Note) string {
	if n == nil {
		return "none"
	}
	text := timestamp(n.Time) + " " + cmp.Or(n.Alarm, n.Class)
	if n.Entity != "" {
		text += " on " + n.Entity
	}
	if n.To != "" {
		text += " to " + n.To
	}
	if n.Reason != "" {
		return text + ": " + n.Reason
	}
	return text + ": " + orDash(n.What)
}

// actionWords returns the last result of an event.
func actionWords(n *watchapi.Note) string {
	if n == nil {
		return "none"
	}
	return fmt.Sprintf("%s %s: %s", timestamp(n.At), n.WorkflowID, orDash(n.What))
}

func objectWords(o watchapi.Object) string {
	switch {
	case o.Value == "":
		return "-"
	case o.Name == "":
		return o.Type + ":" + o.Value
	}
	return o.Name + " (" + o.Value + ")"
}
