package cli_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	sdktemporal "go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remedy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// registerRemedies makes a worker take up remediations, as the fakes below do them.
func registerRemedies(w worker.Worker) {
	for _, kind := range []string{remedy.KindResize, remedy.KindReconfigure, remedy.KindMove} {
		f := func(ctx workflow.Context, in remediateapi.Input) (remediateapi.Report, error) {
			return fakeRemedy(ctx, kind, in)
		}
		w.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: remedy.WorkflowType(kind)})
	}
	w.RegisterWorkflowWithOptions(fakeTags, workflow.RegisterOptions{Name: remediateapi.TagsType})
	w.RegisterWorkflowWithOptions(fakeReconcile, workflow.RegisterOptions{Name: remediateapi.ReconcileType})
}

func fault(kind, reason string, details ...any) error {
	return sdktemporal.NewNonRetryableApplicationError(reason, kind, nil, details...)
}

// named is the name that a request has for its VM or datastore, which says how it goes.
func named(r remedy.Request) string {
	return r.Target + r.VM.Value + r.Source.Value
}

// fakeRemedy deals with its input, and then with signals until none has come for a moment.
func fakeRemedy(ctx workflow.Context, kind string, in remediateapi.Input) (remediateapi.Report, error) {
	e := workflow.GetInfo(ctx).WorkflowExecution
	r := remediateapi.Report{WorkflowID: e.ID, RunID: e.RunID, Kind: kind}
	if err := workflow.SetQueryHandler(ctx, remediateapi.StateQuery, func() (remediateapi.Report, error) { return r, nil }); err != nil {
		return r, err
	}
	for _, req := range in.Requests {
		if err := fakeDecide(ctx, &r, req); err != nil {
			return remediateapi.Report{}, err
		}
	}
	signals := workflow.GetSignalChannel(ctx, remedy.Signal)
	for len(in.Requests) == 0 {
		var req remedy.Request
		if ok, _ := signals.ReceiveWithTimeout(ctx, 500*time.Millisecond, &req); !ok {
			break
		}
		if err := fakeDecide(ctx, &r, req); err != nil {
			return remediateapi.Report{}, err
		}
	}
	return r, nil
}

func fakeDecide(ctx workflow.Context, r *remediateapi.Report, req remedy.Request) error {
	d := remediateapi.Decision{
		Kind: req.Kind, State: remediateapi.Applied, RequestID: req.ID, VM: ref("vm-1"), Name: "web-1", Cause: req.Cause, StartedAt: until, EndedAt: until,
		Reason: "evil \x1b[31mred\x1b[0m text",
	}
	if req.DryRun {
		d.State = remediateapi.Planned
	}
	if req.Resize != nil {
		d.Mode, d.Resource = req.Resize.Mode, req.Resize.Resource
		d.Before, d.After = &remedy.Hardware{CPUs: 2, MemoryMB: 4096, CoresPerSocket: 1}, &remedy.Hardware{CPUs: 4, MemoryMB: 4096, CoresPerSocket: 1}
		d.Bad = []remedy.BadTag{{Category: remedy.CategoryMaxCPUs, Tag: "lots", Reason: "it is no number"}}
	}
	if req.Move != nil {
		source := vsphere.Ref{Type: "Datastore", Value: "datastore-5"}
		to := remedy.Relocation{
			VM: ref("vm-1"), Name: "web-1", Source: source, SourceName: "full", Destination: vsphere.Ref{Type: "Datastore", Value: "datastore-6"}, DestinationName: "roomy",
			Used: 10 << 30, Provisioned: 20 << 30, UsageAfter: 60, Why: "the least used",
		}
		d.Source = &remedy.Usage{Ref: source, Name: "full", Capacity: 100 << 30, Used: 90 << 30, After: 70 << 30, Target: req.Move.TargetUsage}
		d.Plan, d.Stay = []remedy.Relocation{to}, []remedy.Stay{{VM: ref("vm-2"), Name: "db-1", Reason: "linked_clone", Detail: "of vm-3"}}
		d.StayCount = map[string]int{"snapshots": 7}
	}
	switch name := named(req); name {
	case "nosuch":
		return fault("NotFound", "there is no VM nosuch")
	case "twins":
		return fault("Ambiguous", "2 VMs are called twins", *r)
	case "broken":
		d.State, d.Reason = remediateapi.Failed, "vCenter said no"
		r.Decisions = append(r.Decisions, d)
		return fault(remediateapi.ErrRemediation, d.Reason, *r)
	case "limit":
		d.State, d.Reason = remediateapi.AtLimit, "the tag bounds it"
	case "silent":
		return fault("Other", "nobody knows")
	case "lost":
		return nil
	case "slow":
		d.State = remediateapi.Working
		r.Decisions = append(r.Decisions, d)
		return workflow.Sleep(ctx, 30*time.Second)
	}
	err := workflow.UpsertMemo(ctx, map[string]any{"kind": req.Kind, "vm": "vm-1", "name": "web-1", "state": d.State, "reason": d.Reason})
	r.Decisions = append(r.Decisions, d)
	return err
}

func fakeTags(ctx workflow.Context, in remediateapi.TagsInput) (r remediateapi.TagsResult, err error) {
	switch in.VM {
	case "":
		for category, tags := range in.Values {
			r.Created = append(r.Created, remediateapi.Tag{Category: category})
			for _, tag := range tags {
				r.Existed = append(r.Existed, remediateapi.Tag{Category: category, Name: tag})
			}
		}
		if len(in.Values["tier"]) > 0 && in.Values["tier"][0] == "slow" {
			return r, workflow.Sleep(ctx, 30*time.Second)
		}
		return r, nil
	case "nosuch":
		return r, fault("NotFound", "there is no VM nosuch")
	case "twins":
		return r, fault("Ambiguous", "2 VMs are called twins")
	case "broken":
		return r, fault("Fault", "vCenter said no")
	}
	return remediateapi.TagsResult{
		VM: ref("vm-1"), Name: "web-\u202e1", Power: vsphere.PoweredOn, Hardware: &remedy.Hardware{CPUs: 2, MemoryMB: 4096}, Wanted: &remedy.Hardware{CPUs: 4, MemoryMB: 4096},
		Tags: map[string][]string{remedy.CategoryCPUs: {"4"}, remedy.CategoryMemory: {"lots"}, remedy.CategoryMode: {"tag"}},
		Bad:  []remedy.BadTag{{Category: remedy.CategoryMemory, Tag: "lots", Reason: "it is no number"}},
	}, nil
}

// fakeReconcile goes as its task queue says.
func fakeReconcile(ctx workflow.Context, in remediateapi.ReconcileInput) (remediateapi.ReconcileResult, error) {
	r := remediateapi.ReconcileResult{State: remediateapi.Applied, Looked: 5, On: 2, Decisions: []remediateapi.Decision{{
		Kind: remedy.KindReconfigure, State: remediateapi.Applied, VM: ref("vm-1"), Name: "web-1", Cause: remedy.Cause{Event: in.By},
		Before: &remedy.Hardware{CPUs: 2, CPUHotAdd: true}, After: &remedy.Hardware{CPUs: 4},
		Bad: []remedy.BadTag{{Category: remedy.CategoryMemory, Tag: "lots", Reason: "it is no number"}},
	}}}
	switch queue := workflow.GetInfo(ctx).TaskQueueName; {
	case in.DryRun:
		r.State, r.Decisions[0].State = remediateapi.Planned, remediateapi.Planned
	case strings.HasSuffix(queue, "slow"):
		return r, workflow.Sleep(ctx, 3*time.Second)
	case strings.HasSuffix(queue, "partial"):
		r.Decisions[0].State = remediateapi.Failed
	case strings.HasSuffix(queue, "failed"):
		r.State, r.Reason = remediateapi.Failed, "vCenter said no"
		return remediateapi.ReconcileResult{}, fault(remediateapi.ErrRemediation, r.Reason, r)
	}
	return r, nil
}

// manyTags are flags of so many categories, each of so many tags.
func manyTags(categories, tags int) (flags []string) {
	for c := range categories {
		var values []string
		for n := range tags {
			values = append(values, fmt.Sprintf("t%d", n))
		}
		flags = append(flags, "--category", fmt.Sprintf("c%d=%s", c, strings.Join(values, ",")))
	}
	return flags
}

func TestAPlanShowsWhatWouldBeDone(t *testing.T) {
	s := newSite(t, true)
	got := s.run("remediation", "plan", "web-1")
	got.want(t, 0, "stdout", "resize     Planned", "web-1 (vm-1)", "cause      by hand 20", "mode       hotAddOrNextPowerOff", "resource   cpu", "resource   memory",
		"virtual CPUs       2         4", "BAD TAG", "it is no number", `evil \x1b[31mred`)
	if strings.Contains(got.stdout, "\x1b") {
		t.Error("control characters reach the terminal")
	}
	r := decode[remediateapi.Report](t, s.run("remediation", "plan", "vm-1", "--resource", "memory", "--max", "8192", "--mode", "recommend", "-o", "json").stdout)
	if len(r.Decisions) != 1 || r.Decisions[0].Mode != "recommend" || r.Decisions[0].Resource != "memory" || !strings.HasPrefix(r.WorkflowID, "remediation-plan-") {
		t.Errorf("unexpected report %+v", r)
	}
	for name, args := range map[string][]string{
		"a datastore":         {"datastore-5"},
		"a datastore by name": {"--datastore", "full"},
		"one VM":              {"web-1", "--move"},
	} {
		t.Run(name, func(t *testing.T) {
			s.run(append([]string{"remediation", "plan", "--target-usage", "70"}, args...)...).want(t, 0, "stdout", "move        Planned",
				"full (datastore-5): 90.0 GiB of 100.0 GiB used (90 %), 70 % after, to come below 70 %", "MOVE", "roomy (datastore-6)", "60 %",
				"STAYS", "linked clone (of vm-3)", "7 VMs", "snapshots")
		})
	}
}

func TestARequestSaysWhatWasNamed(t *testing.T) {
	s := newSite(t, true)
	for name, c := range map[string]struct {
		args []string
		want remedy.Request
	}{
		"a VM by MoRef":      {[]string{"vm-1"}, remedy.Request{Kind: "resize", VM: ref("vm-1")}},
		"a VM by reference":  {[]string{"VirtualMachine:vm-1"}, remedy.Request{Kind: "resize", VM: ref("vm-1")}},
		"a VM by path":       {[]string{"/dc/vm/web-1"}, remedy.Request{Kind: "resize", Target: "/dc/vm/web-1", TargetType: "VirtualMachine"}},
		"a datastore":        {[]string{"datastore-5"}, remedy.Request{Kind: "move", Source: vsphere.Ref{Type: "Datastore", Value: "datastore-5"}}},
		"a datastore's name": {[]string{"--datastore", "vm-1"}, remedy.Request{Kind: "move", Target: "vm-1", TargetType: "Datastore"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := s.run(append([]string{"remediation", "plan", "-o", "json"}, c.args...)...)
			got.want(t, 0, "stdout")
			var in remediateapi.Input
			s.input(t, decode[remediateapi.Report](t, got.stdout).WorkflowID, &in)
			req := in.Requests[0]
			if !req.DryRun || req.ID == "" || req.Cause.Event != remedy.ByHand || req.TaskQueue != s.queue {
				t.Errorf("unexpected request %+v", req)
			}
			if (req.Resize == nil) == (req.Move == nil) || req.Kind != c.want.Kind || req.VM != c.want.VM || req.Source != c.want.Source ||
				req.Target != c.want.Target || req.TargetType != c.want.TargetType {
				t.Errorf("the request is %+v, want %+v", req, c.want)
			}
		})
	}
}

// input reads what a workflow was started with.
func (s *site) input(t *testing.T, id string, to any) {
	t.Helper()
	iter := s.client.GetWorkflowHistory(t.Context(), id, "", false, 0)
	e, err := iter.Next()
	if err == nil {
		err = converter.GetDefaultDataConverter().FromPayloads(e.GetWorkflowExecutionStartedEventAttributes().GetInput(), to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestRemediationSaysInItsExitCodeWhatBecameOfIt(t *testing.T) {
	s := newSite(t, true)
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"planned, not there":      {[]string{"plan", "nosuch"}, 3, "there is no VM nosuch"},
		"planned, not one":        {[]string{"plan", "twins"}, 3, "2 VMs are called twins"},
		"planned, failed":         {[]string{"plan", "broken"}, 1, "resize of VM web-1 (vm-1) failed: vCenter said no"},
		"planned, without report": {[]string{"plan", "silent"}, 1, "no plan: nobody knows"},
		"planned, too slow":       {[]string{"plan", "slow", "--timeout", "1s"}, 1, "no plan within the time given: is the worker running, and can it reach vCenter? nothing was touched"},
		"not there":               {[]string{"run", "nosuch", "--wait"}, 3, "there is no VM nosuch"},
		"failed":                  {[]string{"run", "broken", "--wait"}, 1, "resize of VM web-1 (vm-1) failed: vCenter said no"},
		"at its limit":            {[]string{"run", "limit", "--wait"}, 4, "nothing is done about VM web-1 (vm-1) (AtLimit): the tag bounds it"},
		"without report":          {[]string{"run", "silent", "--wait"}, 1, "ended without a result: nobody knows"},
		"without a word of it":    {[]string{"run", "lost", "--wait"}, 1, "does not report the result of the request; look: preemptctl remediation show remediation-run-"},
		"too slow":                {[]string{"run", "slow", "--wait", "--timeout", "1s"}, 1, "continues; look: preemptctl remediation show remediation-run-"},
		"dry run":                 {[]string{"run", "nosuch", "--dry-run"}, 3, "there is no VM nosuch"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.run(append([]string{"remediation"}, c.args...)...).want(t, c.code, "stderr", "Error: ", c.says)
		})
	}
	s.run("remediation", "plan", "limit").want(t, 0, "stdout", "AtLimit", "the tag bounds it")
}

func TestAnInterruptedRemediationGoesOnAndAPlanEnds(t *testing.T) {
	s := newSite(t, true)
	for verb, says := range map[string]string{
		"run":  "Error: interrupted: remediation remediation-run-",
		"plan": "Error: interrupted: nothing was touched",
	} {
		t.Run(verb, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, interrupt)
			args := []string{"remediation", verb, "slow"}
			if verb == "run" {
				args = append(args, "--wait")
			}
			s.runCtx(ctx, args...).want(t, 130, "stderr", says)
		})
	}
}

func TestRunAsksTheWorkflowOfTheVM(t *testing.T) {
	s := newSite(t, true)
	id := remedy.WorkflowID(remedy.KindResize, ref("vm-1"), s.queue)
	got := s.run("remediation", "run", "vm-1", "--wait", "-o", "json")
	got.want(t, 0, "stdout")
	if r := decode[remediateapi.Report](t, got.stdout); r.WorkflowID != id || len(r.Decisions) != 2 || r.Decisions[0].State != remediateapi.Applied {
		t.Errorf("unexpected report %+v", r)
	}
	type started struct {
		WorkflowID, WorkflowRunID string
		RequestIDs                []string
	}
	one := decode[started](t, s.run("remediation", "run", "vm-1", "--resource", "cpu", "-o", "json").stdout)
	if one.WorkflowID != id || one.WorkflowRunID == "" || len(one.RequestIDs) != 1 {
		t.Errorf("unexpected result %+v", one)
	}
	s.run("remediation", "run", "datastore-5").want(t, 0, "stdout", "move@datastore-5@"+s.queue, "preemptctl remediation show move@datastore-5@"+s.queue)
	s.run("remediation", "run", "web-1").want(t, 0, "stdout", "remediation   remediation-run-")
}

func TestShowTellsEveryDecision(t *testing.T) {
	s := newSite(t, true)
	s.run("remediation", "run", "vm-1", "--wait").want(t, 0, "stdout")
	s.run("remediation", "run", "vm-1", "--move", "--wait").want(t, 0, "stdout")
	s.run("remediation", "show", "vm-1").want(t, 0, "stdout", "resize@vm-1@"+s.queue+" (completed)", "move@vm-1@"+s.queue+" (completed)",
		"resource   cpu", "resource   memory", "roomy (datastore-6)")
	type shown struct {
		remediateapi.Report
		Execution string
	}
	all := decode[[]shown](t, s.run("remediation", "show", "resize@vm-1@"+s.queue, "-o", "json").stdout)
	if len(all) != 1 || all[0].Execution != "completed" || len(all[0].Decisions) != 2 || all[0].Kind != "resize" {
		t.Errorf("unexpected remediations %+v", all)
	}

	s.run("remediation", "run", "slow", "--wait", "--timeout", "1s").want(t, 1, "stderr")
	running := s.newest(t)
	s.run("remediation", "show", running).want(t, 0, "stdout", running+" (running)", "resize     Working")
	if err := s.client.TerminateWorkflow(context.Background(), running, "", "the test wants it"); err != nil {
		t.Fatal(err)
	}
	s.run("remediation", "show", running).want(t, 0, "stdout", running+" (terminated)", "failure", "decided")

	s.run("remediation", "run", "broken", "--wait").want(t, 1, "stderr")
	s.run("remediation", "show", s.newest(t)).want(t, 0, "stdout", "(failed)", "resize     Failed", "vCenter said no")

	s.run("remediation", "show", "nosuch").want(t, 3, "stderr", "no remediation nosuch in namespace", "preemptctl remediation list")
	s.run("remediation", "show", "vm-99").want(t, 3, "stderr", "no remediation of VM vm-99 for task queue "+s.queue)
	s.run("workflow", "plan").want(t, 0, "stdout")
	_, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "ledger-" + s.queue, TaskQueue: s.queue}, "PreemptionLedger")
	if err != nil {
		t.Fatal(err)
	}
	s.run("remediation", "show", "ledger-"+s.queue).want(t, 1, "stderr", "is a PreemptionLedger: this command shows remediations")
}

// newest is the id of the remediation of this site that was asked for last.
func (s *site) newest(t *testing.T) (id string) {
	t.Helper()
	eventually(t, "a remediation by name is listed", func() bool {
		page, err := s.client.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: "TaskQueue = '" + s.queue + "' AND WorkflowId STARTS_WITH 'remediation-run-' AND WorkflowType = 'ResizeVMWorkflow'"})
		if err != nil {
			t.Fatal(err)
		}
		found := page.GetExecutions()
		if len(found) == 0 {
			return false
		}
		last := slices.MaxFunc(found, func(a, b *workflowpb.WorkflowExecutionInfo) int {
			return a.GetStartTime().AsTime().Compare(b.GetStartTime().AsTime())
		})
		fresh := last.GetExecution().GetWorkflowId() != s.last
		id = last.GetExecution().GetWorkflowId()
		return fresh
	})
	s.last = id
	return id
}

func TestShowNeedsAWorkerOnlyForWhatRuns(t *testing.T) {
	s := newSite(t, false)
	id := remedy.WorkflowID(remedy.KindResize, ref("vm-1"), s.queue)
	_, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: s.queue}, remedy.ResizeType, remediateapi.Input{})
	if err != nil {
		t.Fatal(err)
	}
	s.run("remediation", "show", "vm-1").want(t, 1, "stderr", "no worker polls task queue "+s.queue)
	for name, args := range map[string][]string{
		"plan": {"remediation", "plan", "web-1"}, "run": {"remediation", "run", "vm-1"}, "run by name": {"remediation", "run", "web-1"},
		"reconcile": {"reconcile"}, "create": {"tags", "create"}, "show": {"tags", "show", "web-1"},
	} {
		t.Run(name, func(t *testing.T) {
			s.run(args...).want(t, 1, "stderr", "Error: no worker polls task queue "+s.queue)
		})
	}
}

func TestTheListShowsTheLastDecisions(t *testing.T) {
	s := newSite(t, true)
	s.run("remediation", "run", "vm-1", "--wait").want(t, 0, "stdout")
	s.run("remediation", "run", "datastore-5", "--wait").want(t, 0, "stdout")
	s.run("remediation", "plan", "web-1").want(t, 0, "stdout")
	type row struct{ WorkflowID, Kind, Status, State, VM, Name, Reason string }
	resize, move := "resize@vm-1@"+s.queue, "move@datastore-5@"+s.queue
	listed := func(args ...string) []row {
		got := s.run(append([]string{"remediation", "list", "--limit", "1000", "-o", "json"}, args...)...)
		got.want(t, 0, "stdout")
		return decode[[]row](t, got.stdout)
	}
	at := func(rows []row, id string) int {
		return slices.IndexFunc(rows, func(r row) bool { return r.WorkflowID == id })
	}
	var rows []row
	eventually(t, "both are listed as they ended", func() bool {
		rows = listed()
		r, m := at(rows, resize), at(rows, move)
		return r >= 0 && m >= 0 && rows[r].Status == "completed" && rows[m].Status == "completed"
	})
	if at(rows, move) > at(rows, resize) {
		t.Errorf("the newer stands behind: %+v", rows)
	}
	if r := rows[at(rows, resize)]; r.Kind != "resize" || r.State != "Applied" || r.VM != "vm-1" || r.Name != "web-1" || !strings.Contains(r.Reason, "red") {
		t.Errorf("unexpected row %+v", r)
	}
	isPlan := func(r row) bool { return strings.HasPrefix(r.WorkflowID, "remediation-plan-") }
	if slices.ContainsFunc(rows, isPlan) {
		t.Error("a plan is listed without --all")
	}
	eventually(t, "the plan is listed with --all", func() bool { return slices.ContainsFunc(listed("--all"), isPlan) })
	if rows := listed("--kind", "move"); at(rows, resize) >= 0 || at(rows, move) < 0 {
		t.Errorf("unexpected rows %+v", rows)
	}
	got := s.run("remediation", "list")
	got.want(t, 0, "stdout", "REMEDIATION", `evil \x1b[31mred`)
}

func TestTagsAreCreatedOnce(t *testing.T) {
	s := newSite(t, true)
	type created struct {
		DryRun           bool
		Created, Existed []remediateapi.Tag
	}
	all := decode[created](t, s.run("tags", "create", "--dry-run", "-o", "json").stdout)
	if !all.DryRun || len(all.Created) != len(remediateapi.DefaultTags()) || len(all.Existed) < 20 {
		t.Errorf("unexpected result %+v", all)
	}
	s.run("tags", "create", "--category", "config.hardware.numCPU=8, 16", "--category", "tier=gold", "--category", "config.hardware.numCPU=8").want(t, 0, "stdout",
		"created   2 categories, 0 tags", "existed   0 categories, 3 tags", "config.hardware.numCPU   16", `gold`)
	s.run("tags", "create", "--dry-run", "--category", "a=b").want(t, 0, "stdout", "would be created   1 categories")
	s.run("tags", "create", "--category", "tier=slow", "--timeout", "1s").want(t, 1, "stderr", "no answer about tags within the time given", "what was created stays")
}

func TestTheTagsOfAVMAreShown(t *testing.T) {
	s := newSite(t, true)
	s.run("tags", "show", "web-1").want(t, 0, "stdout", `web-\u202e1 (vm-1)`, "poweredOn: what is wanted is applied at the next power-off",
		"virtual CPUs       2         4         4      config.hardware.numCPU", "lots   config.hardware.memoryMB", "it is no number",
		"tag    remediation-mode")
	r := decode[remediateapi.TagsResult](t, s.run("tags", "show", "web-1", "-o", "json").stdout)
	if r.VM != ref("vm-1") || r.Wanted.CPUs != 4 || len(r.Bad) != 1 || !reflect.DeepEqual(r.Tags[remedy.CategoryMode], []string{"tag"}) {
		t.Errorf("unexpected result %+v", r)
	}
	s.run("tags", "show", "nosuch").want(t, 3, "stderr", "there is no VM nosuch")
	s.run("tags", "show", "twins").want(t, 3, "stderr", "2 VMs are called twins")
	s.run("tags", "show", "broken").want(t, 1, "stderr", "no answer about tags: vCenter said no")
}

func TestReconcileSaysWhatWasApplied(t *testing.T) {
	s := newSite(t, true)
	s.run("reconcile", "--wait").want(t, 0, "stdout", "reconciliation   Applied", "5 VMs with tags of settings", "2 VMs, which get theirs", "virtual CPUs 2 to 4, CPU hot add yes to no",
		"BAD TAG", "it is no number")
	r := decode[remediateapi.ReconcileResult](t, s.run("reconcile", "--dry-run", "-o", "json").stdout)
	if r.State != remediateapi.Planned || len(r.Decisions) != 1 || r.Decisions[0].Cause.Event != remedy.ByHand {
		t.Errorf("unexpected result %+v", r)
	}
	id := remediateapi.ReconcileID(s.queue)
	s.run("remediation", "show", id).want(t, 0, "stdout", id+" (completed)", "virtual CPUs 2 to 4")
}

func TestAReconciliationThatDidNotDoItAllSaysSo(t *testing.T) {
	for name, c := range map[string]struct {
		code int
		says string
	}{
		"partial": {1, "1 VM of 1 VM failed"},
		"failed":  {1, "the reconciliation failed: vCenter said no"},
	} {
		t.Run(name, func(t *testing.T) {
			newSite(t, true).run("reconcile", "--wait").want(t, c.code, "stderr", c.says)
		})
	}
	t.Run("slow", func(t *testing.T) {
		s := newSite(t, true)
		id := remediateapi.ReconcileID(s.queue)
		s.run("reconcile").want(t, 0, "stdout", id, "preemptctl remediation show "+id)
		s.run("reconcile").want(t, 4, "stderr", "refused: reconciliation "+id+" is under way; look: preemptctl remediation show "+id)
		s.run("remediation", "show", id).want(t, 0, "stdout", id+" (running)", "nothing yet")
		s.run("reconcile", "--dry-run").want(t, 0, "stdout", "Planned")
	})
}

func TestAScheduleCanReconcile(t *testing.T) {
	s := newSite(t, true)
	name := s.newSchedule()
	s.run("schedule", "create", name, "--reconcile", "--cron", "0 3 * * *", "--paused").want(t, 0, "stdout", "every day at 03:00",
		"asks for    reconciliation of VMs that are off with their tags", "within 6h ends without doing anything")
	action := s.describe(name).Schedule.Action.(*client.ScheduleWorkflowAction)
	if action.Workflow != remediateapi.ReconcileType || action.TaskQueue != s.queue || action.ID != "schedule-"+name {
		t.Errorf("unexpected action %+v", action)
	}
	s.run("schedule", "run", name).want(t, 0, "stdout", "triggered")
	row := s.shows(name, "the run has its result", func(r scheduledRow) bool { return r.Last != nil && r.Last.Result == "Applied, 1 VM reconciled" })
	if row.Tag+row.Criticality != "" || !row.Reconciles {
		t.Errorf("unexpected row %+v", row)
	}
	var in remediateapi.ReconcileInput
	if s.input(t, row.Last.WorkflowID, &in); in.By != remedy.ByReconciler || in.DryRun {
		t.Errorf("unexpected input %+v", in)
	}
	s.run("schedule", "list").want(t, 0, "stdout", "ASKS FOR", "reconciliation")
	s.run("schedule", "pause", name).want(t, 0, "stdout", "paused")
	s.run("schedule", "resume", name).want(t, 0, "stdout", "resumed")
	s.run("schedule", "delete", name).want(t, 0, "stdout", "deleted")
}

func TestTheNewFlagsComplete(t *testing.T) {
	for says, args := range map[string][]string{
		"config.hardware.numCPU=": {"tags", "create", "--category", ""},
		"reconfigure":             {"remediation", "list", "--kind", ""},
		"powerCycleInWindow":      {"remediation", "plan", "web-1", "--mode", ""},
		"memory":                  {"remediation", "run", "web-1", "--resource", ""},
		"original":                {"remediation", "plan", "web-1", "--sizing", ""},
	} {
		preemptctl(t, cli.Options{}, append([]string{"__complete"}, args...)...).want(t, 0, "stdout", says)
	}
}
