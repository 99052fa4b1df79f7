package cli_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	sdktemporal "go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/contract"
)

// until is when the fakes say that a cooldown ends.
var until = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// fakeInput is the input of an intake that a schedule starts; other intakes have none.
type fakeInput struct {
	Once    bool `json:"once"`
	Pending []struct {
		JSON preemption.WorkflowRequest `json:"json"`
	} `json:"pending"`
}

// fakeOnce is a run of a schedule; the tag says how it goes.
func fakeOnce(ctx workflow.Context, r preemption.WorkflowRequest) (contract.Response, error) {
	res := contract.Response{Tag: r.Tag, Criticality: r.Criticality, State: "completed", Event: json.RawMessage("null")}
	switch r.Tag {
	case "refused":
		res.LastDecision = &contract.Decision{Verdict: contract.Refused, Until: until, Reason: "the scope was preempted a short time ago"}
	case "slow":
		return res, workflow.Sleep(ctx, time.Minute)
	default:
		res.Round = &contract.RoundResult{RoundID: "round-1", State: contract.RoundPartial, Reason: "1 of 3 VMs failed", Targets: []contract.VMOutcome{
			{Ref: ref("vm-1"), Outcome: contract.OutcomePoweredOff},
			{Ref: ref("vm-2"), Outcome: contract.OutcomeForced},
			{Ref: ref("vm-3"), Outcome: contract.OutcomeFailed},
		}}
	}
	return res, nil
}

// fakeIntake decides by the request's tag, remembers the last request, and completes when cancelled.
func fakeIntake(ctx workflow.Context, in fakeInput) (contract.Response, error) {
	if in.Once {
		return fakeOnce(ctx, in.Pending[0].JSON)
	}
	info := workflow.GetInfo(ctx)
	res := contract.Response{
		WorkflowID: info.WorkflowExecution.ID, RunID: info.WorkflowExecution.RunID, WorkflowName: preemption.WorkflowName,
		VirtualMachines: []policy.Ref{}, Event: json.RawMessage(`{"specversion":"1.0","id":"1","source":"s","type":"t"}`), State: "idle",
		Rejections: []contract.Rejection{{Time: until, Reason: "evil \x1b[31mred\x1b[0m text"}},
	}
	take := func(r preemption.WorkflowRequest) {
		res.Tag, res.Criticality, res.Requests = r.Tag, r.Criticality, res.Requests+1
	}
	err := workflow.SetQueryHandler(ctx, preemption.WorkFlowQueryType, func() (string, error) {
		b, err := json.Marshal(res)
		return string(b), err
	})
	if err != nil {
		return res, err
	}
	asked := 0
	err = workflow.SetUpdateHandler(ctx, preemption.RequestUpdate, func(ctx workflow.Context, r preemption.WorkflowRequest) (contract.Decision, error) {
		take(r)
		asked++
		d, err := fakeDecision(ctx, r, asked)
		if d.Verdict == contract.Started {
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

func fakeDecision(ctx workflow.Context, r preemption.WorkflowRequest, asked int) (contract.Decision, error) {
	switch r.Tag {
	case "refused":
		return contract.Decision{Verdict: contract.Refused, Until: until, Reason: "the scope was preempted a short time ago"}, nil
	case "rejected":
		return contract.Decision{Verdict: contract.Rejected, Reason: "tag \"rejected\" is not among the allowed tags"}, nil
	case "again":
		if asked == 1 {
			return contract.Decision{Verdict: contract.Failed, Reason: "the intake is starting a new run: ask again"}, nil
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
	err := workflow.ExecuteChildWorkflow(ctx, contract.RoundType, what).GetChildWorkflowExecution().Get(ctx, nil)
	return contract.Decision{Verdict: contract.Started, RoundID: id}, err
}

func ref(id string) policy.Ref { return policy.Ref{Type: policy.TypeVM, Value: id} }

// fakeRound acts on two VMs, one after the other; the tag says how that goes.
func fakeRound(ctx workflow.Context, tag string) (contract.RoundResult, error) {
	if parts := strings.Split(tag, ":"); parts[0] == "evict" {
		return fakeEviction(ctx, parts[1], parts[2] == "true")
	}
	r := contract.RoundResult{
		RoundID: workflow.GetInfo(ctx).WorkflowExecution.ID, State: contract.RoundActing, Tag: tag, Criticality: "HIGH",
		PolicyName: "default", StartedAt: workflow.Now(ctx), Targets: []contract.VMOutcome{},
		Spared:      []policy.Spared{{Ref: ref("vm-9"), Name: "db-\u202e01", Reason: policy.NotPoweredOn}},
		FreedCPUMHz: 1500, FreedMemMB: 2048,
	}
	if err := workflow.SetQueryHandler(ctx, contract.RoundStateQuery, func() (contract.RoundResult, error) { return r, nil }); err != nil {
		return r, err
	}
	if strings.HasPrefix(tag, "recorded") {
		r.State = contract.RoundCompleted
		return r, fakePlanning(ctx, tag)
	}
	own, _ := workflow.NewDisconnectedContext(ctx)
	pause := 300 * time.Millisecond
	if tag == "slow" {
		pause = 30 * time.Second
	}
	if tag == "observed" {
		r.State = contract.RoundObserved
		r.Targets = append(r.Targets, contract.VMOutcome{Ref: ref("vm-1"), Name: "web-1", Outcome: "would_powerOff"})
		return r, nil
	}
	if tag == "empty" {
		r.State, r.Reason = contract.RoundEmpty, "no VM was eligible"
		return r, nil
	}
	r.Targets = append(r.Targets, contract.VMOutcome{Ref: ref("vm-1"), Name: "web-1", Outcome: contract.OutcomePoweredOff, CPUMHz: 1500, MemoryMB: 2048})
	r.Waiting = []policy.Ref{ref("vm-2")}
	if workflow.Sleep(ctx, pause) != nil {
		r.State, r.Waiting = contract.RoundWithdrawn, nil
		return r, nil
	}
	second := contract.VMOutcome{Ref: ref("vm-2"), Name: "web-2", Outcome: contract.OutcomePoweredOff}
	if tag == "partial" || tag == "failed" {
		second.Outcome, second.Reason = contract.OutcomeFailed, "the host is on fire"
	}
	r.Targets, r.Waiting = append(r.Targets, second), nil
	switch tag {
	case "failed":
		r.State, r.Reason = contract.RoundFailed, "nothing could be done"
		return contract.RoundResult{}, sdktemporal.NewNonRetryableApplicationError(r.Reason, "RoundFailed", nil, r)
	case "partial":
		r.State, r.Reason = contract.RoundPartial, "1 of 2 VMs failed"
		return r, nil
	case "watching":
		r.State = contract.RoundWatching
		return r, workflow.Sleep(own, 20*time.Second)
	}
	r.State = contract.RoundCompleted
	return r, nil
}

// usage is a cluster at 90 % of its CPU, against a target of 75 %.
var usage = []policy.Usage{{
	Scope: policy.Ref{Type: policy.TypeCluster, Value: "domain-c7"}, Name: "cluster-a", Hosts: 2, Moving: 1,
	CPU:    policy.Load{Capacity: 100_000, Used: 90_000, Credited: 1000, After: 76_000, Target: 75, Shortfall: 14_000},
	Memory: policy.Load{Capacity: 1024 * 1024, Used: 512 * 1024, After: 512 * 1024},
}}

// fakePlan plans two VMs, or none, or the one that is named.
func fakePlan(_ workflow.Context, raw json.RawMessage) (contract.RoundResult, error) {
	r := contract.RoundResult{
		State: contract.RoundPlanned, PolicyName: "default", Targets: []contract.VMOutcome{},
		Spared: []policy.Spared{{Ref: ref("vm-9"), Name: "db-1", Reason: policy.OutOfScope, Detail: "it is in cluster-b"}},
	}
	var req preemption.WorkflowRequest
	if err := json.Unmarshal(raw, &req); err != nil {
		return r, err
	}
	r.Tag, r.Criticality = req.Tag, req.Criticality
	switch f, ok := evictions[req.VM]; {
	case ok:
		if err := f(&r); err != nil {
			r.RoundID = "plan"
			return r, broken(&r, contract.KindOf(err), r.Reason)
		}
	case req.VM != "":
		r.Targets = append(r.Targets, contract.VMOutcome{Ref: ref("vm-2"), Name: req.VM, Outcome: "would_powerOff", Why: "rank 1: priority 10"})
	case strings.HasPrefix(req.Tag, "reject"):
		return r, sdktemporal.NewNonRetryableApplicationError("tag is not among the allowed tags", "RequestRejected", nil)
	case req.Tag == "nosuch":
		r.State, r.Reason, r.RoundID = contract.RoundFailed, "vCenter has no such tag", "plan"
		return r, sdktemporal.NewNonRetryableApplicationError(r.Reason, "NoSuchTag", nil, r)
	case req.Tag != "empty":
		r.Usage, r.Partial = usage, true
		r.Shortfall, r.Covered = policy.Resources{CPUMHz: 14_000}, policy.Resources{CPUMHz: 13_000}
		r.Targets = append(r.Targets,
			contract.VMOutcome{Ref: ref("vm-2"), Name: "web-2", Outcome: "would_powerOff", CPUMHz: 100, MemoryMB: 512, Why: "rank 1: priority 10, frees 0.1 GHz"},
			contract.VMOutcome{Ref: ref("vm-1"), Name: "web-1", Outcome: "would_shutdownGuest"})
	}
	return r, nil
}

func fakeLedger(ctx workflow.Context) error { return workflow.Sleep(ctx, time.Minute) }
