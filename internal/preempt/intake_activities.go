package preempt

import (
	"context"
	"errors"
	"fmt"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// StartInput asks for a round.
type StartInput struct {
	Round    RoundInput `json:"round"`
	Sequence int        `json:"sequence"`
}

// StartRound asks the ledger whether the round may start, and starts it. Repeated, it starts it once.
func (a *Activities) StartRound(ctx context.Context, in StartInput) (ledger.Admission, error) {
	d := in.Round.Demand
	id := roundID(in.Round.IntakeID, d.RequestID, in.Sequence)
	req := ledger.AdmitRequest{RequestID: AdmissionID(d.RequestID, in.Sequence), Scope: d.Key(), Owner: id, Rank: d.Criticality.Rank(), Within: a.within(ctx, d.Scope)}
	if stands(d) {
		req.Intake, req.Alarm = in.Round.IntakeID, d.Alarm()
	}
	got, err := a.ledger().Admit(ctx, req)
	if err != nil {
		return got, err
	}
	if !d.DryRun && !d.NoticeOnly {
		if err := a.holdRestores(ctx, got.Restores, "preemption was asked for by "+clip(d.RequestID)); err != nil {
			a.logger(ctx).Error("a restore could not be told to hold; it will find out when it plans", "error", err)
		}
	}
	if got.Verdict != ledger.Granted {
		return got, nil
	}
	opts := client.StartWorkflowOptions{
		ID: id, TaskQueue: a.TaskQueue, WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		EnableEagerStart: true,
		StaticSummary:    clip(fmt.Sprintf("%s preemption of VMs tagged %s %s", d.Criticality, d.Tag, d.ScopeName)),
		Memo:             map[string]any{"alarm": d.Alarm(), "scope": d.Scope.String(), "tag": d.Tag, "state": "running"},
	}
	if in.Round.Attrs {
		opts.TypedSearchAttributes = temporal.NewSearchAttributes(searchUpdates(d.Alarm(), d.Scope.String(), "running")...)
	}
	_, err = a.Temporal.ExecuteWorkflow(ctx, opts, preemptapi.RoundType, in.Round)
	var started *serviceerror.WorkflowExecutionAlreadyStarted
	if err != nil && !errors.As(err, &started) {
		return got, fmt.Errorf("start round %s: %w", id, err)
	}
	return got, nil
}

// withinTime bounds the look for a host's cluster: without an answer any cluster may be it.
const withinTime = 5 * time.Second

// within is, of a host, the cluster that it is in: the ledger lets no round of the one run beside one of the other.
func (a *Activities) within(ctx context.Context, scope vsphere.Ref) string {
	if scope.Type != vsphere.TypeHost {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, withinTime)
	defer cancel()
	cluster, err := a.VCenter.ClusterOf(ctx, scope)
	if err != nil {
		a.logger(ctx).Warn("the cluster of a host is not known: it counts as in every cluster", "host", scope.String(), "reason", err)
		return ledger.WithinUnknown
	}
	return cluster.String()
}

// withinAll is within of each host among the scopes, all in the time of one.
func (a *Activities) withinAll(ctx context.Context, scopes []string) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, withinTime)
	defer cancel()
	clusters := map[string]string{}
	for _, scope := range scopes {
		ref, _ := vsphere.ParseRef(scope)
		if cluster := a.within(ctx, ref); cluster != "" {
			clusters[scope] = cluster
		}
	}
	return clusters
}

// RaiseRound tells the ledger that a round acts at a higher rank.
func (a *Activities) RaiseRound(ctx context.Context, r ledger.RaiseRequest) error {
	return a.ledger().Raise(ctx, r)
}

// RoundStatus is how a round stands.
type RoundStatus struct {
	Open   bool                   `json:"open"`
	Result preemptapi.RoundResult `json:"result"`
}

// LookAtRound tells whether a round still runs, and its result when not.
func (a *Activities) LookAtRound(ctx context.Context, id string) (RoundStatus, error) {
	d, err := a.Temporal.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return RoundStatus{}, err
	}
	status := d.WorkflowExecutionInfo.Status
	if status == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return RoundStatus{Open: true}, nil
	}
	out := RoundStatus{Result: preemptapi.RoundResult{
		RoundID: id, State: preemptapi.RoundFailed, EndedAt: d.WorkflowExecutionInfo.CloseTime.AsTime(),
		Reason: "the round ended as " + status.String() + " without a result: look at its history and at the VMs",
	}}
	res, err := preemptapi.ResultOf(a.Temporal.GetWorkflow(ctx, id, "").Get(ctx, &out.Result), out.Result)
	if err == nil {
		out.Result = brief(res)
	}
	return out, nil
}

// SignalsAfterCancel counts the requests and alarm changes, of which one signal may carry many, that reached
// a run after its cancellation was requested. A workflow cannot tell the order of what arrives together; its
// history can. It matters when a client cancels what it asked for a moment ago, or asks anew a moment after
// it cancelled.
func (a *Activities) SignalsAfterCancel(ctx context.Context, run workflow.Execution) (n int, err error) {
	req := &workflowservice.GetWorkflowExecutionHistoryReverseRequest{
		Namespace: a.Namespace, Execution: &commonpb.WorkflowExecution{WorkflowId: run.ID, RunId: run.RunID},
	}
	for {
		page, err := a.Temporal.WorkflowService().GetWorkflowExecutionHistoryReverse(ctx, req)
		if err != nil {
			return 0, fmt.Errorf("read the history of %s: %w", run.ID, err)
		}
		for _, e := range page.GetHistory().GetEvents() {
			switch e.GetEventType() {
			case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
				return n, nil
			case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
				switch signal := e.GetWorkflowExecutionSignaledEventAttributes(); signal.GetSignalName() {
				case preemption.SignalChannel:
					n++
				case preemption.AlarmSignal:
					carried := 1
					if p := signal.GetInput().GetPayloads(); len(p) > 0 {
						carried = max(carried, len(bundled(p[0])))
					}
					n += carried
				}
			}
		}
		if req.NextPageToken = page.GetNextPageToken(); len(req.NextPageToken) == 0 {
			return 0, nil
		}
	}
}
