package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
)

// maxReason bounds the reason of a pause or a spare.
const maxReason = 200

// pauseFlags are the flags of pause and resume.
type pauseFlags struct {
	cluster, alarm, reason string
	lasts                  time.Duration
	all                    bool
}

func (f *pauseFlags) register(cmd *cobra.Command, verb string) {
	cmd.Flags().SortFlags = false
	placeFlag(cmd, &f.cluster, verb+" what is done in this cluster", "everywhere")
	cmd.Flags().StringVar(&f.alarm, "alarm", "", verb+" the rounds of the alarm of this name (default: those of all)")
}

func (a *app) pauseCommand() *cobra.Command {
	var f pauseFlags
	cmd := &cobra.Command{
		Use: "pause", Args: noArgs,
		Short: "Hold up all that would touch VMs",
		Long: "Hold up preemption at once: no round begins, and one that is under way is withdrawn, so that whoever was not acted on\n" +
			"yet stays on. Restores and remediations stop between two VMs and wait. It lasts for the time of --for, or until\n" +
			"preemptctl resume. With --cluster it holds in one cluster; with --alarm it holds up the rounds of one alarm, and\n" +
			"nothing else. Alarms that still stand afterwards have their turn within 15 seconds.\n\n" +
			"A pause is kept in Temporal: it survives restarts of the workers and holds for all of them. Remediations heed a pause\n" +
			"of everything.\n\n" + exitStatus("no such cluster", "too many pauses hold already"),
		Example: "  preemptctl pause --for 2h --reason \"storage migration\"\n  preemptctl pause --cluster cluster-a --reason \"CHG-4711\"\n" +
			"  preemptctl pause --alarm cluster-cpu-above-80 --reason \"it flaps\"\n  preemptctl pause list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.withSession(cmd, quick+namesLimit, func(ctx context.Context, s *session) error { return a.pause(ctx, s, f) })
		},
	}
	f.register(cmd, "hold up")
	cmd.Flags().DurationVar(&f.lasts, "for", 0, "for how long, 1m to 744h (default: until resume)")
	cmd.Flags().StringVar(&f.reason, "reason", "", "why; it is shown wherever something is held up")
	list := &cobra.Command{
		Use: "list", Args: noArgs,
		Short:   "Show what is paused",
		Long:    "Show what is paused, by whom, since when, for how long and why.\n\n" + exitStatus("", ""),
		Example: "  preemptctl pause list\n  preemptctl pause list -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withSession(cmd, quick, func(ctx context.Context, s *session) error {
				h, err := s.heldUp(ctx)
				if err != nil {
					return err
				}
				return a.showPauses(h.Pauses, "what is paused")
			})
		},
	}
	cmd.AddCommand(list)
	return cmd
}

func (f pauseFlags) check() error {
	switch {
	case f.cluster != "" && f.alarm != "":
		return usagef("--cluster and --alarm do not go together: give one, or two pauses")
	case f.lasts != 0 && (f.lasts < time.Minute || f.lasts > ledger.MaxHeldFor):
		return usagef("--for %s is not within 1m to %s", f.lasts, span(ledger.MaxHeldFor))
	case len(f.alarm) > maxReason:
		return usagef("--alarm is %d bytes long: at most %d are taken", len(f.alarm), maxReason)
	}
	return checkReason(f.reason)
}

// checkReason checks why somebody holds something up.
func checkReason(reason string) error {
	switch {
	case strings.TrimSpace(reason) == "":
		return usagef("--reason is missing: say why; others will see it")
	case len(reason) > maxReason || strings.ContainsFunc(reason, unicode.IsControl):
		return usagef("--reason has more than %d bytes, or control characters", maxReason)
	}
	return nil
}

// ledger is the ledger of the task queue, as this command reaches it.
func (s *session) ledger() ledger.Client {
	return ledger.Client{Temporal: s.Client, TaskQueue: s.app.target.queue}
}

// heldUp returns what persons hold up and spare.
func (s *session) heldUp(ctx context.Context) (ledger.HeldUp, error) {
	ctx, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	return s.ledger().HeldUp(ctx, s.app.Now())
}

// warnPaused says on stderr what is paused. That it cannot be found out hides nothing else.
func (a *app) warnPaused(ctx context.Context, s *session) {
	if polled, err := s.polled(ctx); err != nil || !polled {
		return // only a worker tells
	}
	h, err := s.heldUp(ctx)
	if err != nil {
		a.log.Debug("it is not known what is paused", "error", err)
		return
	}
	for _, p := range h.Pauses {
		a.notice("PAUSED: %s (%s)", clean(p.Words()), a.command(p.Resumes()...))
	}
}

// who is the person at the terminal, as far as the environment tells.
func (a *app) who() string {
	for _, name := range []string{"SUDO_USER", "USER", "USERNAME", "LOGNAME"} {
		if who, ok := a.Env.LookupEnv(name); ok && who != "" {
			return clean(who[:min(len(who), 64)])
		}
	}
	return ""
}

// mustPoll returns an error where no worker polls, of which the ledger is a workflow.
func (s *session) mustPoll(ctx context.Context, so string) error {
	polled, err := s.polled(ctx)
	if err == nil && !polled {
		err = s.app.noWorker(so)
	}
	return err
}

func (a *app) pause(ctx context.Context, s *session, f pauseFlags) error {
	if err := s.mustPoll(ctx, "nothing is preempted without one; pause again when one starts"); err != nil {
		return err
	}
	ref, err := a.placeNamed(ctx, s, f.cluster)
	if err != nil {
		return err
	}
	p := ledger.Pause{Scope: ref.String(), Alarm: strings.TrimSpace(f.alarm), By: a.who(), Reason: strings.TrimSpace(f.reason)}
	if f.cluster != ref.Value {
		p.Name = f.cluster
	}
	if f.lasts > 0 {
		p.Until = a.Now().Add(f.lasts).UTC().Truncate(time.Second)
	}
	got, err := s.ledger().Pause(ctx, ledger.PauseRequest{Pause: p})
	switch {
	case err != nil:
		return err
	case got.Refused != "":
		return refusedf("not paused: %s", got.Refused)
	}
	s.tellPeople(ctx, p, "is paused")
	if err := s.tellPaused(ctx, p, got); err != nil {
		return err
	}
	return a.showPauses(got.Pauses, "paused")
}

// toldWithin is how long workers may try to tell people of a pause.
const toldWithin = time.Hour

// tellPeople has a worker tell the channels of its file that something is paused, or goes on. A pause holds whether people hear of it
// or not.
func (s *session) tellPeople(ctx context.Context, p ledger.Pause, what string) {
	m := tell.Message{
		ID: uuid.NewString(), Event: tell.Paused, At: s.app.Now().UTC(), What: p.Of() + " " + what, Why: p.Words(),
		Cluster: p.Name, ClusterRef: p.Scope, Alarm: p.Alarm, Stop: s.app.command(p.Resumes()...), Look: s.app.command("pause", "list"),
	}
	_, err := s.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: "preemption-notification-" + m.ID, TaskQueue: s.app.target.queue, WorkflowExecutionTimeout: toldWithin,
		StaticSummary: "tell people: " + string(m.Event),
	}, tell.WorkflowType, tell.Order{Message: m})
	if err != nil {
		s.app.log.Warn("people are not told of the pause", "error", err)
	}
}

// tellPaused withdraws the rounds that are under way, and holds the restores. Both would find out by themselves before they act on
// another VM.
func (s *session) tellPaused(ctx context.Context, p ledger.Pause, got ledger.PauseAnswer) error {
	withdraw := preemptapi.RoundChange{Withdraw: true, Paused: true, Reason: p.Words()}
	for _, id := range got.Rounds {
		if err := s.SignalWorkflow(ctx, id, "", preemptapi.RoundChangeSignal, withdraw); err != nil && !missing(err) {
			return fmt.Errorf("paused, and round %s could not be told: it spares whoever it has not acted on yet when it looks the next time: %w", id, err)
		}
		s.app.notice("round %s is withdrawn", id)
	}
	for _, id := range got.Restores {
		if err := s.SignalWorkflow(ctx, id, "", preemptapi.RestoreHoldSignal, preemptapi.RestoreChange{Reason: p.Words()}); err != nil && !missing(err) {
			return fmt.Errorf("paused, and %s could not be told: it holds when it plans its next wave: %w", id, err)
		}
	}
	return nil
}

func (a *app) resumeCommand() *cobra.Command {
	var f pauseFlags
	cmd := &cobra.Command{
		Use: "resume", Args: noArgs,
		Short: "End a pause",
		Long: "End a pause: that of everything, or with --cluster or --alarm that of a cluster or an alarm, or with --all each one.\n" +
			"Alarms that still stand have their turn within 15 seconds, restores and remediations within a few minutes.\n\n" +
			exitStatus("nothing of the kind is paused, or no such cluster", ""),
		Example: "  preemptctl resume\n  preemptctl resume --cluster cluster-a\n  preemptctl resume --all",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n := len(f.cluster) + len(f.alarm); f.all && n > 0 {
				return usagef("--all ends each pause: leave --cluster and --alarm out")
			}
			return a.withSession(cmd, quick+namesLimit, func(ctx context.Context, s *session) error { return a.resume(ctx, s, f) })
		},
	}
	f.register(cmd, "end the pause of")
	cmd.Flags().BoolVar(&f.all, "all", false, "end each pause")
	return cmd
}

func (a *app) resume(ctx context.Context, s *session, f pauseFlags) error {
	if err := s.mustPoll(ctx, "a pause can be ended when one starts"); err != nil {
		return err
	}
	ref, err := a.placeNamed(ctx, s, f.cluster)
	if err != nil {
		return err
	}
	got, err := s.ledger().Pause(ctx, ledger.PauseRequest{Pause: ledger.Pause{Scope: ref.String(), Alarm: strings.TrimSpace(f.alarm)}, End: true, All: f.all})
	switch {
	case err != nil:
		return err
	case len(got.Ended) == 0 && len(got.Pauses) > 0:
		return notFoundf("no such pause; there are others: %s", a.command("pause", "list"))
	case len(got.Ended) == 0:
		return notFoundf("nothing is paused")
	}
	for _, p := range got.Ended {
		a.notice("ended: %s", clean(p.Words()))
		s.tellPeople(ctx, p, "goes on")
	}
	return a.showPauses(got.Pauses, "resumed")
}

// showPauses prints the pauses that hold by now.
func (a *app) showPauses(list []ledger.Pause, msg string) error {
	if list == nil {
		list = []ledger.Pause{}
	}
	return a.show(view{
		value: list, msg: msg, attrs: []any{"pauses", list},
		table: func(t *table) {
			if len(list) == 0 {
				t.row("paused", "nothing")
				return
			}
			t.section("PAUSED", "SINCE", "UNTIL", "BY", "REASON", "END IT").spare("SINCE", "BY")
			for _, p := range list {
				t.row(clean(p.Of()), timestamp(p.Since), cmp.Or(timestamp(p.Until), "resumed"), orDash(p.By), clean(p.Reason), a.command(p.Resumes()...))
			}
		},
	})
}
