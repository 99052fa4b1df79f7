package intake

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
)

// intakeID is the id of each intake that is tested.
const intakeID = "default-test-workflow-id"

// books is a ledger that admits everything, unless a test says otherwise.
type books struct {
	mu       sync.Mutex
	admit    func(n int, r ledger.AdmitRequest) (ledger.Admission, error)
	restores []string // under way where an alarm is active
	admitted []ledger.AdmitRequest
	raised   []ledger.RaiseRequest
	stood    []ledger.ActiveRequest
	standErr error
}

func (b *books) Admit(_ context.Context, r ledger.AdmitRequest) (ledger.Admission, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.admitted = append(b.admitted, r)
	if b.admit == nil {
		return ledger.Admission{Verdict: ledger.Granted, Owner: r.Owner, Restores: b.restores}, nil
	}
	return b.admit(len(b.admitted), r)
}

func (b *books) Raise(_ context.Context, r ledger.RaiseRequest) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.raised = append(b.raised, r)
	return nil
}

func (b *books) SetActive(_ context.Context, r ledger.ActiveRequest) (ledger.ActiveAnswer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stood = append(b.stood, r)
	return ledger.ActiveAnswer{Restores: b.restores}, b.standErr
}

// final is an error that is not tried again: local activities are tried again by the real clock.
func final(text string) error { return temporal.NewNonRetryableApplicationError(text, "Final", nil) }

// mend has the ledger answer again.
func (b *books) mend() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.standErr = nil
}

// intakeRun is the intake's workflow with its own activities, and a clock that leaps.
type intakeRun struct {
	*testsuite.TestWorkflowEnvironment
	t       *testing.T
	vc      *vcentertest.VCenter
	books   *books
	server  *temporalServer
	acts    *Activities
	mu      sync.Mutex
	changes []round.Change // that its rounds were told
	stops   []preemptapi.RestoreChange
	keys    int64
}

func newIntakeRun(t *testing.T) *intakeRun {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(vcentertest.Quiet)
	r := &intakeRun{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), t: t, vc: vcentertest.New(1), books: &books{}, server: &temporalServer{status: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING}}
	r.SetTestTimeout(10 * time.Second)
	set := preempt.DefaultSettings()
	p := set.Policies["default"]
	p.RepeatWhileRed = false
	p.Restore = policy.Restore{Enabled: true, Settle: clock.Duration(time.Minute), Wave: 1}
	set.Policies["default"] = p
	again := p
	again.RepeatWhileRed = true
	set.Policies["repeat"] = again
	env := &preempt.Env{Settings: set, Log: slog.New(slog.DiscardHandler), Temporal: r.server, TaskQueue: "default-test-taskqueue", Namespace: "ns"}
	r.acts = &Activities{Env: env, VCenter: r.vc, Ledger: r.books}
	Register(r, r.acts)
	r.OnSignalExternalWorkflow(mock.Anything, mock.Anything, "", round.ChangeSignal, mock.Anything).Return(func(_, _, _, _ string, arg any) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.changes = append(r.changes, arg.(round.Change))
		return nil
	})
	r.OnSignalExternalWorkflow(mock.Anything, mock.Anything, "", preemptapi.RestoreSignal, mock.Anything).Return(func(_, _, _, _ string, arg any) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.stops = append(r.stops, arg.(preemptapi.RestoreChange))
		return nil
	})
	return r
}

// run runs the intake until it completes.
func (r *intakeRun) run(in Input) (res preemptapi.Response) {
	r.t.Helper()
	r.ExecuteWorkflow(Intake, in)
	if err := r.GetWorkflowError(); err != nil {
		r.t.Fatal(err)
	}
	if err := r.GetWorkflowResult(&res); err != nil {
		r.t.Fatal(err)
	}
	return res
}

// next runs an intake that continues as new, and returns the input of its next run.
func (r *intakeRun) next(in Input) (next Input) {
	r.t.Helper()
	r.ExecuteWorkflow(Intake, in)
	return nextOf(r.t, r.GetWorkflowError())
}

func (r *intakeRun) after(d time.Duration, f func()) { r.RegisterDelayedCallback(f, d) }

// alarm has the alarm turn a colour on a host so long after the beginning. What asks to act has a request with the
// policy.
func (r *intakeRun) alarm(d time.Duration, host, to, policyName string) {
	r.after(d, func() { r.SignalWorkflow(preemption.AlarmSignal, r.change(host, to, policyName)) })
}

func (r *intakeRun) change(host, to, policyName string) preemption.AlarmChange {
	r.keys++
	c := preemption.AlarmChange{
		Alarm: "cpu", Entity: "HostSystem:" + host, Scope: vcentertest.Cluster.String(), From: alarm.Green, To: to, Time: r.Now(), EventKey: r.keys,
	}
	if to == alarm.Red || to == alarm.Yellow {
		criticality := preemption.CriticalityHigh
		if to == alarm.Yellow {
			criticality = preemption.CriticalityMedium
		}
		c.Request = request("spot", criticality, policyName)
	}
	return c
}

func request(tag string, c preemption.Criticality, policyName string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"tag":%q,"criticality":%q,"policy":%q}`, tag, c, policyName))
}

// person has somebody ask so long after the beginning, and returns what was decided.
func (r *intakeRun) person(d time.Duration, c preemption.Criticality) *preemptapi.Decision {
	var decided preemptapi.Decision
	r.after(d, func() {
		raw := json.RawMessage(fmt.Sprintf(`{"tag":"spot","criticality":%q,"origin":"person"}`, c))
		r.UpdateWorkflow(preemption.RequestUpdate, fmt.Sprint("update-", d), &testsuite.TestUpdateCallback{
			OnReject: func(err error) { r.t.Error(err) },
			OnAccept: func() {},
			OnComplete: func(result any, err error) {
				if err != nil {
					r.t.Error(err)
				}
				decided, _ = result.(preemptapi.Decision)
			},
		}, raw)
	})
	return &decided
}

// done has the last round end so long after the beginning.
func (r *intakeRun) done(d time.Duration, set func(*preemptapi.RoundResult)) {
	r.after(d, func() {
		n, last := r.server.begun()
		if n == 0 {
			r.t.Error("there is no round")
			return
		}
		res := preemptapi.RoundResult{RoundID: last, State: preemptapi.RoundCompleted, StartedAt: r.Now(), EndedAt: r.Now()}
		if set != nil {
			set(&res)
		}
		r.SignalWorkflow(round.DoneSignal, res)
	})
}

// told counts what rounds were told.
func (r *intakeRun) told() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.changes)
}

func nextOf(t *testing.T, err error) (next Input) {
	t.Helper()
	var again *workflow.ContinueAsNewError
	if !asContinueAsNew(err, &again) {
		t.Fatalf("it did not continue as new: %v", err)
	}
	if err := decodePayloads(again, &next); err != nil {
		t.Fatal(err)
	}
	return next
}
