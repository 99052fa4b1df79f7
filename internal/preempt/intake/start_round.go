package intake

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// AdmissionID is the id under which the ledger is asked whether the round of a request may start.
func AdmissionID(requestID string, sequence int) string {
	return fmt.Sprintf("%s#%d", requestID, sequence)
}

// StartInput asks for a round.
type StartInput struct {
	Round    round.Input `json:"round"`
	Sequence int         `json:"sequence"`
}

// StartRound asks the ledger whether the round may start, and starts it. Repeated, it starts it once.
func (a *Activities) StartRound(ctx context.Context, in StartInput) (ledger.Admission, error) {
	ctx, span := a.Tracer.Step(a.Tracer.FromEvent(ctx, in.Round.Demand.Event), "start round", slog.Int("sequence", in.Sequence))
	got, err := a.startRound(ctx, in)
	span.Note(slog.String("verdict", string(got.Verdict)), slog.String("reason", got.Reason))
	span.End(err)
	return got, err
}

func (a *Activities) startRound(ctx context.Context, in StartInput) (ledger.Admission, error) {
	d := in.Round.Demand
	id := roundID(in.Round.IntakeID, d.RequestID, in.Sequence)
	req := ledger.AdmitRequest{RequestID: AdmissionID(d.RequestID, in.Sequence), Scope: d.Key(), Owner: id, Rank: d.Criticality.Rank(), Within: a.Within(ctx, a.VCenter, d.Scope), Alarm: d.Alarm()}
	if outlivesRound(d) {
		req.Intake = in.Round.IntakeID
	}
	got, err := a.Ledger.Admit(ctx, req)
	if err != nil {
		return got, err
	}
	if !d.DryRun && !d.NoticeOnly && !d.Headroom {
		if err := a.HoldRestores(ctx, got.Restores, "preemption was asked for by "+preempt.Clip(d.RequestID)); err != nil {
			a.Logger(ctx).Error("a restore could not be told to hold; it will find out when it plans", "error", err)
		}
	}
	if got.Verdict != ledger.Granted {
		return got, nil
	}
	opts := client.StartWorkflowOptions{
		ID: id, TaskQueue: a.TaskQueue, WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		EnableEagerStart: true, WorkflowTaskTimeout: preempt.TaskTimeout,
		StaticSummary: preempt.Clip(fmt.Sprintf("%s preemption of VMs tagged %s %s", d.Criticality, d.Tag, d.ScopeName)),
		Memo:          map[string]any{"alarm": d.Alarm(), "scope": d.Scope.String(), "tag": d.Tag, "state": "running"},
	}
	if in.Round.Attrs {
		opts.TypedSearchAttributes = temporal.NewSearchAttributes(preempt.SearchUpdates(d.Alarm(), d.Scope.String(), "running")...)
	}
	_, err = a.Temporal.ExecuteWorkflow(ctx, opts, preemptapi.RoundType, in.Round)
	var started *serviceerror.WorkflowExecutionAlreadyStarted
	if err != nil && !errors.As(err, &started) {
		return got, fmt.Errorf("start round %s: %w", id, err)
	}
	return got, nil
}

// withinAll is within of each host among the scopes, all in the time of one.
func (a *Activities) withinAll(ctx context.Context, scopes []string) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, preempt.WithinTime)
	defer cancel()
	clusters := map[string]string{}
	for _, scope := range scopes {
		ref, _ := vsphere.ParseRef(scope)
		if cluster := a.Within(ctx, a.VCenter, ref); cluster != "" {
			clusters[scope] = cluster
		}
	}
	return clusters
}

// RaiseRound tells the ledger that a round acts at a higher rank.
func (a *Activities) RaiseRound(ctx context.Context, r ledger.RaiseRequest) error {
	return a.Ledger.Raise(ctx, r)
}

// roundID derives a round's workflow id from its request, so that the same request never runs twice.
func roundID(intakeID, requestID string, sequence int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d", requestID, sequence))
	return workflowid.Of(workflowid.Round + hex.EncodeToString(sum[:6]) + "-" + intakeID)
}

// isRound reports whether a round is the request's, whose id an earlier version did not bound.
func isRound(id, intakeID, requestID string, sequence int) bool {
	ours := roundID(intakeID, requestID, sequence)
	return id == ours || id == ours[:len(workflowid.Round)+12]+"-"+intakeID
}
