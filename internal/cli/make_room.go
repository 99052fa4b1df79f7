package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// makeRoomFlags are the flags of make-room.
type makeRoomFlags struct {
	askFlags
	room                           roomFlags
	powerOn, dryRun, observe, wait bool
	hold, busy, timeout            time.Duration
}

// longestHold bounds --hold and --busy-wait, as the worker does.
const longestHold = 24 * time.Hour

func (a *app) makeRoomCommand() *cobra.Command {
	f := makeRoomFlags{askFlags: askFlags{criticality: string(preemption.CriticalityHigh)}}
	cmd := &cobra.Command{
		Use: "make-room", Args: noArgs,
		Short: "Make room on one host for a VM that needs it now",
		Long: "Make room on one host: the fewest and least important VMs that carry the tag go, on the host where that costs\n" +
			"least. With --power-on the VM is powered on there; if vCenter refuses for lack of resources, more VMs go, step by\n" +
			"step, within the limits of the policy. If there is no room even so, or vCenter refuses for another reason, those\n" +
			"who went come back at once. Nobody goes where the figures show beforehand that it cannot help.\n\n" +
			"The VM must be off, and must carry a tag of the category that the worker's file names, " + preemption.BeneficiaryCategory + " by\n" +
			"default. Only VMs of a lower preemption-priority go. Room for a VM that is not powered on is held: no restore takes\n" +
			"it, and no other plan counts on it, until the VM runs or the time is over.\n\n" +
			exitStatus("no such VM, tag, cluster or policy", "refused, and nobody went: no host can have the room, the VM is on, or it may not ask"),
		Example: "  # on which host, who would go, and what would the other hosts cost?\n  preemptctl make-room --for db-1 --dry-run\n" +
			"  # the real thing\n  preemptctl make-room --for db-1 --power-on\n" +
			"  # 8 CPUs and 24 GiB in one piece, for half an hour\n  preemptctl make-room --cpus 8 --memory 24GiB --cluster cluster-a --hold 30m\n" +
			"  # room on two hosts at once, or on none\n  preemptctl make-room --cpus 4 --memory 8GiB --cluster cluster-a --hosts 2",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.makeRoom(cmd, f) },
	}
	f.register(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.room.vm, "for", "", "the VM: its name, inventory path or MoRef")
	flags.IntVar(&f.room.cpus, "cpus", 0, "without --for: so many CPUs")
	flags.StringVar(&f.room.memory, "memory", "", "without --for: so much memory, such as 128GiB")
	flags.IntVar(&f.room.hosts, "hosts", 1, "without --for: on so many different hosts at once, all or none")
	clusterFlag(cmd, &f.room.cluster, "where to make it", "the cluster of the VM")
	flags.BoolVar(&f.powerOn, "power-on", false, "power the VM on when its room is there")
	flags.DurationVar(&f.hold, "hold", 0, "how long the room is kept for a VM that is not powered on (default: as the worker's file says, or 30m)")
	flags.DurationVar(&f.busy, "busy-wait", 10*time.Minute, "how long to wait for another round in the cluster to end")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only show on which host, and who would go")
	flags.BoolVar(&f.observe, "observe", false, "decide and record everything, and touch no VM")
	flags.BoolVar(&f.wait, "wait", true, "follow it to its result")
	flags.DurationVar(&f.timeout, "timeout", 0, "how long to wait (default: until the result; with --dry-run 2m)")
	return cmd
}

// check validates the flags, and returns what room is asked for.
func (f *makeRoomFlags) check(cmd *cobra.Command) (*preemption.Room, error) {
	if err := f.checkWhat(cmd); err != nil {
		return nil, err
	}
	given := cmd.Flags().Changed
	switch {
	case f.powerOn && given("hold"):
		return nil, usagef("--hold is for a VM that is powered on later: leave it out with --power-on")
	case f.hold < 0 || f.hold > longestHold:
		return nil, usagef("--hold %s is not within 0 to %s", f.hold, longestHold)
	case f.busy < 0 || f.busy > longestHold:
		return nil, usagef("--busy-wait %s is not within 0 to %s", f.busy, longestHold)
	case f.timeout < 0:
		return nil, usagef("--timeout %s is negative", f.timeout)
	case f.timeout > 0 && !f.wait && !f.dryRun:
		return nil, usagef("--timeout needs --wait or --dry-run: without them the command does not wait")
	}
	mb, err := mebibytes(f.room.memory)
	if err != nil {
		return nil, usagef("--memory: %w", err)
	}
	return &preemption.Room{For: strings.TrimSpace(f.room.vm), CPUs: f.room.cpus, MemoryMB: mb, Cluster: f.room.cluster, Hosts: f.room.several()}, nil
}

// checkWhat checks for whom, or how much, room is asked for.
func (f *makeRoomFlags) checkWhat(cmd *cobra.Command) error {
	given := cmd.Flags().Changed
	sizes := given("cpus") || given("memory")
	switch {
	case !given("for") && !sizes:
		return usagef("say for whom: --for VM, or --cpus and --memory")
	case given("for") && sizes:
		return usagef("--for takes the sizes of the VM: leave --cpus and --memory out")
	case given("cpus") && f.room.cpus <= 0:
		return usagef("--cpus %d is not positive", f.room.cpus)
	case sizes && !given("cluster") && !f.dryRun:
		return usagef("--cpus and --memory need --cluster: in which cluster is room to be made?")
	case f.powerOn && !given("for"):
		return usagef("--power-on needs --for: sizes cannot be powered on")
	}
	return f.room.checkHosts(cmd, "hosts", sizes)
}

func (a *app) makeRoom(cmd *cobra.Command, f makeRoomFlags) error {
	room, err := f.check(cmd)
	if err != nil {
		return err
	}
	asked, err := a.request(requestFlags{askFlags: f.askFlags})
	if err != nil {
		return err
	}
	if f.dryRun {
		asked.Room = room
		return a.planOf(cmd, planFlags{timeout: f.timeout}, asked)
	}
	req := preemption.RoomRequest{
		Room: *room, Tag: asked.Tag, Criticality: asked.Criticality, Policy: asked.Policy, ReplyTo: asked.ReplyTo, PowerOn: f.powerOn,
		Wait: f.busy.String(), ID: uuid.NewString(), Origin: preemption.OriginPerson, TaskQueue: a.target.queue, Event: asked.Event,
	}
	if f.observe {
		req.Mode = preemption.ModeObserve
	}
	if cmd.Flags().Changed("hold") {
		req.Hold = f.hold.String()
	}
	limit := f.timeout
	if !f.wait {
		limit = quick + namesLimit
	}
	return a.withSession(cmd, limit, func(ctx context.Context, s *session) error { return a.askForRoom(ctx, s, f.wait, req) })
}

// roomAsked is what make-room prints.
type roomAsked struct {
	WorkflowID string                  `json:"workflowID"`
	RequestID  string                  `json:"requestID"`
	Room       *preemptapi.RoomOutcome `json:"room,omitempty"` // with --wait
}

// askForRoom sends the request to a workflow of its own, and follows it.
func (a *app) askForRoom(ctx context.Context, s *session, wait bool, req preemption.RoomRequest) error {
	var err error
	names := preemptapi.NamesInput{Tag: req.Tag, Policy: req.Policy}
	if names.Scope, err = a.clusterNamed(ctx, s, req.Room.Cluster); err != nil {
		return err
	}
	req.Room.Cluster = names.Scope.Value
	if req.Room.For != "" {
		names.VMs = []string{req.Room.For}
	}
	if err := a.known(ctx, s, names); err != nil {
		return err
	}
	polled, err := s.polled(ctx)
	if err != nil {
		return err
	}
	if !polled {
		return a.noWorker("no room can be made until one starts")
	}
	out := roomAsked{WorkflowID: workflowid.Of(workflowid.MakeRoom + req.ID), RequestID: req.ID}
	_, err = s.SignalWithStartWorkflow(ctx, out.WorkflowID, preemption.RoomSignal, req, client.StartWorkflowOptions{
		ID: out.WorkflowID, TaskQueue: a.target.queue, StaticSummary: "Room for " + roomWords(req.Room),
		Memo: map[string]any{"alarm": "", "scope": req.Room.Cluster, "tag": req.Tag, "state": "running"},
	}, preemption.MakeRoomWorkflowName)
	if err != nil {
		return fmt.Errorf("ask for room: %w", err)
	}
	if wait {
		outcome, err := a.followRoom(ctx, s, out.WorkflowID)
		if err != nil {
			return err
		}
		out.Room = &outcome
	}
	if err := a.showRoom(out, req.Room); err != nil || out.Room == nil {
		return err
	}
	return roomVerdict(*out.Room)
}

func roomWords(r preemption.Room) string { return preemptapi.RoomAsk{Room: r}.Words() }

// followRoom waits until the one request of a workflow is decided, and prints each step as it appears.
func (a *app) followRoom(ctx context.Context, s *session, id string) (preemptapi.RoomOutcome, error) {
	told := map[string]bool{}
	say := func(format string, args ...any) {
		if line := fmt.Sprintf(format, args...); !told[line] {
			told[line] = true
			a.notice("%s", line)
		}
	}
	for pause := lookFirst; ; pause = min(pause*3/2, lookMost) {
		select {
		case <-ctx.Done():
			a.notice("the request goes on; look: %s", a.command("workflow", "status", "--workflow-id", id))
			return preemptapi.RoomOutcome{}, context.Cause(ctx)
		case <-time.After(pause):
		}
		r, err := s.roomState(ctx, id)
		switch {
		case err != nil:
			say("%s cannot be read (%s); waiting for it", id, err)
			continue
		case len(r.Rejected) > 0:
			return preemptapi.RoomOutcome{}, failedf("no room: %s", r.Rejected[0].Reason)
		case len(r.Rooms) == 0:
			continue
		}
		o := r.Rooms[0]
		if o.State == preemptapi.RoomWaiting {
			say("waiting: %s", o.Reason)
		}
		for _, id := range o.Rounds {
			say("round %s is under way", id)
		}
		for _, vm := range o.Gone {
			say("%s: %s", vmName(vm.Name, vm.Ref), becameWords(vm))
		}
		for _, refusal := range o.Refusals {
			say("vCenter refuses the power-on, so more VMs go: %s", refusal)
		}
		if o.State.Final() {
			return o, nil
		}
	}
}

// roomState returns what a workflow that makes room has done; it needs a worker.
func (s *session) roomState(ctx context.Context, id string) (r preemptapi.RoomResult, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	v, err := s.QueryWorkflow(ctx, id, "", preemption.RoomStateQuery)
	if err != nil {
		return r, err
	}
	return r, v.Get(&r)
}

// roomStatus shows a workflow that makes room, from its result where it has ended.
func (a *app) roomStatus(ctx context.Context, s *session, info *workflowpb.WorkflowExecutionInfo) error {
	e := info.GetExecution()
	var r preemptapi.RoomResult
	var err error
	if info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		r, err = s.roomState(ctx, e.GetWorkflowId())
	} else {
		err = s.GetWorkflow(ctx, e.GetWorkflowId(), e.GetRunId()).Get(ctx, &r)
	}
	if err != nil {
		return fmt.Errorf("read what %s has done: %w", e.GetWorkflowId(), err)
	}
	return a.show(view{
		value: r, msg: "retrieved workflow status", attrs: []any{"workflowID", r.WorkflowID, "rooms", r.Rooms},
		table: func(t *table) { roomsTable(t, r) },
	})
}

// roomVerdict is the error of a request that did not get its room.
func roomVerdict(o preemptapi.RoomOutcome) error {
	switch o.State {
	case preemptapi.RoomFailed:
		return failedf("no room for %s: %s", o.For, o.Reason)
	case preemptapi.RoomRefused:
	default:
		return nil
	}
	switch o.Kind {
	case preemptapi.VMNotFound, preemptapi.TagNotFound, preemptapi.ScopeNotFound:
		return notFoundf("%s", o.Reason)
	case preemptapi.VMAmbiguous, preemptapi.TagAmbiguous:
		return usagef("%s", o.Reason)
	}
	return refusedf("no room for %s: %s", o.For, o.Reason)
}

func (a *app) showRoom(out roomAsked, asked preemption.Room) error {
	return a.show(view{
		value: out, msg: "asked for room",
		attrs: []any{"workflowID", out.WorkflowID, "requestID", out.RequestID, "room", out.Room},
		table: func(t *table) {
			if out.Room == nil {
				t.row("workflow", out.WorkflowID)
				t.row("for", roomWords(asked))
				t.row("next", a.command("workflow", "status", "--workflow-id", out.WorkflowID))
				return
			}
			roomOutcomeTable(t, *out.Room)
		},
	})
}

// roomOutcomeTable shows what became of one who asked for room.
func roomOutcomeTable(t *table, o preemptapi.RoomOutcome) {
	t.section()
	t.row("for", o.For)
	t.row("state", string(o.State))
	t.field("reason", o.Reason)
	t.field("rule", o.Rule)
	t.field("cluster", scopeWords(o.ClusterName, o.Cluster))
	if len(o.Hosts) == 0 {
		t.field("host", o.HostName)
	}
	for _, h := range o.Hosts {
		t.row("host", cmp.Or(h.Name, h.Host.Value))
	}
	t.field("held until", timestamp(o.HeldUntil))
	t.field("rounds", strings.Join(o.Rounds, ", "))
	t.field("restore", o.RestoreID)
	t.field("asked", timestamp(o.AskedAt))
	t.field("ended", timestamp(o.EndedAt))
	for _, refusal := range o.Refusals {
		t.row("vCenter refused", refusal)
	}
	if len(o.Gone) == 0 {
		return
	}
	t.row("gone", shown.Count(len(o.Gone), "VM"))
	t.section("VM", "MOREF", "OUTCOME", "CPU", "MEMORY", "WHY").spare("MOREF")
	for _, v := range o.Gone {
		t.row(orDash(v.Name), v.Ref.Value, becameWords(v), fmt.Sprintf("%d MHz", v.CPUMHz), fmt.Sprintf("%d MB", v.MemoryMB), orDash(v.Why))
	}
}

// roomsTable shows a workflow that makes room, with all who asked.
func roomsTable(t *table, r preemptapi.RoomResult) {
	t.row("workflow", r.WorkflowID)
	for _, rejected := range r.Rejected {
		t.row("not taken", timestamp(rejected.Time)+" "+rejected.Reason)
	}
	for _, o := range r.Rooms {
		roomOutcomeTable(t, o)
	}
}
