package intake

import (
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
)

func TestWhileTheScopeCoolsDownAnAlarmWaitsAndAPersonIsRefused(t *testing.T) {
	r := newIntakeRun(t)
	until := r.Now().Add(10 * minute)
	r.books.admit = func(_ int, a ledger.AdmitRequest) (ledger.Admission, error) {
		if r.Now().Before(until) {
			return ledger.Admission{Verdict: ledger.Cooldown, Owner: "round-0", Rank: 3, Until: until}, nil
		}
		return ledger.Admission{Verdict: ledger.Granted, Owner: a.Owner}, nil
	}
	r.alarm(0, "h1", alarm.Red, "")
	person := r.person(minute, preemption.CriticalityHigh)
	var began time.Time
	r.after(11*minute, func() {
		if n, _ := r.server.begun(); n == 1 {
			began = r.Now()
		}
	})
	r.done(12*minute, nil)
	r.alarm(13*minute, "h1", alarm.Green, "")
	r.run(Input{})
	if person.Verdict != preemptapi.Refused || !person.Until.Equal(until) || began.Before(until) || len(r.books.admitted) != 3 {
		t.Errorf("%+v; the ledger was asked %d times", person, len(r.books.admitted))
	}
}

func TestBesideAnotherAlarmsRoundItAsksAgainUntilThatIsOver(t *testing.T) {
	r := newIntakeRun(t)
	r.books.admit = func(n int, a ledger.AdmitRequest) (ledger.Admission, error) {
		if n < 4 {
			return ledger.Admission{Verdict: ledger.Busy, Owner: "round-of-another", Rank: 3}, nil
		}
		return ledger.Admission{Verdict: ledger.Granted, Owner: a.Owner}, nil
	}
	r.alarm(0, "h1", alarm.Red, "")
	r.done(minute, nil)
	r.alarm(2*minute, "h1", alarm.Green, "")
	if r.run(Input{}); len(r.books.admitted) != 4 || len(r.server.rounds) != 1 {
		t.Errorf("the ledger was asked %d times, %d rounds", len(r.books.admitted), len(r.server.rounds))
	}
}

func TestAHigherAlarmJoinsAnothersRoundAndOutlastsIt(t *testing.T) {
	r := newIntakeRun(t)
	r.books.admit = func(n int, a ledger.AdmitRequest) (ledger.Admission, error) {
		if n == 1 {
			return ledger.Admission{Verdict: ledger.Busy, Owner: "round-of-another", Rank: 1}, nil
		}
		return ledger.Admission{Verdict: ledger.Granted, Owner: a.Owner}, nil
	}
	r.alarm(0, "h1", alarm.Red, "")
	r.done(minute, nil)
	r.alarm(2*minute, "h1", alarm.Green, "")
	r.run(Input{})
	if len(r.changes) != 1 || r.changes[0].Criticality != preemption.CriticalityHigh || len(r.server.rounds) != 1 {
		t.Errorf("told %+v, %d rounds", r.changes, len(r.server.rounds))
	}
}

func TestARequestThatWasActedOnBeforeIsADuplicate(t *testing.T) {
	r := newIntakeRun(t)
	r.books.admit = func(int, ledger.AdmitRequest) (ledger.Admission, error) {
		return ledger.Admission{Verdict: ledger.Duplicate, Owner: "round-long-ago"}, nil
	}
	decided := r.person(0, preemption.CriticalityHigh)
	if r.run(Input{}); decided.Verdict != preemptapi.Duplicate || decided.RoundID != "round-long-ago" || len(r.server.rounds) != 0 {
		t.Errorf("%+v", decided)
	}
}

func TestARoundWhoseStartWasLostWithItsWorkerIsTakenUp(t *testing.T) {
	r := newIntakeRun(t)
	r.books.admit = func(_ int, a ledger.AdmitRequest) (ledger.Admission, error) {
		return ledger.Admission{Verdict: ledger.Duplicate, Owner: a.Owner}, nil
	}
	r.server.status = enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
	decided := r.person(0, preemption.CriticalityHigh)
	r.after(2*minute, func() { // it ends without a word
		r.server.end(preemptapi.RoundResult{State: preemptapi.RoundCompleted, Targets: []preemptapi.VMOutcome{{Ref: vcentertest.Ref(1), Outcome: action.PoweredOff}}})
	})
	if res := r.run(Input{}); decided.Verdict != preemptapi.Started || len(res.VirtualMachines) != 1 {
		t.Errorf("%+v: %+v", decided, res)
	}
}

func TestARoundThatCannotBeStartedIsTriedAgainForAnAlarm(t *testing.T) {
	r := newIntakeRun(t)
	var mended atomic.Bool
	r.books.admit = func(_ int, a ledger.AdmitRequest) (ledger.Admission, error) {
		if !mended.Load() {
			return ledger.Admission{}, final("no ledger")
		}
		return ledger.Admission{Verdict: ledger.Granted, Owner: a.Owner}, nil
	}
	r.alarm(0, "h1", alarm.Red, "")
	r.after(5*minute, func() { mended.Store(true) })
	r.done(10*minute, nil)
	r.alarm(11*minute, "h1", alarm.Green, "")
	if r.run(Input{}); len(r.server.rounds) != 1 {
		t.Errorf("%d rounds", len(r.server.rounds))
	}
}

func TestWhileTheAlarmIsActiveRoundsRepeatAndBackOffWhereTheyFindNobody(t *testing.T) {
	r := newIntakeRun(t)
	r.alarm(0, "h1", alarm.Red, "repeat")
	starts := map[int]time.Time{}
	for i := range 40 {
		r.after(time.Duration(i)*30*time.Second+time.Second, func() {
			if n, last := r.server.begun(); starts[n].IsZero() {
				starts[n] = r.Now()
				r.SignalWorkflow(round.DoneSignal, preemptapi.RoundResult{RoundID: last, State: preemptapi.RoundEmpty})
			}
		})
	}
	r.alarm(25*minute, "h1", alarm.Green, "")
	r.run(Input{})
	if n := len(r.server.rounds); n < 3 || r.server.rounds[1].Sequence != 2 || r.server.rounds[2].Sequence != 3 {
		t.Fatalf("%d rounds", n)
	}
	if first, second := starts[2].Sub(starts[1]), starts[3].Sub(starts[2]); second <= first {
		t.Errorf("the pauses were %s and %s", first, second)
	}
}

func TestAHeldRoundIsLookedAtAgainAndAnUnmeasuredOneLater(t *testing.T) {
	r := newIntakeRun(t)
	r.alarm(0, "h1", alarm.Red, "")
	r.done(time.Second, func(res *preemptapi.RoundResult) {
		res.State, res.Silenced, res.Unmeasured = preemptapi.RoundHeld, "acknowledged", true
	})
	var waits []preemptapi.Deferral
	r.after(minute, func() {
		v, err := r.QueryWorkflow(preemption.WorkFlowQueryType)
		var text string
		var res preemptapi.Response
		if err == nil {
			err = v.Get(&text)
		}
		if err == nil {
			err = json.Unmarshal([]byte(text), &res)
		}
		if err != nil {
			t.Error(err)
		}
		waits = res.Deferred
	})
	r.alarm(2*minute, "h1", alarm.Green, "")
	r.run(Input{})
	if len(waits) != 1 || !strings.Contains(waits[0].Reason, "acknowledged") || waits[0].Until.Sub(r.server.rounds[0].IntakeRun) < 5*minute {
		t.Errorf("%+v", waits)
	}
}

func TestARoundThatFoundTheAlarmOverEndsItForTheIntakeToo(t *testing.T) {
	r := newIntakeRun(t)
	r.alarm(0, "h1", alarm.Red, "repeat")
	r.done(minute, func(res *preemptapi.RoundResult) { res.State, res.AlarmOver = preemptapi.RoundWithdrawn, true })
	if res := r.run(Input{}); len(res.Levels) != 0 || len(r.server.rounds) != 1 {
		t.Errorf("%+v", res)
	}
}

func TestARiseBehindAWithdrawnRoundHasARoundOfItsOwn(t *testing.T) {
	r := newIntakeRun(t)
	r.alarm(0, "h1", alarm.Red, "")
	r.alarm(minute, "h1", alarm.Green, "")
	r.alarm(minute+time.Second, "h1", alarm.Red, "")
	r.done(minute+2*time.Second, func(res *preemptapi.RoundResult) { res.State = preemptapi.RoundWithdrawn })
	r.done(3*minute, nil)
	r.alarm(4*minute, "h1", alarm.Green, "")
	if r.run(Input{}); len(r.server.rounds) != 2 || r.server.ids[0] == r.server.ids[1] {
		t.Errorf("rounds %q", r.server.ids)
	}
}
