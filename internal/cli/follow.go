package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// How often a round is read, and how long one read may take.
const (
	lookFirst = 200 * time.Millisecond
	lookMost  = time.Second
	lookLimit = 5 * time.Second
)

// ended is how a workflow ended.
type ended struct {
	round preemptapi.RoundResult
	err   error
}

// follow watches a round until everything is acted on, and prints each step and outcome as it appears. It does not
// wait for the reply or for late guests.
func (a *app) follow(ctx context.Context, s *session, id string) (preemptapi.RoundResult, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	end := make(chan ended, 1)
	go func() {
		r, err := s.roundResult(ctx, id, "")
		end <- ended{r, err}
	}()
	told := telling{app: a, vms: map[vsphere.Ref]bool{}}
	blind := false
	for pause := lookFirst / 4; ; pause = min(pause*3/2, lookMost) {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return preemptapi.RoundResult{}, context.Cause(ctx)
		case e := <-end:
			timer.Stop()
			if e.err == nil {
				told.of(e.round)
			}
			return e.round, e.err
		case <-timer.C:
		}
		r, err := s.roundState(ctx, id)
		if err != nil {
			if !blind && ctx.Err() == nil {
				a.notice("round %s cannot be read (%s); waiting for it", id, err)
				blind = true
			}
			continue
		}
		blind = false
		told.of(r)
		if r.State.Settled() {
			return r, nil
		}
	}
}

// telling is what was printed about a round so far.
type telling struct {
	app      *app
	vms      map[vsphere.Ref]bool
	deadline time.Time
	length   time.Duration // of the notice
	asked    bool
	changes  int
}

// of prints what has changed in a round since the last call.
func (to *telling) of(r preemptapi.RoundResult) {
	if asked := to.app.rehearsed; asked > 0 && r.NoticeTime != 0 && r.NoticeTime.D() != to.length {
		if to.length = r.NoticeTime.D(); to.length != asked {
			to.step("notice", "--notice %s does not count: policy %s gives a notice of %s", span(asked), r.PolicyName, span(to.length))
		}
	}
	if !r.Deadline.IsZero() && !r.Deadline.Equal(to.deadline) {
		to.deadline = r.Deadline
		to.step("notice", "notice: it runs until %s, or until the guest is ready%s", timestamp(r.Deadline), named(r.Pending))
	}
	for _, change := range r.Changes[min(to.changes, len(r.Changes)):] {
		to.step("change", "%s", change)
	}
	to.changes = max(to.changes, len(r.Changes))
	if r.State == preemptapi.RoundWaiting && !to.asked {
		to.asked = true
		to.step("shutdown", "asked to shut down: waiting for %s", guests(len(r.Waiting)))
	}
	for _, t := range r.Targets {
		if !to.vms[t.Ref] {
			to.vms[t.Ref] = true
			to.outcome(t)
		}
	}
}

// namedShown is how many VMs one line names.
const namedShown = 10

// named names those who are not decided.
func named(list []preemptapi.PendingVM) string {
	if len(list) == 0 {
		return ""
	}
	var names []string
	for _, p := range list[:min(len(list), namedShown)] {
		names = append(names, cmp.Or(p.Name, p.Ref.Value))
	}
	text := ": " + strings.Join(names, ", ")
	if more := len(list) - len(names); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func guests(n int) string {
	if n == 1 {
		return "the guest"
	}
	return fmt.Sprintf("%d guests", n)
}

func (to *telling) step(name, format string, args ...any) {
	if to.app.flags.json {
		to.app.log.Info(name, "text", fmt.Sprintf(format, args...))
		return
	}
	to.app.notice(format, args...)
}

func (to *telling) outcome(t preemptapi.VMOutcome) {
	if to.app.flags.json {
		to.app.log.Info("vm", "vm", t.Name, "moref", t.Ref.Value, "outcome", t.Outcome, "reason", t.Reason.String())
		return
	}
	line := vmName(t.Name, t.Ref) + ": " + becameWords(t)
	if why := t.Reason.Words(); why != "" {
		line += ", " + why
	}
	to.app.notice("%s", line)
}

// roundState returns the current state of a round; it needs a worker.
func (s *session) roundState(ctx context.Context, id string) (r preemptapi.RoundResult, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	v, err := s.QueryWorkflow(ctx, id, "", preemptapi.RoundStateQuery)
	if err != nil {
		return r, err
	}
	return r, v.Get(&r)
}

// roundResult waits for a round's result.
func (s *session) roundResult(ctx context.Context, id, runID string) (preemptapi.RoundResult, error) {
	var r preemptapi.RoundResult
	err := s.GetWorkflow(ctx, id, runID).Get(ctx, &r)
	r, err = preemptapi.ResultOf(err, r)
	if err != nil && ctx.Err() == nil && !timedOut(err) {
		if repaired, none := s.repairedRound(ctx, id, runID, err); none == nil {
			return *repaired.Round, nil
		}
		return r, failedf("round %s ended without a result: %w", id, err)
	}
	return r, err
}

// verdict returns the error of a round that did not do everything that was requested.
func verdict(r preemptapi.RoundResult, failEmpty bool) error {
	reason := r.Reason
	failed := r.Count(action.Failed)
	switch r.State {
	case preemptapi.RoundFailed, preemptapi.RoundPartial:
		if reason == "" {
			reason = "the round ended as " + string(r.State)
		}
		return failedf("%s (round %s)", reason, r.RoundID)
	}
	switch {
	case failed > 0:
		return failedf("%d of %d VMs failed (round %s)", failed, len(r.Targets), r.RoundID)
	case failEmpty && len(r.Targets) == 0:
		return refusedf("%s", cmp.Or(policy.BelowTarget(r.Usage), "no VM tagged "+r.Tag+" was eligible"))
	}
	return nil
}
