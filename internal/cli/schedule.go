package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// The id of a schedule in Temporal is a prefix and its name, which distinguishes it from other people's schedules. The
// ids of its runs have another prefix, and Temporal adds the time.
const (
	schedulePrefix     = "preemption-"
	scheduledRunPrefix = "schedule-"
)

// scheduleCommand groups the commands about schedules.
func (a *app) scheduleCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "schedule", Aliases: []string{"schedules"},
		Short: "Preempt or reconcile at set times: create, list, pause, resume, run and delete schedules",
		Long: "Preempt VMs, or reconcile them with their tags, at set times. A schedule is kept in Temporal, and no program of\n" +
			"ours has to run for it. When it is due, Temporal starts a reconciliation, or an intake with the schedule's\n" +
			"request. The intake completes when the request is handled.\n\n" +
			"A scheduled request is treated like a person's. In the cooldown, or beside a round that does as much, it is\n" +
			"refused and does not wait. list shows the refusal, and the next run asks again.\n\n" +
			exitStatus("", ""),
		Example: "  preemptctl schedule create nightly --at 22:00 --time-zone Europe/Berlin\n  preemptctl schedule list",
	}
	return group(cmd, a.scheduleCreateCommand(), a.scheduleListCommand(), a.schedulePauseCommand(), a.scheduleResumeCommand(),
		a.scheduleRunCommand(), a.scheduleDeleteCommand())
}

var goodName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// oneName accepts one argument, the name of a schedule.
func oneName(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("%s takes one argument, the name of a schedule, got %d", c.CommandPath(), len(args))
	}
	if !goodName.MatchString(args[0]) {
		return usagef("%q is no name of a schedule: use letters, digits, - _ and ., at most 64, the first a letter or digit", args[0])
	}
	return nil
}

// overlap is what happens to a run that is due while one is under way.
type overlap struct {
	word   string
	policy enumspb.ScheduleOverlapPolicy
	means  string
}

var overlapPolicies = []overlap{
	{"skip", enumspb.SCHEDULE_OVERLAP_POLICY_SKIP, "a run that is due while one is under way is left out"},
	{
		"buffer-one", enumspb.SCHEDULE_OVERLAP_POLICY_BUFFER_ONE,
		"one run that is due while one is under way starts when that ends",
	},
	{
		"cancel-other", enumspb.SCHEDULE_OVERLAP_POLICY_CANCEL_OTHER,
		"a run that is due cancels the one under way, which spares VMs that it has not acted on, and starts when that has ended",
	},
	{
		"allow-all", enumspb.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL,
		"a run starts whenever it is due; if another is working, it is refused",
	},
}

func overlapWords() (words []string) {
	for _, o := range overlapPolicies {
		words = append(words, o.word)
	}
	return words
}

// overlapOf finds a policy by its number; a policy that is not offered here keeps Temporal's own name.
func overlapOf(policy enumspb.ScheduleOverlapPolicy) overlap {
	for _, o := range overlapPolicies {
		if o.policy == policy {
			return o
		}
	}
	return overlap{word: strings.ToLower(policy.String()), policy: policy}
}

// scheduled is a schedule as it is printed.
type scheduled struct {
	Name        string                 `json:"name"`
	ID          string                 `json:"scheduleID"`
	Reconciles  bool                   `json:"reconciles,omitempty"` // it starts the reconciliation, and preempts nothing
	When        string                 `json:"when"`                 // in words
	Cron        string                 `json:"cron,omitempty"`
	Every       string                 `json:"every,omitempty"`
	TimeZone    string                 `json:"timeZone"`
	Next        []time.Time            `json:"next"`
	Overlap     string                 `json:"overlap"`
	CatchUp     string                 `json:"catchUp"`
	GiveUp      string                 `json:"giveUp,omitempty"` // when a run ends that no worker takes
	Jitter      string                 `json:"jitter,omitempty"`
	Paused      bool                   `json:"paused"`
	PausedWhy   string                 `json:"pausedReason,omitempty"`
	Note        string                 `json:"note,omitempty"`
	Tag         string                 `json:"tag,omitempty"`
	Criticality preemption.Criticality `json:"criticality,omitempty"`
	Policy      string                 `json:"policy,omitempty"`
	ReplyTo     string                 `json:"replyTo,omitempty"`
	Cluster     string                 `json:"cluster,omitempty"`  // its MoRef; empty: wherever VMs run
	Headroom    bool                   `json:"headroom,omitempty"` // only what the policy's headroom lacks goes
	Queue       string                 `json:"taskQueue"`
	Runs        int                    `json:"runs"`              // started so far
	Skipped     int                    `json:"skipped,omitempty"` // left out because one was under way
	Missed      int                    `json:"missed,omitempty"`  // too late to catch up
	Running     []string               `json:"running,omitempty"` // workflow ids of the runs under way
	Last        *scheduledRun          `json:"last,omitempty"`
}

// schedule looks up one of our schedules.
func (s *session) schedule(ctx context.Context, name string) (client.ScheduleHandle, scheduled, error) {
	a := s.app
	h := s.ScheduleClient().GetHandle(ctx, schedulePrefix+name)
	d, err := h.Describe(ctx)
	if missing(err) {
		return h, scheduled{}, notFoundf("no schedule %s in namespace %s on %s; see: %s",
			name, a.target.namespace, a.target.address, a.command("schedule", "list"))
	}
	if err != nil {
		return h, scheduled{}, fmt.Errorf("look up schedule %s: %w", name, err)
	}
	out, ok := scheduleOf(h.GetID(), d)
	if !ok {
		return h, out, refusedf("schedule %s starts no preemption or reconciliation: preemptctl did not create it, and leaves it alone", h.GetID())
	}
	return h, out, nil
}

// scheduleOf reads what Temporal has; ok is false if it is not one of ours.
func scheduleOf(id string, d *client.ScheduleDescription) (out scheduled, ok bool) {
	name, ours := strings.CutPrefix(id, schedulePrefix)
	action, starts := d.Schedule.Action.(*client.ScheduleWorkflowAction)
	if !ours || !starts || action.Workflow != preemption.WorkflowName && action.Workflow != remediateapi.ReconcileType {
		return out, false
	}
	out = scheduled{
		Name: name, ID: id, Reconciles: action.Workflow == remediateapi.ReconcileType, TimeZone: zoneName(d.Schedule.Spec.TimeZoneName), Next: d.Info.NextActionTimes, Queue: action.TaskQueue,
		Overlap: overlapOf(d.Schedule.Policy.Overlap).word, CatchUp: span(d.Schedule.Policy.CatchupWindow),
		Paused: d.Schedule.State.Paused, Note: textOf(d.Memo, "note"),
		Runs: d.Info.NumActions, Skipped: d.Info.NumActionsSkippedOverlap, Missed: d.Info.NumActionsMissedCatchupWindow,
	}
	out.When, out.Cron, out.Every = whenOf(d.Schedule.Spec)
	if limit := action.WorkflowExecutionTimeout; limit > 0 {
		out.GiveUp = span(limit)
	}
	if j := d.Schedule.Spec.Jitter; j > 0 {
		out.Jitter = span(j)
	}
	if out.Paused {
		out.PausedWhy, out.Next = d.Schedule.State.Note, []time.Time{}
	}
	for _, w := range d.Info.RunningWorkflows {
		out.Running = append(out.Running, w.WorkflowID)
	}
	if req, err := scheduledRequest(action.Args); err == nil && !out.Reconciles {
		out.asks(req)
	}
	return out, true
}

// asks copies the values of a schedule's request.
func (o *scheduled) asks(req preemption.WorkflowRequest) {
	o.Tag, o.Criticality, o.Policy, o.ReplyTo = req.Tag, req.Criticality, req.Policy, shown.Redact(req.ReplyTo)
	o.Cluster, o.Headroom = req.Cluster, req.Headroom
}

// scheduledRequest reads the request back from the input of a schedule's runs.
func scheduledRequest(args []any) (req preemption.WorkflowRequest, err error) {
	var in struct {
		Pending []struct {
			JSON json.RawMessage `json:"json"`
		} `json:"pending"`
	}
	if len(args) != 1 {
		return req, fmt.Errorf("%d arguments, want one", len(args))
	}
	p, ok := args[0].(*commonpb.Payload)
	if !ok {
		return req, errors.New("the argument is not encoded")
	}
	if err := converter.GetDefaultDataConverter().FromPayload(p, &in); err != nil {
		return req, err
	}
	if len(in.Pending) != 1 {
		return req, fmt.Errorf("%d requests, want one", len(in.Pending))
	}
	return req, json.Unmarshal(in.Pending[0].JSON, &req)
}

func zoneName(name string) string {
	if name == "" {
		return "UTC"
	}
	return name
}

// notTaken reports whether Temporal refuses the request as wrong.
func notTaken(err error) bool {
	var invalid *serviceerror.InvalidArgument
	return errors.As(err, &invalid)
}

// changed is what the commands that change a schedule print.
type changed struct {
	Name    string   `json:"name"`
	ID      string   `json:"scheduleID"`
	Done    string   `json:"done"` // paused, resumed, triggered, deleted
	Effect  string   `json:"effect"`
	Running []string `json:"running,omitempty"` // runs under way, which are not touched
	next    string

	reconciles bool
}

// showChanged prints what was done to a schedule, and which of its runs continue.
func (a *app) showChanged(c changed) error {
	return a.show(view{
		value: c, msg: c.Done + " schedule",
		attrs: []any{"schedule", c.Name, "scheduleID", c.ID, "effect", c.Effect, "running", c.Running},
		table: func(t *table) {
			t.row("schedule", c.Name)
			t.row(c.Done, c.Effect)
			for _, id := range c.Running {
				then := "; cancel it: " + a.command("workflow", "cancel", "--workflow-id", id)
				if c.reconciles {
					then = "; look: " + a.command("remediation", "show", id)
				}
				t.row("goes on", id+then)
			}
			t.row("next", c.next)
		},
	})
}
