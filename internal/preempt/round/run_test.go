package round

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/testsuite"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
)

// roundRun is the round's workflow with made-up activities and a clock that leaps.
type roundRun struct {
	*testsuite.TestWorkflowEnvironment
	t     *testing.T
	began time.Time
	in    Input
	mu    sync.Mutex // activities run side by side

	chosen    int // VMs that the next plan chooses
	plans     []PlanInput
	evictions []ActInput
	waits     []AwaitInput
	notices   []NoticeInput
	replies   []preempt.ReplyInput
	told      []preemptapi.RoundResult // to the intake
	completed []ledger.CompleteRequest
	recorded  []ledger.EvictedRequest

	annotations []AnnotateInput

	onPlan  func(PlanInput, *PlanResult) error
	onEvict func(ActInput, *ActResult) error
	onAwait func(AwaitInput) AwaitResult
	onReply func(preempt.ReplyInput) error

	onRecord   func() error
	onAnnotate func(AnnotateInput) AnnotateResult
	answers    []GuestReply
	atPlan     func()
}

func newRoundRun(t *testing.T, vms int, c preemption.Criticality) *roundRun {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(vcentertest.Quiet)
	r := &roundRun{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), t: t, chosen: vms}
	d := demand()
	d.Criticality, d.ReplyTo, d.EventID = c, "https://reply.example/", "event-1"
	r.in = Input{Demand: d, IntakeID: "intake-1", IntakeRun: time.Now(), Timing: preempt.DefaultTiming(), Attrs: true}
	r.SetTestTimeout(10 * time.Second)
	r.register()
	r.schedule()
	return r
}

// register adds the made-up activities.
func (r *roundRun) register() {
	register := func(name string, f any) { r.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name}) }
	register("PlanRound", r.planRound)
	register("EvictVMs", r.evictVMs)
	register("GiveNotice", func(_ context.Context, in NoticeInput) (NoticeResult, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.notices = append(r.notices, in)
		return NoticeResult{}, nil
	})
	register("AnnotateVMs", r.annotateVMs)
	register("AwaitReplies", func(context.Context, RepliesInput) ([]GuestReply, error) { return nil, nil })
	register("AwaitVMs", func(context.Context, AwaitInput) (AwaitResult, error) { return AwaitResult{}, nil })
	register("SendPreemptedEvent", func(_ context.Context, in preempt.ReplyInput) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.replies = append(r.replies, in)
		if r.onReply != nil {
			return r.onReply(in)
		}
		return nil
	})
	register("CompleteRound", func(_ context.Context, in ledger.CompleteRequest) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.completed = append(r.completed, in)
		return nil
	})
	register("RecordEvictions", func(_ context.Context, in ledger.EvictedRequest) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.recorded = append(r.recorded, in)
		if r.onRecord != nil {
			return r.onRecord()
		}
		return nil
	})
}

// schedule says how long by the workflow's clock what takes time does.
func (r *roundRun) schedule() {
	// Guests are watched for a minute at a time.
	r.OnActivity("AwaitVMs", mock.Anything, mock.Anything).Return(func(_ context.Context, in AwaitInput) (AwaitResult, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.waits = append(r.waits, in)
		if r.onAwait != nil {
			return r.onAwait(in), nil
		}
		return AwaitResult{Pending: in.Pending}, nil
	}).After(time.Minute)
	// Guests answer soon, or not at all.
	r.OnActivity("AwaitReplies", mock.Anything, mock.Anything).Return(func(context.Context, RepliesInput) ([]GuestReply, error) {
		return r.answers, nil
	}).After(10 * time.Second).Once()
	r.OnActivity("AwaitReplies", mock.Anything, mock.Anything).Return([]GuestReply{}, nil).After(time.Hour)
	r.OnSignalExternalWorkflow(mock.Anything, "intake-1", "", DoneSignal, mock.Anything).Return(
		func(_, _, _, _ string, arg any) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.told = append(r.told, arg.(preemptapi.RoundResult))
			return nil
		})
}

func (r *roundRun) planRound(_ context.Context, in PlanInput) (out PlanResult, err error) {
	r.plans = append(r.plans, in)
	if r.atPlan != nil {
		r.atPlan()
	}
	for i := 1; i <= r.chosen; i++ {
		out.Targets = append(out.Targets, policy.Target{
			Ref: vcentertest.Ref(i), Name: fmt.Sprintf("batch-%d", i), ToolsRunning: true, CPUMHz: 1000, MemoryMB: 1000, Host: vcentertest.Host,
		})
	}
	out.ScopeName, out.PlannedAt = "cluster-a", r.Now()
	if r.onPlan != nil {
		err = r.onPlan(in, &out)
	}
	return out, err
}

// evictVMs powers off at once, and asks guests to shut down.
func (r *roundRun) evictVMs(_ context.Context, in ActInput) (out ActResult, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.evictions = append(r.evictions, in)
	if r.onEvict != nil {
		err = r.onEvict(in, &out)
		return out, err
	}
	for _, t := range in.Targets {
		switch {
		case in.OnlyLook:
			o := outcome(t, action.Spared)
			o.Reason = in.StillOn
			out.Outcomes = append(out.Outcomes, o)
		case in.Action == action.ShutdownGuest:
			t.SentAt = r.Now()
			out.Pending = append(out.Pending, t)
		default:
			o := outcome(t, action.PoweredOff)
			o.Forced, o.Annotated, o.OffAt = !t.SentAt.IsZero(), true, r.Now()
			out.Outcomes = append(out.Outcomes, o)
		}
	}
	return out, nil
}

// annotateVMs refuses all, unless onAnnotate says otherwise.
func (r *roundRun) annotateVMs(_ context.Context, in AnnotateInput) (AnnotateResult, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.annotations = append(r.annotations, in)
	if r.onAnnotate != nil {
		return r.onAnnotate(in), nil
	}
	return AnnotateResult{Outcomes: in.VMs}, nil
}

// run carries the round out, and returns its result, also of one that failed.
func (r *roundRun) run() (res preemptapi.RoundResult) {
	r.t.Helper()
	r.began = r.Now()
	r.ExecuteWorkflow(Round, r.in)
	if err := r.GetWorkflowError(); err != nil {
		res, err = preemptapi.ResultOf(err, res)
		if err != nil {
			r.t.Fatal(err)
		}
		return res
	}
	if err := r.GetWorkflowResult(&res); err != nil {
		r.t.Fatal(err)
	}
	return res
}

// after does something so long after the beginning.
func (r *roundRun) after(d time.Duration, f func()) { r.RegisterDelayedCallback(f, d) }

func (r *roundRun) change(c Change) func() { return func() { r.SignalWorkflow(ChangeSignal, c) } }

// poweredOff counts the VMs that were powered off.
func (r *roundRun) poweredOff() (n int) {
	for _, in := range r.evictions {
		if in.Action == action.PowerOff && !in.OnlyLook {
			n += len(in.Targets)
		}
	}
	return n
}

func shutDown(in AwaitInput) (out AwaitResult) {
	for _, t := range in.Pending {
		o := outcome(t, action.ShutDown)
		o.Annotated = true
		out.Outcomes = append(out.Outcomes, o)
	}
	return out
}
