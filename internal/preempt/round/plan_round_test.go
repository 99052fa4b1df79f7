package round

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// demand is an alarm's, for the cluster.
func demand() preemptapi.Demand {
	p := policy.Default()
	p.MaxVMs = 2
	return preemptapi.Demand{
		RequestID: "request-1", Tag: "spot", Criticality: preemption.CriticalityHigh, Scope: vcentertest.Cluster, Policy: p, PolicyName: "default",
		Change: &preemptapi.Change{
			Alarm: "cpu", Entity: vcentertest.Host.String(), Scope: vcentertest.Cluster.String(), To: alarm.Red, Time: time.Now().Add(-10 * time.Minute),
		},
	}
}

func (b *bench) plan(in PlanInput) PlanResult {
	b.t.Helper()
	return must[PlanResult](b, b.acts.PlanRound, in)
}

func TestAPlanNamesItsTargetsReservesThemAndChangesNothing(t *testing.T) {
	b := newBench(t, 3)
	b.vc.Set(3, func(vm *vcentertest.VM) { vm.PowerState = vsphere.PoweredOff })
	plan := b.plan(PlanInput{Demand: demand(), RoundID: "round-1", Reserve: true})
	if len(plan.Targets) != 2 || plan.Targets[0].Why == "" || len(plan.Spared) != 1 || plan.Spared[0].Reason != policy.NotPoweredOn || plan.Basis == nil {
		t.Errorf("%+v", plan)
	}
	if len(b.books.reserved) != 1 || len(b.books.reserved[0].VMs) != 2 || b.books.reserved[0].Owner != "round-1" {
		t.Errorf("reserved %+v", b.books.reserved)
	}
	b.vc.WantCalls(t)
}

func TestADryRunReservesNothing(t *testing.T) {
	b := newBench(t, 1)
	d := demand()
	d.DryRun, d.Scope = true, vcentertest.Host
	if plan := b.plan(PlanInput{Demand: d, RoundID: "plan-1"}); len(plan.Targets) != 1 || len(b.books.reserved) != 0 {
		t.Errorf("%+v, reserved %+v", plan, b.books.reserved)
	}
}

func TestARequestWhoseAlarmIsOverSilencedOrOfAnotherVCenterHasNoPlan(t *testing.T) {
	green := vcenter.CurrentAlarm{Known: true, State: vcenter.AlarmState{Name: "cpu", Colour: alarm.Green, Time: time.Now()}}
	silenced := vcenter.CurrentAlarm{Known: true, State: vcenter.AlarmState{Name: "cpu", Colour: alarm.Red, Silenced: "acknowledged by owner"}}
	for what, c := range map[string]struct {
		set  func(*bench, *preemptapi.Demand)
		want func(PlanResult) bool
	}{
		"it is green since": {
			func(b *bench, _ *preemptapi.Demand) { b.vc.Alarm = green },
			func(p PlanResult) bool { return strings.Contains(p.Over, "green since") },
		},
		"its entity is gone": {
			func(b *bench, _ *preemptapi.Demand) { b.vc.Alarm = vcenter.CurrentAlarm{Gone: true} },
			func(p PlanResult) bool { return strings.Contains(p.Over, vcentertest.Host.String()) },
		},
		"a person has acknowledged it": {
			func(b *bench, _ *preemptapi.Demand) { b.vc.Alarm = silenced },
			func(p PlanResult) bool { return p.Silenced == "acknowledged by owner" && p.Over == "" },
		},
		"its event is of another vCenter": {
			func(b *bench, d *preemptapi.Demand) { b.vc.Elsewhere, d.Unverified = "no such event", true },
			func(p PlanResult) bool { return p.Foreign && p.Over == "no such event" },
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, 1)
			d := demand()
			c.set(b, &d)
			if plan := b.plan(PlanInput{Demand: d, RoundID: "round-1", Reserve: true}); !c.want(plan) || len(plan.Targets) != 0 || len(b.books.reserved) != 0 {
				t.Errorf("%+v, reserved %+v", plan, b.books.reserved)
			}
		})
	}
}

func TestARequestIsActedUponWhereItsAlarmCountsAllTheSame(t *testing.T) {
	silenced := vcenter.CurrentAlarm{Known: true, State: vcenter.AlarmState{Name: "cpu", Colour: alarm.Red, Silenced: "acknowledged by owner"}}
	for what, set := range map[string]func(*bench, *preemptapi.Demand){
		"the request says to act on silenced alarms": func(b *bench, d *preemptapi.Demand) { b.vc.Alarm, d.Silenced = silenced, preemption.WhenSilencedAct },
		"the change is younger than vCenter's state": func(b *bench, d *preemptapi.Demand) {
			b.vc.Alarm = vcenter.CurrentAlarm{Known: true, State: vcenter.AlarmState{Colour: alarm.Green, Time: time.Now().Add(-time.Hour)}}
			d.Change.Time = time.Now().Add(-time.Second)
		},
		"vCenter does not know the alarm": func(b *bench, _ *preemptapi.Demand) { b.vc.Alarm = vcenter.CurrentAlarm{} },
		"its state may not be read": func(b *bench, _ *preemptapi.Demand) {
			b.vc.Fail = vcentertest.Failing("CurrentAlarm", vcenter.NoPermission, 9)
		},
		"a person asks": func(b *bench, d *preemptapi.Demand) { b.vc.Alarm, d.Person = silenced, true },
		"the alarm is up on another host": func(b *bench, d *preemptapi.Demand) {
			b.vc.Alarm = vcenter.CurrentAlarm{Known: true, State: vcenter.AlarmState{Name: "cpu", Colour: alarm.Green, Time: time.Now()}}
			b.vc.Up = []vcenter.AlarmState{{Name: "cpu", Entity: vsphere.Ref{Type: vsphere.TypeHost, Value: "host-2"}, Colour: alarm.Red}}
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, 1)
			d := demand()
			set(b, &d)
			if plan := b.plan(PlanInput{Demand: d, RoundID: "round-1"}); len(plan.Targets) != 1 || plan.Over != "" || plan.Silenced != "" {
				t.Errorf("%+v", plan)
			}
		})
	}
}

func TestOneNamedVMIsTheOnlyTargetIfItIsTagged(t *testing.T) {
	b := newBench(t, 3)
	d := demand()
	d.Person, d.VM = true, "batch-2"
	if plan := b.plan(PlanInput{Demand: d, RoundID: "round-1", Reserve: true}); len(plan.Targets) != 1 || plan.Targets[0].Ref != vcentertest.Ref(2) {
		t.Errorf("%+v", plan)
	}
	d.VM = "payroll"
	if _, err := do[PlanResult](b, b.acts.PlanRound, PlanInput{Demand: d, RoundID: "round-1"}); vcentertest.TypeOf(err) != string(vcenter.NotFound) {
		t.Errorf("unexpected %v", err)
	}
}

func TestVMsThatOthersReservedAreNotChosen(t *testing.T) {
	b := newBench(t, 3)
	b.books.grant = func(r ledger.ReserveRequest) (ledger.Reservation, error) {
		if slices.Contains(r.VMs, vcentertest.Ref(1).String()) {
			return ledger.Reservation{Conflicts: []string{vcentertest.Ref(1).String()}, Stale: true}, nil
		}
		return ledger.Reservation{Granted: true}, nil
	}
	d := demand()
	d.Policy.MaxVMs = 5
	plan := b.plan(PlanInput{Demand: d, RoundID: "round-1", Reserve: true})
	if len(plan.Targets) != 2 || slices.ContainsFunc(plan.Targets, func(t policy.Target) bool { return t.Ref == vcentertest.Ref(1) }) {
		t.Errorf("%+v", plan.Targets)
	}
}

func TestAPlanWithoutTheLedgerFails(t *testing.T) {
	b := newBench(t, 1)
	b.books.facts = func(ledger.FactsRequest) (ledger.Facts, error) { return ledger.Facts{}, errors.New("no ledger") }
	if _, err := do[PlanResult](b, b.acts.PlanRound, PlanInput{Demand: demand(), RoundID: "round-1"}); err == nil || !strings.Contains(err.Error(), "no ledger") {
		t.Errorf("unexpected %v", err)
	}
	b = newBench(t, 1)
	b.books.grant = func(ledger.ReserveRequest) (ledger.Reservation, error) { return ledger.Reservation{Stale: true}, nil }
	if _, err := do[PlanResult](b, b.acts.PlanRound, PlanInput{Demand: demand(), RoundID: "round-1", Reserve: true}); vcentertest.TypeOf(err) != "ReservationFailed" {
		t.Errorf("unexpected %v", err)
	}
}

func TestWhatTheRoundActedOnIsNotChosenAgainAndWhatOthersDoCounts(t *testing.T) {
	b := newBench(t, 3)
	var asked ledger.FactsRequest
	b.books.facts = func(r ledger.FactsRequest) (ledger.Facts, error) {
		asked = r
		return ledger.Facts{
			Now: time.Now(), Version: 7, Reserved: []string{vcentertest.Ref(3).String()},
			Evictions: []ledger.Eviction{{VM: vcentertest.Ref(1).String(), Time: time.Now()}},
			Credits:   []ledger.Credit{{VM: vcentertest.Ref(1).String(), Load: ledger.Load{Host: vcentertest.Host.String(), CPUMHz: 1000}}},
		}, nil
	}
	d := demand()
	d.Policy.Target = policy.Goal{CPU: 80}
	plan := b.plan(PlanInput{
		Demand: d, RoundID: "round-1", Reserve: true, Repeat: true, Held: []vsphere.Ref{vcentertest.Ref(1)}, Already: 1,
		Going: []policy.Target{{Ref: vcentertest.Ref(1), Host: vcentertest.Host}},
	})
	if len(plan.Targets) != 1 || plan.Targets[0].Ref != vcentertest.Ref(2) {
		t.Errorf("%+v", plan)
	}
	if len(asked.UnderWay) != 1 || b.books.reserved[0].Seen != 7 {
		t.Errorf("asked %+v, reserved %+v", asked, b.books.reserved)
	}
}

func TestACancelledPlanIsCancelledAndAStoppingWorkerHandsItOver(t *testing.T) {
	for what, end := range map[string]func(*bench){"CanceledError": (*bench).withdraw, "HandOver": (*bench).stopWorker} {
		b := newBench(t, 1)
		b.vc.Fail = func(call string, _ vsphere.Ref) error {
			if call == "Candidates" {
				end(b)
				return vcentertest.Fault(vcenter.Unavailable)
			}
			return nil
		}
		_, err := do[PlanResult](b, b.acts.PlanRound, PlanInput{Demand: demand(), RoundID: "round-1"})
		if err == nil || (what == "HandOver") != (vcentertest.TypeOf(err) == "HandOver") {
			t.Errorf("%s: unexpected %v", what, err)
		}
	}
}

func TestTheLedgerIsToldOfEvictionsAndOfTheEnd(t *testing.T) {
	b := newBench(t, 0)
	err := errors.Join(
		b.acts.RecordEvictions(t.Context(), ledger.EvictedRequest{Owner: "round-1"}),
		b.acts.CompleteRound(t.Context(), ledger.CompleteRequest{Owner: "round-1"}),
	)
	if err != nil || len(b.books.evicted) != 1 || len(b.books.completed) != 1 {
		t.Errorf("%+v", b.books)
	}
}
