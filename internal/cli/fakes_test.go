package cli_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	sdktemporal "go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// until is when the fakes say that a cooldown ends.
var until = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// grown counts the queries of an intake whose first query fails.
var grown atomic.Int64

// fakeInput is the input of an intake that a schedule starts; other intakes have none.
type fakeInput struct {
	Once    bool `json:"once"`
	Pending []struct {
		JSON preemption.WorkflowRequest `json:"json"`
	} `json:"pending"`
}

// fakeOnce is a run of a schedule; the tag says how it goes.
func fakeOnce(ctx workflow.Context, r preemption.WorkflowRequest) (preemptapi.Response, error) {
	res := preemptapi.Response{Tag: r.Tag, Criticality: r.Criticality, State: "completed", Event: json.RawMessage("null")}
	switch r.Tag {
	case "refused":
		res.LastDecision = &preemptapi.Decision{Verdict: preemptapi.Refused, Until: until, Reason: "the scope was preempted a short time ago"}
	case "slow":
		return res, workflow.Sleep(ctx, time.Minute)
	default:
		res.Round = &preemptapi.RoundResult{RoundID: "round-1", State: preemptapi.RoundPartial, Reason: "1 of 3 VMs failed", Targets: []preemptapi.VMOutcome{
			{Ref: ref("vm-1"), Outcome: action.PoweredOff},
			{Ref: ref("vm-2"), Outcome: action.Forced},
			{Ref: ref("vm-3"), Outcome: action.Failed},
		}}
	}
	return res, nil
}

// fakeIntake decides by the request's tag, remembers the last request, and completes when cancelled.
func fakeIntake(ctx workflow.Context, in fakeInput) (preemptapi.Response, error) {
	if in.Once {
		return fakeOnce(ctx, in.Pending[0].JSON)
	}
	info := workflow.GetInfo(ctx)
	res := preemptapi.Response{
		WorkflowID: info.WorkflowExecution.ID, RunID: info.WorkflowExecution.RunID, WorkflowName: preemption.WorkflowName,
		VirtualMachines: []vsphere.Ref{}, Event: json.RawMessage(`{"specversion":"1.0","id":"1","source":"s","type":"t"}`), State: "idle",
		Rejections: []preemptapi.Rejection{{Time: until, Reason: "evil \x1b[31mred\x1b[0m text"}},
	}
	take := func(r preemption.WorkflowRequest) {
		res.Tag, res.Criticality, res.Requests = r.Tag, r.Criticality, res.Requests+1
	}
	err := workflow.SetQueryHandler(ctx, preemption.WorkFlowQueryType, func() (string, error) {
		if res.Tag == "grown" && grown.Add(1) == 1 {
			return "", errors.New("the history grew while the worker read it")
		}
		b, err := json.Marshal(res)
		return string(b), err
	})
	if err != nil {
		return res, err
	}
	asked := 0
	err = workflow.SetUpdateHandler(ctx, preemption.RequestUpdate, func(ctx workflow.Context, r preemption.WorkflowRequest) (preemptapi.Decision, error) {
		take(r)
		asked++
		d, err := fakeDecision(ctx, r, asked)
		if d.Verdict == preemptapi.Started {
			res.State, res.RoundID = "running", d.RoundID
		}
		res.LastDecision = &d
		return d, err
	})
	if err != nil {
		return res, err
	}
	workflow.Go(ctx, func(ctx workflow.Context) {
		for {
			var r preemption.WorkflowRequest
			if !workflow.GetSignalChannel(ctx, preemption.SignalChannel).Receive(ctx, &r) {
				return
			}
			take(r)
		}
	})
	err = workflow.Sleep(ctx, time.Minute)
	if sdktemporal.IsCanceledError(err) {
		res.State = "completed"
		return res, nil
	}
	return res, err
}

func fakeDecision(ctx workflow.Context, r preemption.WorkflowRequest, asked int) (preemptapi.Decision, error) {
	switch r.Tag {
	case "refused":
		return preemptapi.Decision{Verdict: preemptapi.Refused, Until: until, Reason: "the scope was preempted a short time ago"}, nil
	case "rejected":
		return preemptapi.Decision{Verdict: preemptapi.Rejected, Reason: "tag \"rejected\" is not among the allowed tags"}, nil
	case "again":
		if asked == 1 {
			return preemptapi.Decision{Verdict: preemptapi.Failed, Reason: "the intake is starting a new run: ask again", Again: true}, nil
		}
	}
	id := "round-" + r.ID
	ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID: id, ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_ABANDON,
		Memo: map[string]any{"alarm": "cpu", "scope": "ClusterComputeResource:domain-c7", "state": "acting"},
	})
	what := r.Tag
	if r.VM != "" {
		what = fmt.Sprintf("evict:%s:%t", r.VM, r.NoticeOnly)
	}
	if r.Mode == preemption.ModeObserve {
		what = "observed"
	}
	err := workflow.ExecuteChildWorkflow(ctx, preemptapi.RoundType, what).GetChildWorkflowExecution().Get(ctx, nil)
	return preemptapi.Decision{Verdict: preemptapi.Started, RoundID: id}, err
}

func ref(id string) vsphere.Ref { return vsphere.Ref{Type: vsphere.TypeVM, Value: id} }

// fakeRound acts on two VMs, one after the other; the tag says how that goes.
func fakeRound(ctx workflow.Context, tag string) (preemptapi.RoundResult, error) {
	if parts := strings.Split(tag, ":"); parts[0] == "evict" {
		return fakeEviction(ctx, parts[1], parts[2] == "true")
	}
	r := preemptapi.RoundResult{
		RoundID: workflow.GetInfo(ctx).WorkflowExecution.ID, State: preemptapi.RoundActing, Tag: tag, Criticality: "HIGH",
		PolicyName: "default", StartedAt: workflow.Now(ctx), Targets: []preemptapi.VMOutcome{},
		Spared:      []policy.Spared{{Ref: ref("vm-9"), Name: "db-\u202e01", Reason: policy.NotPoweredOn}},
		FreedCPUMHz: 1500, FreedMemMB: 2048,
	}
	if err := workflow.SetQueryHandler(ctx, preemptapi.RoundStateQuery, func() (preemptapi.RoundResult, error) { return r, nil }); err != nil {
		return r, err
	}
	defer func() { _ = workflow.UpsertMemo(ctx, map[string]any{"state": r.State}) }() // as a round of ours, for the list
	if tag == "filtered" {
		r.Alarm, r.Scope, r.ScopeName = "cpu-above-80", vsphere.Ref{Type: vsphere.TypeCluster, Value: "domain-c7"}, "cluster-a"
	}
	if strings.HasPrefix(tag, "recorded") {
		r.State = preemptapi.RoundCompleted
		return r, fakePlanning(ctx, tag)
	}
	own, _ := workflow.NewDisconnectedContext(ctx)
	pause := 300 * time.Millisecond
	if tag == "slow" {
		pause = 30 * time.Second
	}
	if tag == "observed" {
		r.State = preemptapi.RoundObserved
		r.Targets = append(r.Targets, preemptapi.VMOutcome{Ref: ref("vm-1"), Name: "web-1", Outcome: "would_powerOff"})
		return r, nil
	}
	if tag == "relaxed" {
		r.State, r.Usage = preemptapi.RoundEmpty, relaxed
		return r, nil
	}
	if tag == "empty" {
		r.State, r.Reason = preemptapi.RoundEmpty, "no VM was eligible"
		return r, nil
	}
	r.Targets = append(r.Targets, preemptapi.VMOutcome{Ref: ref("vm-1"), Name: "web-1", Outcome: action.PoweredOff, CPUMHz: 1500, MemoryMB: 2048})
	r.Waiting = []vsphere.Ref{ref("vm-2")}
	if workflow.Sleep(ctx, pause) != nil {
		r.State, r.Waiting = preemptapi.RoundWithdrawn, nil
		return r, nil
	}
	second := preemptapi.VMOutcome{Ref: ref("vm-2"), Name: "web-2", Outcome: action.PoweredOff}
	if tag == "partial" || tag == "failed" {
		second.Outcome, second.Reason = action.Failed, policy.InWords("the host is on fire")
	}
	r.Targets, r.Waiting = append(r.Targets, second), nil
	switch tag {
	case "failed":
		r.State, r.Reason = preemptapi.RoundFailed, "nothing could be done"
		return preemptapi.RoundResult{}, sdktemporal.NewNonRetryableApplicationError(r.Reason, "RoundFailed", nil, r)
	case "partial":
		r.State, r.Reason = preemptapi.RoundPartial, "1 of 2 VMs failed"
		return r, nil
	case "watching":
		r.State = preemptapi.RoundWatching
		return r, workflow.Sleep(own, 20*time.Second)
	}
	r.State = preemptapi.RoundCompleted
	return r, nil
}

// usage is a cluster at 90 % of its CPU, against a target of 75 %.
var usage = []policy.Usage{{
	Scope: vsphere.Ref{Type: vsphere.TypeCluster, Value: "domain-c7"}, Name: "cluster-a", Hosts: 2, Moving: 1,
	CPU:    policy.Load{Capacity: 100_000, Used: 90_000, Credited: 1000, After: 76_000, Target: 75, Shortfall: 14_000},
	Memory: policy.Load{Capacity: 1024 * 1024, Used: 512 * 1024, After: 512 * 1024},
}}

// relaxed is a cluster below its target.
var relaxed = []policy.Usage{{Name: "cluster-a", Hosts: 2, CPU: policy.Load{Capacity: 100_000, Used: 54_000, After: 54_000, Target: 80}}}

// fakePlan plans two VMs, or none, or the one that is named.
func fakePlan(_ workflow.Context, raw json.RawMessage) (preemptapi.RoundResult, error) {
	r := preemptapi.RoundResult{
		State: preemptapi.RoundPlanned, PolicyName: "default", Targets: []preemptapi.VMOutcome{},
		Spared: []policy.Spared{{Ref: ref("vm-9"), Name: "db-1", Reason: policy.OutOfScope, Detail: "it is in cluster-b"}},
	}
	var req preemption.WorkflowRequest
	if err := json.Unmarshal(raw, &req); err != nil {
		return r, err
	}
	r.Tag, r.Criticality = req.Tag, req.Criticality
	switch f, ok := evictions[req.VM]; {
	case req.Room != nil:
		fakeRoom(&r, *req.Room)
	case ok:
		if err := f(&r); err != nil {
			r.RoundID = "plan"
			return r, broken(&r, preemptapi.KindOf(err), r.Reason)
		}
	case req.VM != "":
		r.Targets = append(r.Targets, preemptapi.VMOutcome{Ref: ref("vm-2"), Name: req.VM, Outcome: "would_powerOff", Why: "rank 1: priority 10"})
	case strings.HasPrefix(req.Tag, "reject"):
		return r, sdktemporal.NewNonRetryableApplicationError("tag is not among the allowed tags", "RequestRejected", nil)
	case req.Tag == "nosuch":
		r.State, r.Reason, r.RoundID = preemptapi.RoundFailed, "vCenter has no such tag", "plan"
		return r, sdktemporal.NewNonRetryableApplicationError(r.Reason, "NoSuchTag", nil, r)
	case req.Tag == "relaxed":
		r.Usage = relaxed
	case req.Tag != "empty":
		r.Usage, r.Partial = usage, true
		r.Shortfall, r.Covered = policy.Resources{CPUMHz: 14_000}, policy.Resources{CPUMHz: 13_000}
		r.Targets = append(r.Targets,
			preemptapi.VMOutcome{Ref: ref("vm-2"), Name: "web-2", Outcome: "would_powerOff", CPUMHz: 100, MemoryMB: 512, Why: "rank 1: priority 10, frees 0.1 GHz"},
			preemptapi.VMOutcome{Ref: ref("vm-1"), Name: "web-1", Outcome: "would_shutdownGuest"})
	}
	return r, nil
}

func fakeLedger(ctx workflow.Context) error { return workflow.Sleep(ctx, time.Minute) }
