package intake

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// start asks for a round on a host.
func start() StartInput {
	return StartInput{Sequence: 1, Round: round.Input{
		IntakeID: intakeID, Attrs: true, Demand: preemptapi.Demand{
			RequestID: "request-1", Tag: "spot", Criticality: preemption.CriticalityHigh, Scope: vcentertest.Host, Policy: policy.Default(),
			Change: &preemptapi.Change{Alarm: "cpu", Scope: vcentertest.Host.String(), To: alarm.Red},
		},
	}}
}

func TestARoundIsStartedOnceWhateverIsRepeated(t *testing.T) {
	r := newIntakeRun(t)
	r.books.restores = []string{"restore-1", "restore-over"}
	first, err := vcentertest.Run[ledger.Admission](t.Context(), r.acts.StartRound, start())
	if err != nil || first.Verdict != ledger.Granted || len(r.server.rounds) != 1 {
		t.Fatalf("%+v, %v", first, err)
	}
	r.server.startErr = serviceerror.NewWorkflowExecutionAlreadyStarted("it runs", "", "")
	if second, err := vcentertest.Run[ledger.Admission](t.Context(), r.acts.StartRound, start()); err != nil || second.Owner != first.Owner {
		t.Errorf("%+v, %v", second, err)
	}
	o := r.server.started[0]
	if o.ID != first.Owner || o.WorkflowIDReusePolicy != enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE || o.TypedSearchAttributes.Size() == 0 {
		t.Errorf("%+v", o)
	}
	if asked := r.books.admitted[0]; asked.Within != vcentertest.Cluster.String() || asked.Intake != intakeID || asked.RequestID != "request-1#1" {
		t.Errorf("the ledger was asked %+v", asked)
	}
	if held := r.server.signals[0]; held.id != "restore-1" || held.signal != preemptapi.RestoreHoldSignal {
		t.Errorf("%+v", r.server.signals)
	}
	r.server.startErr = errors.New("no Temporal")
	if _, err := vcentertest.Run[ledger.Admission](t.Context(), r.acts.StartRound, start()); err == nil {
		t.Error("a round that was not started counts as started")
	}
}

func TestAHostWhoseClusterIsUnknownCountsAsInEveryCluster(t *testing.T) {
	r := newIntakeRun(t)
	r.vc.Fail = vcentertest.Failing("ClusterOf", vcenter.Unavailable, 9)
	if _, err := vcentertest.Run[ledger.Admission](t.Context(), r.acts.StartRound, start()); err != nil || r.books.admitted[0].Within != ledger.WithinUnknown {
		t.Errorf("%+v, %v", r.books.admitted, err)
	}
}

func TestWhereAnAlarmIsActiveRestoresAreHeld(t *testing.T) {
	r := newIntakeRun(t)
	r.books.restores = []string{"restore-1"}
	in := ledger.ActiveRequest{Owner: intakeID, Alarm: "cpu", Scopes: []string{vcentertest.Host.String(), vcentertest.Cluster.String()}}
	if _, err := vcentertest.Run[any](t.Context(), r.acts.TellStanding, in); err != nil && !strings.Contains(err.Error(), "no data") {
		t.Fatal(err)
	}
	if told := r.books.stood[0]; told.Within[vcentertest.Host.String()] != vcentertest.Cluster.String() || len(r.server.signals) != 1 {
		t.Errorf("%+v, sent %+v", told, r.server.signals)
	}
}

func TestALookAtARoundSaysHowItEnded(t *testing.T) {
	r := newIntakeRun(t)
	look := func() RoundStatus {
		t.Helper()
		got, err := r.acts.LookAtRound(t.Context(), "round-1")
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	r.server.status = 0
	if _, err := r.acts.LookAtRound(t.Context(), "round-1"); err == nil {
		t.Error("there is no such round")
	}
	r.server.status = enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
	if !look().Open {
		t.Error("it runs")
	}
	r.server.status = enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
	r.server.result = preemptapi.RoundResult{State: preemptapi.RoundCompleted, Targets: []preemptapi.VMOutcome{{Outcome: action.PoweredOff}}}
	if got := look(); got.Open || len(got.Result.Preempted()) != 1 || got.Result.RoundID != "round-1" {
		t.Errorf("%+v", got)
	}
}

func TestWhatCameAfterACancellationIsCounted(t *testing.T) {
	for want, words := range map[int][]string{
		0: {"signal", "signal", "cancel"},
		1: {"signal", "cancel", "signal"},
		3: {"two changes", "cancel", "two changes", "signal"},
	} {
		r := newIntakeRun(t)
		r.server.history = historyOf(words...)
		if n, err := r.acts.SignalsAfterCancel(t.Context(), workflow.Execution{ID: intakeID}); err != nil || n != want {
			t.Errorf("%q: %d, %v", words, n, err)
		}
	}
	r := newIntakeRun(t)
	r.server.history = historyOf("signal", "signal")
	if n, err := r.acts.SignalsAfterCancel(t.Context(), workflow.Execution{ID: intakeID}); err != nil || n != 0 {
		t.Errorf("nobody cancelled it: %d, %v", n, err)
	}
}

func TestAnEventIsOfThisVCenterByItsNameItsHistoryOrItsState(t *testing.T) {
	for what, c := range map[string]struct {
		set  func(*vcentertest.VCenter)
		want func(Decoded) bool
	}{
		"its source names this vCenter": {
			func(v *vcentertest.VCenter) { v.Name = "10.161.164.224" },
			func(d Decoded) bool { return d.Rejected == "" && !d.Uncertain },
		},
		"its history has the event": {
			func(v *vcentertest.VCenter) { v.Known = true },
			func(d Decoded) bool { return d.Rejected == "" && !d.Uncertain },
		},
		"the alarm has that state here": {
			func(v *vcentertest.VCenter) { v.Known = false },
			func(d Decoded) bool { return d.Rejected == "" && d.Uncertain },
		},
		"nothing speaks for it": {
			func(v *vcentertest.VCenter) { v.Known, v.Elsewhere = false, "of another" },
			func(d Decoded) bool { return d.Rejected == "of another" && d.AnotherVCenter },
		},
		"vCenter does not answer": {
			func(v *vcentertest.VCenter) { v.Fail = vcentertest.Failing("Knows", vcenter.Unavailable, 9) },
			func(d Decoded) bool { return d.Rejected == "" && d.Demand.Unverified },
		},
	} {
		r := newIntakeRun(t)
		c.set(r.vc)
		got, err := r.acts.DecodeMessages(t.Context(), []Message{{JSON: documented(t)}})
		if err != nil || len(got.Decoded) != 1 || !c.want(got.Decoded[0]) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
}

func TestARehearsalNamesItsVMAndAnObservingWorkerTouchesNone(t *testing.T) {
	r := newIntakeRun(t)
	for text, want := range map[string]string{
		`{"tag":"spot","criticality":"LOW","noticeOnly":true}`:                           "name it in vm",
		`{"tag":"spot","criticality":"LOW","noticeOnly":true,"vm":"a","notice":"soon"}`:  "no duration",
		`{"tag":"spot","criticality":"LOW","mode":"hard"}`:                               "unknown mode",
		`{"tag":"spot","criticality":"LOW","whenSilenced":"maybe"}`:                      "unknown whenSilenced",
		`{"tag":"spot","criticality":"LOW","vm":"` + strings.Repeat("x", maxVM+1) + `"}`: "at most",
	} {
		got, err := r.acts.DecodeMessages(t.Context(), []Message{{JSON: json.RawMessage(text)}})
		if err != nil || !strings.Contains(got.Decoded[0].Rejected, want) {
			t.Errorf("%.60s: %+v, %v", text, got.Decoded, err)
		}
	}
	r.acts.Settings.Observe = true
	got, err := r.acts.DecodeMessages(t.Context(), []Message{{JSON: json.RawMessage(`{"tag":"spot","criticality":"LOW","noticeOnly":true,"vm":"a","notice":"1m"}`)}})
	if d := got.Decoded[0].Demand; err != nil || d == nil || d.Policy.Mode != policy.ModeObserve || d.Notice.D().Minutes() != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestTheWatchIsToldWhatAnIntakeWouldReject(t *testing.T) {
	r := newIntakeRun(t)
	c := r.change("h1", alarm.Red, "")
	if err := r.acts.WhyRejected(c); err != nil {
		t.Error(err)
	}
	c.Request = request("spot", "URGENT", "")
	if err := r.acts.WhyRejected(c); err == nil || !strings.Contains(err.Error(), "URGENT") {
		t.Errorf("unexpected %v", err)
	}
	c.Request = nil
	if err := errors.Join(r.acts.WhyRejected(c), r.acts.WhyRejected("something else")); err != nil {
		t.Error(err)
	}
}

func TestASuccessorStartsWhenTheIntakeHasEnded(t *testing.T) {
	r := newIntakeRun(t)
	h := Handover{IntakeID: intakeID, RunID: "run-1", Input: Input{Pending: []Message{{JSON: json.RawMessage(`{}`)}, {Alarm: true, JSON: json.RawMessage(`{}`)}}}}
	r.server.status = enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
	if err := r.acts.AwaitIntakeEnd(t.Context(), h); err == nil {
		t.Error("the intake still runs")
	}
	r.server.status = enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
	if err := errors.Join(r.acts.AwaitIntakeEnd(t.Context(), h), r.acts.SucceedIntake(t.Context(), h)); err != nil || r.server.started[0].ID != intakeID {
		t.Errorf("%v, started %+v", err, r.server.started)
	}
	r.server.startErr = serviceerror.NewWorkflowExecutionAlreadyStarted("a client has started one", "", "")
	if err := r.acts.SucceedIntake(t.Context(), h); err != nil || len(r.server.signals) != 2 || r.server.signals[1].signal != preemption.AlarmSignal {
		t.Errorf("%v, sent %+v", err, r.server.signals)
	}
	r.server.status = 0
	if err := r.acts.AwaitIntakeEnd(t.Context(), h); err != nil {
		t.Errorf("an intake that Temporal has forgotten has ended: %v", err)
	}
}

func TestTheLastHandoverCounts(t *testing.T) {
	r := newIntakeRun(t)
	r.server.status = enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
	r.after(0, func() {
		r.SignalWorkflow(handoverSignal, Handover{IntakeID: "first"})
		r.SignalWorkflow(handoverSignal, Handover{IntakeID: "last"})
	})
	r.ExecuteWorkflow(HandoverIntake)
	if err := r.GetWorkflowError(); err != nil || len(r.server.started) != 1 || r.server.started[0].ID != "last" {
		t.Errorf("%v, started %+v", err, r.server.started)
	}
}

func TestACommandIsToldWhatVCenterDoesNotKnow(t *testing.T) {
	r := newIntakeRun(t)
	r.vc.Fail = vcentertest.Failing("Candidates", vcenter.TagAmbiguous, 1)
	r.ExecuteWorkflow(Names, preemptapi.NamesInput{Tag: "spot", VMs: []string{"batch-1", "payroll"}, Event: eventOf(t)})
	var got preemptapi.NamesResult
	if err := r.GetWorkflowResult(&got); err != nil || len(got.Unknown) != 1 || len(got.Ambiguous) != 1 || !got.Ours {
		t.Errorf("%+v, %v", got, err)
	}
	r = newIntakeRun(t)
	r.vc.Fail = vcentertest.Failing("Candidates", vcenter.Unavailable, 1000)
	r.ExecuteWorkflow(Names, preemptapi.NamesInput{Tag: "spot"})
	if r.GetWorkflowError() == nil {
		t.Error("what could not be looked up counts as known")
	}
}

// eventOf is the event of the documented request.
func eventOf(t *testing.T) json.RawMessage {
	t.Helper()
	var w struct{ Event json.RawMessage }
	if err := json.Unmarshal(documented(t), &w); err != nil {
		t.Fatal(err)
	}
	return w.Event
}

func TestADryRunPlansWhatARequestWouldDo(t *testing.T) {
	r := newIntakeRun(t)
	var asked round.PlanInput
	r.RegisterActivityWithOptions(func(_ context.Context, in round.PlanInput) (round.PlanResult, error) {
		asked = in
		return round.PlanResult{Targets: []policy.Target{{Ref: vcentertest.Ref(1), Name: "batch-1"}}}, nil
	}, activity.RegisterOptions{Name: "PlanRound"})
	r.ExecuteWorkflow(Plan, json.RawMessage(`{"tag":"spot","criticality":"HIGH"}`))
	var res preemptapi.RoundResult
	if err := r.GetWorkflowResult(&res); err != nil || res.State != preemptapi.RoundPlanned || len(res.Targets) != 1 || asked.Reserve {
		t.Errorf("%+v, %v", res, err)
	}
	r = newIntakeRun(t)
	r.ExecuteWorkflow(Plan, json.RawMessage(`{"tag":"","criticality":"HIGH"}`))
	if err := r.GetWorkflowError(); vcentertest.TypeOf(err) != "RequestRejected" {
		t.Errorf("unexpected %v", err)
	}
}

func TestARestoreIsStartedUnderTheIDOfItsScope(t *testing.T) {
	r := newIntakeRun(t)
	id, err := r.acts.StartRestore(t.Context(), preemptapi.RestoreInput{Scope: vcentertest.Cluster, Tag: "spot", By: "cpu"})
	if err != nil || id != preemptapi.RestoreID(r.acts.TaskQueue, vcentertest.Cluster) || len(r.server.signals) != 1 {
		t.Errorf("%q, %v, %+v", id, err, r.server.signals)
	}
	r.server.startErr = errors.New("no Temporal")
	if _, err := r.acts.StartRestore(t.Context(), preemptapi.RestoreInput{Scope: vcentertest.Cluster}); err == nil {
		t.Error("a restore that was not started counts as started")
	}
}

func TestEventsOfManyScopesAreTrimmedBeforeTheyAreCarriedOn(t *testing.T) {
	s := State{StillActive: map[string]preemptapi.Demand{}}
	for _, scope := range []string{"a", "b", "c"} {
		s.StillActive[scope] = preemptapi.Demand{Event: json.RawMessage(`{"specversion":"1.0","id":"1","source":"x","type":"t","data":{"pad":"` + strings.Repeat("x", 200<<10) + `"}}`)}
	}
	last := s.StillActive["a"]
	s.LastDemand = &last
	s.Deferred = []preemptapi.Deferral{{Scope: "a", Demand: last}}
	s.trimEvents()
	if n := len(s.StillActive["b"].Event); n > 100<<10 {
		t.Errorf("%d bytes are carried on", n)
	}
}

func TestWhatAnIntakeLeavesIsSaidInWords(t *testing.T) {
	s := State{Active: map[string]ActiveRound{}}
	for _, scope := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
		s.Active[scope] = ActiveRound{RoundID: "round-" + scope}
	}
	s.Deferred = []preemptapi.Deferral{{Demand: preemptapi.Demand{RequestID: "request-1"}, Reason: "the scope cools down"}}
	s.Levels.Entities = []preemptapi.Level{{Alarm: "cpu", Entity: vsphere.Ref{Type: "HostSystem", Value: "h1"}.String(), Rank: 3, Colour: alarm.Red}}
	left := s.left()
	if len(left) != 21 || !strings.Contains(left[0], "cpu") || !strings.Contains(left[1], "request-1") || !slices.Contains(left, "and 8 more") {
		t.Errorf("%q", left)
	}
}
