package intake

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

func asContinueAsNew(err error, target **workflow.ContinueAsNewError) bool {
	return errors.As(err, target)
}

func decodePayloads(again *workflow.ContinueAsNewError, to any) error {
	return converter.GetDefaultDataConverter().FromPayloads(again.Input, to)
}

const minute = time.Minute

func TestAnAlarmThatRisesStartsOneRoundAndItsFallStartsTheRestore(t *testing.T) {
	r := newIntakeRun(t)
	r.alarm(0, "h1", alarm.Red, "")
	r.alarm(minute, "h2", alarm.Red, "") // another host of the cluster
	r.done(2*minute, func(res *preemptapi.RoundResult) {
		res.Targets = []preemptapi.VMOutcome{{Ref: vcentertest.Ref(1), Outcome: action.PoweredOff}}
	})
	r.alarm(3*minute, "h1", alarm.Green, "")
	r.alarm(4*minute, "h2", alarm.Green, "")
	res := r.run(Input{})
	if len(r.server.rounds) != 1 || r.server.rounds[0].Demand.Criticality != preemption.CriticalityHigh || r.server.rounds[0].IntakeID != intakeID {
		t.Fatalf("rounds %+v", r.server.rounds)
	}
	if len(res.VirtualMachines) != 1 || res.Requests != 4 || res.State != preemptapi.RoundCompleted {
		t.Errorf("%+v", res)
	}
	restore := r.server.signals[len(r.server.signals)-1]
	if in, ok := restore.input.(preemptapi.RestoreInput); !ok || restore.kind != preemptapi.RestoreType || in.Tag != "spot" || in.By != "cpu" {
		t.Errorf("the restore is started as %+v", restore)
	}
	if len(r.stops) == 0 || !r.stops[0].Stop {
		t.Errorf("restores under way were told %+v", r.stops)
	}
	if first, last := r.books.admitted[0], r.books.stood[len(r.books.stood)-1]; first.Intake != intakeID || len(last.Scopes) != 0 {
		t.Errorf("the ledger was asked %+v and told %+v", first, last)
	}
}

func TestAFallWithdrawsTheRoundThatIsUnderWay(t *testing.T) {
	r := newIntakeRun(t)
	r.alarm(0, "h1", alarm.Red, "")
	r.alarm(minute, "h1", alarm.Green, "")
	r.alarm(minute+time.Second, "h1", alarm.Green, "") // once more
	r.done(2*minute, func(res *preemptapi.RoundResult) { res.State = preemptapi.RoundWithdrawn })
	res := r.run(Input{})
	if len(r.changes) != 1 || !r.changes[0].Withdraw || len(r.server.rounds) != 1 || len(res.Levels) != 0 {
		t.Errorf("the round was told %+v: %+v", r.changes, res)
	}
}

func TestAHigherAlarmRaisesTheRoundAndALowerOneJoinsIt(t *testing.T) {
	r := newIntakeRun(t)
	r.alarm(0, "h1", alarm.Yellow, "")
	r.alarm(minute, "h2", alarm.Red, "")
	r.done(2*minute, nil)
	r.alarm(3*minute, "h1", alarm.Green, "")
	r.alarm(3*minute, "h2", alarm.Green, "")
	r.run(Input{})
	if len(r.server.rounds) != 1 || len(r.changes) != 1 || r.changes[0].Criticality != preemption.CriticalityHigh || len(r.books.raised) != 1 {
		t.Errorf("%d rounds were told %+v, the ledger %+v", len(r.server.rounds), r.changes, r.books.raised)
	}
}

func TestAPersonIsToldWhatWasDecided(t *testing.T) {
	r := newIntakeRun(t)
	first := r.person(0, preemption.CriticalityMedium)
	second := r.person(minute, preemption.CriticalityMedium)
	third := r.person(2*minute, preemption.CriticalityHigh)
	bad := r.person(2*minute+time.Second, "URGENT")
	r.done(3*minute, nil)
	res := r.run(Input{})
	if first.Verdict != preemptapi.Started || first.RoundID == "" || second.Verdict != preemptapi.Refused || third.Verdict != preemptapi.Joined || bad.Verdict != preemptapi.Rejected {
		t.Errorf("%+v, %+v, %+v, %+v", first, second, third, bad)
	}
	if len(res.Rejections) != 1 || !strings.Contains(res.Rejections[0].Reason, "URGENT") {
		t.Errorf("%+v", res.Rejections)
	}
}

func TestAnUnknownStateHoldsEverythingAndCountsAsFallenAfterAWhile(t *testing.T) {
	r := newIntakeRun(t)
	r.alarm(0, "h1", alarm.Red, "")
	r.alarm(minute, "h1", alarm.Gray, "")
	var early int
	r.after(3*minute, func() { early = r.told() })
	r.done(10*minute, func(res *preemptapi.RoundResult) { res.State = preemptapi.RoundWithdrawn })
	r.run(Input{})
	if early != 0 || len(r.changes) != 1 || !r.changes[0].Withdraw {
		t.Errorf("told %d at first, then %+v", early, r.changes)
	}
}

func TestAFallToYellowSoftensTheRound(t *testing.T) {
	r := newIntakeRun(t)
	r.alarm(0, "h1", alarm.Red, "")
	r.after(minute, func() {
		c := r.change("h1", alarm.Yellow, "")
		c.Soften = true
		r.SignalWorkflow(preemption.AlarmSignal, c)
	})
	r.done(2*minute, nil)
	r.alarm(3*minute, "h1", alarm.Green, "")
	r.run(Input{})
	if len(r.changes) != 1 || !r.changes[0].Soften || r.changes[0].Criticality != preemption.CriticalityMedium {
		t.Errorf("%+v", r.changes)
	}
}

func TestWhatCannotBeReadIsRejectedAndStopsNothing(t *testing.T) {
	r := newIntakeRun(t)
	r.after(0, func() {
		r.SignalWorkflow(preemption.SignalChannel, []byte("\x00\x01"))                                // not JSON
		r.SignalWorkflow(preemption.SignalChannel, "a text")                                          // no request
		r.SignalWorkflow(preemption.SignalChannel, strings.Repeat("x", preemption.MaxRequestBytes+1)) // too large
		r.SignalWorkflow(preemption.SignalChannel, nil)                                               // empty
		r.SignalWorkflow(preemption.AlarmSignal, preemption.AlarmChange{Alarm: "cpu"})                // names no entity
	})
	good := r.person(time.Second, preemption.CriticalityHigh)
	r.done(minute, nil)
	res := r.run(Input{})
	if len(res.Rejections) != 5 || good.Verdict != preemptapi.Started {
		t.Errorf("%+v: %+v", good, res.Rejections)
	}
}

func TestManyChangesInOneSignalAreTakenInOrderAndRepetitionsOnlyCount(t *testing.T) {
	r := newIntakeRun(t)
	r.after(0, func() {
		r.SignalWorkflow(preemption.AlarmSignal, []preemption.AlarmChange{r.change("h1", alarm.Yellow, ""), r.change("h2", alarm.Red, "")})
		same := r.change("h2", alarm.Green, "")
		r.SignalWorkflow(preemption.AlarmSignal, same)
		r.SignalWorkflow(preemption.AlarmSignal, same)
		r.SignalWorkflow(preemption.AlarmSignal, r.change("h1", alarm.Green, ""))
	})
	r.done(minute, func(res *preemptapi.RoundResult) { res.State = preemptapi.RoundWithdrawn })
	if res := r.run(Input{}); res.Requests != 5 || len(r.server.rounds) != 1 || len(r.changes) != 2 {
		t.Errorf("%d requests, %d rounds, told %+v", res.Requests, len(r.server.rounds), r.changes)
	}
}

func TestACancelledIntakeWithdrawsItsRoundsAndCompletes(t *testing.T) {
	r := newIntakeRun(t)
	r.alarm(0, "h1", alarm.Red, "")
	r.after(minute, r.CancelWorkflow)
	r.done(minute+5*time.Second, func(res *preemptapi.RoundResult) { res.State = preemptapi.RoundWithdrawn })
	res := r.run(Input{})
	if len(r.changes) != 1 || !r.changes[0].Withdraw || res.Round == nil || res.Round.State != preemptapi.RoundWithdrawn || len(res.Levels) != 0 {
		t.Errorf("%+v, told %+v", res, r.changes)
	}
}

func TestARequestAfterTheCancellationGoesOnInANewRun(t *testing.T) {
	r := newIntakeRun(t)
	r.server.history = historyOf("signal", "cancel", "signal")
	r.after(minute, func() {
		r.SignalWorkflow(preemption.SignalChannel, json.RawMessage(`{"tag":"old","criticality":"HIGH"}`))
		r.CancelWorkflow()
		r.SignalWorkflow(preemption.SignalChannel, json.RawMessage(`{"tag":"new","criticality":"HIGH"}`))
	})
	next := r.next(Input{})
	if len(next.Pending) != 1 || !strings.Contains(string(next.Pending[0].JSON), "new") {
		t.Errorf("%+v", next.Pending)
	}
}

func TestALongHistoryContinuesAsNewWithAllThatIsRemembered(t *testing.T) {
	r := newIntakeRun(t)
	r.alarm(0, "h1", alarm.Red, "repeat")
	r.after(minute, func() { r.SetContinueAsNewSuggested(true) })
	r.alarm(2*minute, "h2", alarm.Yellow, "")
	next := r.next(Input{})
	if len(next.State.Active) != 1 || len(next.State.Levels.Active()) == 0 || next.State.Started.IsZero() {
		t.Fatalf("%+v", next)
	}
	later := newIntakeRun(t)
	later.server.ids = r.server.ids
	later.keys = r.keys
	later.done(0, func(res *preemptapi.RoundResult) { res.State = preemptapi.RoundWithdrawn })
	later.alarm(minute, "h1", alarm.Green, "")
	later.alarm(minute, "h2", alarm.Green, "")
	if res := later.run(next); len(res.Levels) != 0 || res.Requests < 3 {
		t.Errorf("%+v", res)
	}
}

func TestAScheduledRunCompletesAsSoonAsItsRoundHasEnded(t *testing.T) {
	r := newIntakeRun(t)
	began := r.Now()
	r.done(minute, nil)
	in := Input{Once: true, Pending: []Message{{JSON: json.RawMessage(`{"tag":"spot","criticality":"HIGH","origin":"schedule"}`)}}}
	if res := r.run(in); res.Round == nil || r.Now().Sub(began) > 90*time.Second {
		t.Errorf("after %s: %+v", r.Now().Sub(began), res)
	}
}

func TestAnIntakeUnderAnIDOfAnotherKindTakesNothing(t *testing.T) {
	r := newIntakeRun(t)
	r.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: workflowid.Handover + "cpu", TaskQueue: "default-test-taskqueue"})
	in := Input{Pending: []Message{{JSON: json.RawMessage(`{"tag":"spot","criticality":"HIGH"}`)}}}
	if res := r.run(in); len(r.server.rounds) != 0 || len(res.Rejections) != 1 || !strings.Contains(res.Rejections[0].Reason, "reserved") {
		t.Errorf("%+v", res)
	}
}

func TestAnIntakeCompletesBeforeItsClientsExecutionTimeoutAndASuccessorGoesOn(t *testing.T) {
	r := newIntakeRun(t)
	r.SetStartWorkflowOptions(client.StartWorkflowOptions{
		ID: intakeID, TaskQueue: "default-test-taskqueue", WorkflowExecutionTimeout: time.Hour,
	})
	r.alarm(0, "h1", alarm.Red, "repeat")
	began := r.Now()
	res := r.run(Input{})
	if took := r.Now().Sub(began); took >= time.Hour || len(res.Left) == 0 {
		t.Errorf("after %s: %+v", took, res.Left)
	}
	k := slices.IndexFunc(r.server.signals, func(s sent) bool { return s.kind == preemptapi.HandoverType })
	if k < 0 {
		t.Fatalf("%+v", r.server.signals)
	}
	if h := r.server.signals[k].arg.(Handover); h.IntakeID != intakeID || len(h.Input.State.Active) != 1 {
		t.Errorf("%+v", h)
	}
}

func TestTheLedgerIsToldAgainWhereTheAlarmIsActive(t *testing.T) {
	r := newIntakeRun(t)
	r.books.standErr = final("no ledger")
	r.alarm(0, "h1", alarm.Red, "")
	r.after(5*minute, func() { r.books.mend() })
	r.done(minute, nil)
	r.alarm(2*minute, "h1", alarm.Green, "")
	r.run(Input{})
	if last := r.books.stood[len(r.books.stood)-1]; len(r.books.stood) < 3 || len(last.Scopes) != 0 {
		t.Errorf("%+v", r.books.stood)
	}
}

func TestALargeBacklogIsTakenInSeveralTasks(t *testing.T) {
	in := Input{}
	for i := range 250 {
		in.Pending = append(in.Pending, Message{JSON: fmt.Appendf(nil, `{"tag":"other-%d","criticality":"LOW","event":{"specversion":"1.0","id":"%d","source":"x","type":"t","data":{"pad":%q}}}`, i, i, strings.Repeat("x", 10<<10))})
	}
	r := newIntakeRun(t)
	r.books.admit = func(int, ledger.AdmitRequest) (ledger.Admission, error) {
		return ledger.Admission{Verdict: ledger.Cooldown, Rank: 3, Until: r.Now().Add(minute)}, nil
	}
	if res := r.run(in); res.Requests != 250 {
		t.Errorf("%d of 250 requests were taken", res.Requests)
	}
}

func TestARequestOfAnotherVCenterIsForwardedToItsTaskQueue(t *testing.T) {
	r := newIntakeRun(t)
	r.vc.Name, r.vc.Known, r.vc.Elsewhere = "another", false, "its event is of vCenter 10.161.164.224"
	r.server.queues = map[string]bool{"site-b": true, "site-c": false, "default-test-taskqueue": false}
	r.after(0, func() { r.SignalWorkflow(preemption.SignalChannel, documented(t)) })
	res := r.run(Input{})
	if res.LastDecision == nil || res.LastDecision.Verdict != preemptapi.HandedOn || len(r.server.rounds) != 0 {
		t.Fatalf("%+v", res)
	}
	one := r.server.signals[0]
	if one.id != intakeID+"@site-b" || one.kind != preemption.WorkflowName || string(one.arg.(map[string]json.RawMessage)["taskQueue"]) != `"site-b"` {
		t.Errorf("%+v", one)
	}
}

func TestARequestOfAVCenterThatNobodyServesIsRejected(t *testing.T) {
	r := newIntakeRun(t)
	r.vc.Name, r.vc.Known, r.vc.Elsewhere = "another", false, "its event is of vCenter 10.161.164.224"
	r.after(0, func() { r.SignalWorkflow(preemption.SignalChannel, documented(t)) })
	if res := r.run(Input{}); len(res.Rejections) != 1 || len(r.server.rounds) != 0 {
		t.Errorf("%+v", res)
	}
}
