package cli_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/converter"
	sdktemporal "go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// registerRemedies makes a worker take up remediations, as the fakes below do them.
func registerRemedies(w worker.Worker) {
	for _, kind := range []string{placement.KindResize, placement.KindReconfigure, placement.KindMove} {
		f := func(ctx workflow.Context, in remediateapi.Input) (remediateapi.Report, error) {
			return fakeRemedy(ctx, kind, in)
		}
		w.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: placement.WorkflowType(kind)})
	}
	w.RegisterWorkflowWithOptions(fakeTags, workflow.RegisterOptions{Name: remediateapi.TagsType})
	w.RegisterWorkflowWithOptions(fakeReconcile, workflow.RegisterOptions{Name: remediateapi.ReconcileType})
}

func fault(kind, reason string, details ...any) error {
	return sdktemporal.NewNonRetryableApplicationError(reason, kind, nil, details...)
}

// named is the name that a request has for its VM or datastore, which says how it goes.
func named(r placement.Request) string {
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
	signals := workflow.GetSignalChannel(ctx, placement.Signal)
	for len(in.Requests) == 0 {
		var req placement.Request
		if ok, _ := signals.ReceiveWithTimeout(ctx, 500*time.Millisecond, &req); !ok {
			break
		}
		if err := fakeDecide(ctx, &r, req); err != nil {
			return remediateapi.Report{}, err
		}
	}
	return r, nil
}

func fakeDecide(ctx workflow.Context, r *remediateapi.Report, req placement.Request) error {
	d := remediateapi.Decision{
		Kind: req.Kind, State: remediateapi.Applied, RequestID: req.ID, VM: ref("vm-1"), Name: "web-1", Cause: req.Cause, StartedAt: until, EndedAt: until,
		Reason: "evil \x1b[31mred\x1b[0m text",
	}
	if req.DryRun {
		d.State = remediateapi.Planned
	}
	if req.Resize != nil {
		d.Mode, d.Resource = req.Resize.Mode, req.Resize.Resource
		d.Before, d.After = &placement.Hardware{CPUs: 2, MemoryMB: 4096, CoresPerSocket: 1}, &placement.Hardware{CPUs: 4, MemoryMB: 4096, CoresPerSocket: 1}
		d.Bad = []placement.BadTag{{Category: placement.CategoryMaxCPUs, Tag: "lots", Reason: "it is no number"}}
	}
	if req.Move != nil {
		source := vsphere.Ref{Type: "Datastore", Value: "datastore-5"}
		to := placement.Relocation{
			VM: ref("vm-1"), Name: "web-1", Source: source, SourceName: "full", Destination: vsphere.Ref{Type: "Datastore", Value: "datastore-6"}, DestinationName: "roomy",
			Used: 10 << 30, Provisioned: 20 << 30, UsageAfter: 60, Why: "the least used",
		}
		d.Source = &placement.Usage{Ref: source, Name: "full", Capacity: 100 << 30, Used: 90 << 30, After: 70 << 30, Target: req.Move.TargetUsage}
		d.Plan, d.Stay = []placement.Relocation{to}, []placement.Stay{{VM: ref("vm-2"), Name: "db-1", Reason: "linked_clone", Detail: "of vm-3"}}
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
		VM: ref("vm-1"), Name: "web-\u202e1", Power: vsphere.PoweredOn, Hardware: &placement.Hardware{CPUs: 2, MemoryMB: 4096}, Wanted: &placement.Hardware{CPUs: 4, MemoryMB: 4096},
		Tags: map[string][]string{placement.CategoryCPUs: {"4"}, placement.CategoryMemory: {"lots"}, placement.CategoryMode: {"tag"}},
		Bad:  []placement.BadTag{{Category: placement.CategoryMemory, Tag: "lots", Reason: "it is no number"}},
	}, nil
}

// fakeReconcile goes as its task queue says.
func fakeReconcile(ctx workflow.Context, in remediateapi.ReconcileInput) (remediateapi.ReconcileResult, error) {
	r := remediateapi.ReconcileResult{State: remediateapi.Applied, Looked: 5, On: 2, Decisions: []remediateapi.Decision{{
		Kind: placement.KindReconfigure, State: remediateapi.Applied, VM: ref("vm-1"), Name: "web-1", Cause: placement.Cause{Event: in.By},
		Before: &placement.Hardware{CPUs: 2, CPUHotAdd: true}, After: &placement.Hardware{CPUs: 4},
		Bad: []placement.BadTag{{Category: placement.CategoryMemory, Tag: "lots", Reason: "it is no number"}},
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
		want placement.Request
	}{
		"a VM by MoRef":      {[]string{"vm-1"}, placement.Request{Kind: "resize", VM: ref("vm-1")}},
		"a VM by reference":  {[]string{"VirtualMachine:vm-1"}, placement.Request{Kind: "resize", VM: ref("vm-1")}},
		"a VM by path":       {[]string{"/dc/vm/web-1"}, placement.Request{Kind: "resize", Target: "/dc/vm/web-1", TargetType: "VirtualMachine"}},
		"a datastore":        {[]string{"datastore-5"}, placement.Request{Kind: "move", Source: vsphere.Ref{Type: "Datastore", Value: "datastore-5"}}},
		"a datastore's name": {[]string{"--datastore", "vm-1"}, placement.Request{Kind: "move", Target: "vm-1", TargetType: "Datastore"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := s.run(append([]string{"remediation", "plan", "-o", "json"}, c.args...)...)
			got.want(t, 0, "stdout")
			var in remediateapi.Input
			s.input(t, decode[remediateapi.Report](t, got.stdout).WorkflowID, &in)
			req := in.Requests[0]
			if !req.DryRun || req.ID == "" || req.Cause.Event != placement.ByHand || req.TaskQueue != s.queue {
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
	id := placement.WorkflowID(placement.KindResize, ref("vm-1"), s.queue)
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
