package makeroom

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

var (
	cluster = vsphere.Ref{Type: vsphere.TypeCluster, Value: "domain-c7"}
	host    = vsphere.Ref{Type: vsphere.TypeHost, Value: "host-1"}
	asker   = vsphere.Ref{Type: vsphere.TypeVM, Value: "vm-9"}
	goer    = vsphere.Ref{Type: vsphere.TypeVM, Value: "vm-1"}
)

// roomRun is the workflow with made-up activities, a made-up round, and a clock that leaps.
type roomRun struct {
	*testsuite.TestWorkflowEnvironment
	t        *testing.T
	mu       sync.Mutex
	rounds   []round.Input
	admitted []ledger.AdmitRequest
	holds    []ledger.ActiveRequest
	restores []preemptapi.RestoreInput
	powered  int

	ask      func(requestID string, a *Ask)
	admit    func(n int) ledger.Admission
	power    PowerOnResult
	powering func(context.Context, PowerOnInput) (PowerOnResult, error)
	running  bool
	unread   error
}

func newRoomRun(t *testing.T) *roomRun {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(vcentertest.Quiet)
	r := &roomRun{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), t: t, power: PowerOnResult{On: true}}
	r.SetTestTimeout(10 * time.Second)
	register := func(name string, f any) { r.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name}) }
	register("ReadRoomAsks", r.read)
	register("AdmitRoom", func(_ context.Context, in ledger.AdmitRequest) (ledger.Admission, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.admitted = append(r.admitted, in)
		if r.admit != nil {
			return r.admit(len(r.admitted)), nil
		}
		return ledger.Admission{Verdict: ledger.Granted, Owner: in.Owner}, nil
	})
	register("HoldRoom", func(_ context.Context, in ledger.ActiveRequest) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.holds = append(r.holds, in)
		return nil
	})
	register("PowerOnAsker", func(ctx context.Context, in PowerOnInput) (PowerOnResult, error) {
		r.mu.Lock()
		r.powered++
		r.mu.Unlock()
		if r.powering != nil {
			return r.powering(ctx, in)
		}
		return r.power, nil
	})
	register("WhoRuns", func(_ context.Context, in WhoRunsInput) ([]vsphere.Ref, error) {
		if r.running {
			return in.VMs, nil
		}
		return nil, nil
	})
	register("BringBackForRoom", func(_ context.Context, in preemptapi.RestoreInput) (string, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.restores = append(r.restores, in)
		return "restore@domain-c7", nil
	})
	r.RegisterWorkflowWithOptions(r.round, workflow.RegisterOptions{Name: preemptapi.RoundType})
	r.RegisterWorkflowWithOptions(MakeRoom, workflow.RegisterOptions{Name: preemption.MakeRoomWorkflowName})
	return r
}

// read answers with an ask for vm-9, as r.ask changes it.
func (r *roomRun) read(_ context.Context, requests []json.RawMessage) (out Asks, err error) {
	out.Timing, out.PerHour = preempt.DefaultTiming(), 20
	for _, raw := range requests {
		var req preemption.RoomRequest
		if err := json.Unmarshal(raw, &req); err != nil {
			return out, err
		}
		if r.unread != nil {
			return out, r.unread
		}
		p := policy.Default()
		p.Restore.Enabled = true
		a := Ask{
			Demand: preemptapi.Demand{RequestID: "id|" + req.ID, Tag: "preemptible", Criticality: preemption.CriticalityHigh, Scope: cluster, Policy: p},
			Room:   preemptapi.RoomAsk{Room: req.Room, Name: "db-1"}, VM: asker, PowerOn: req.PowerOn, Rule: req.Rule,
			Hold: clock.Duration(time.Hour), Wait: clock.Duration(time.Minute),
		}
		if r.ask != nil {
			r.ask(req.ID, &a)
		}
		out.Asks = append(out.Asks, a)
	}
	return out, nil
}

// round turns off one VM for each room that it is asked for.
func (r *roomRun) round(ctx workflow.Context, in round.Input) (preemptapi.RoundResult, error) {
	r.mu.Lock()
	r.rounds = append(r.rounds, in)
	r.mu.Unlock()
	out := preemptapi.RoundResult{RoundID: workflow.GetInfo(ctx).WorkflowExecution.ID, State: preemptapi.RoundCompleted, ScopeName: "cluster-a"}
	for range in.Demand.Rooms {
		out.Rooms = append(out.Rooms, policy.RoomPlan{Enough: true, Host: host, HostName: "esx-1", Targets: []vsphere.Ref{goer}, Room: policy.HeldRoom{Host: host, MemoryMB: 100}})
	}
	out.Targets = []preemptapi.VMOutcome{{Ref: goer, Name: "batch-1", Outcome: "powered_off", Host: host}}
	return out, nil
}

// asks sends requests of these ids after a time.
func (r *roomRun) asks(after time.Duration, change func(*preemption.RoomRequest), ids ...string) {
	r.RegisterDelayedCallback(func() {
		for _, id := range ids {
			req := preemption.RoomRequest{ID: id, Room: preemption.Room{For: "db-1"}, PowerOn: true}
			change(&req)
			r.SignalWorkflow(preemption.RoomSignal, req)
		}
	}, after)
}

func byPerson(req *preemption.RoomRequest) { req.Origin = preemption.OriginPerson }
func byRule(req *preemption.RoomRequest)   { req.Rule = "critical" }
func toHold(req *preemption.RoomRequest)   { byPerson(req); req.PowerOn = false }

func (r *roomRun) run() (out preemptapi.RoomResult) {
	r.t.Helper()
	r.ExecuteWorkflow(preemption.MakeRoomWorkflowName, Input{})
	if err := r.GetWorkflowError(); err != nil {
		r.t.Fatal(err)
	}
	if err := r.GetWorkflowResult(&out); err != nil {
		r.t.Fatal(err)
	}
	return out
}

// want checks the states of the rooms in order, and that nothing stays held.
func (r *roomRun) want(out preemptapi.RoomResult, states ...preemptapi.RoomState) {
	r.t.Helper()
	var got []preemptapi.RoomState
	for _, o := range out.Rooms {
		got = append(got, o.State)
	}
	if fmt.Sprint(got) != fmt.Sprint(states) {
		r.t.Fatalf("rooms are %v, want %v: %+v", got, states, out)
	}
	if n := len(r.holds); n > 0 && len(r.holds[n-1].Scopes) > 0 {
		r.t.Errorf("the cluster stays held: %+v", r.holds[n-1])
	}
}

func TestARuleThatAsksAgainForAVMThatVCenterRefusedIsQuiet(t *testing.T) {
	r := newRoomRun(t)
	r.power = PowerOnResult{Refused: "its disk is locked"}
	r.asks(0, byRule, "1")
	r.asks(20*time.Second, byRule, "2") // the event of our own power-on
	r.asks(time.Minute, byPerson, "3")
	r.asks(10*time.Minute, byRule, "4")
	out := r.run()
	r.want(out, preemptapi.RoomFailed, preemptapi.RoomFailed)
	if len(r.restores) != 2 || len(r.restores[0].VMs) != 1 || r.restores[0].VMs[0] != goer.String() || !r.restores[0].Person {
		t.Errorf("those who went do not come back at once: %+v", r.restores)
	}
}

func TestRefusalsForLackOfResourcesFreeMoreUntilTheLimit(t *testing.T) {
	r := newRoomRun(t)
	r.power = PowerOnResult{Refused: "not enough memory", NoRoom: true}
	r.asks(0, byPerson, "1")
	out := r.run()
	r.want(out, preemptapi.RoomFailed)
	var further []int
	for _, in := range r.rounds {
		further = append(further, in.Demand.Rooms[0].Further)
	}
	if fmt.Sprint(further) != "[0 1 2 4 8]" || len(out.Rooms[0].Refusals) != 4 || r.rounds[4].Demand.Rooms[0].On != host {
		t.Errorf("further VMs %v, refusals %v", further, out.Rooms[0].Refusals)
	}
	if first, last := r.rounds[0].Demand.Policy.MaxVMs, r.rounds[4].Demand.Policy.MaxVMs; first-last != 4 {
		t.Errorf("those who went do not count towards maxVMs: %d, then %d", first, last)
	}
}

func TestItWaitsForAnotherRoundAndGivesUpInTheEnd(t *testing.T) {
	for busy, want := range map[int]preemptapi.RoomState{3: preemptapi.RoomRunning, 1000: preemptapi.RoomRefused} {
		r := newRoomRun(t)
		r.admit = func(n int) ledger.Admission {
			if n <= busy {
				return ledger.Admission{Verdict: ledger.Busy, Owner: "round-of-an-alarm"}
			}
			return ledger.Admission{Verdict: ledger.Granted}
		}
		r.asks(0, byPerson, "1")
		out := r.run()
		r.want(out, want)
		if want == preemptapi.RoomRefused && (!strings.Contains(out.Rooms[0].Reason, "round-of-an-alarm") || len(r.admitted) > 20 || len(r.rounds) > 0) {
			t.Errorf("%d questions: %+v", len(r.admitted), out.Rooms[0])
		}
	}
}

func TestNoMoreRoomsAreMadeInAnHourThanTheFileAllows(t *testing.T) {
	r := newRoomRun(t)
	r.admit = func(int) ledger.Admission { return ledger.Admission{Verdict: ledger.TooMany} }
	r.asks(0, byPerson, "1")
	out := r.run()
	r.want(out, preemptapi.RoomRefused)
	if r.admitted[0].Rooms != 1 || r.admitted[0].RoomsPerHour != 20 || !r.admitted[0].NoCooldown || !strings.Contains(out.Rooms[0].Reason, "makeRoom.perHour") {
		t.Errorf("%+v: %+v", r.admitted, out.Rooms[0])
	}
}

func TestAllWhoWentInVainComeBackByOneRestore(t *testing.T) {
	r := newRoomRun(t)
	r.power = PowerOnResult{Refused: "its disk is locked"}
	r.ask = func(id string, a *Ask) {
		if id == "2" {
			a.VM = vsphere.Ref{Type: vsphere.TypeVM, Value: "vm-8"}
		}
	}
	r.asks(0, byPerson, "1", "2")
	out := r.run()
	r.want(out, preemptapi.RoomFailed, preemptapi.RoomFailed)
	if len(r.restores) != 1 || len(r.restores[0].VMs) != 2 || out.Rooms[0].RestoreID == "" || out.Rooms[1].RestoreID == "" {
		t.Errorf("restores %+v", r.restores)
	}
}

func TestOfMoreThanMayBeMadeInAnHourTheMostImportantGetTheirs(t *testing.T) {
	r := newRoomRun(t)
	r.admit = func(n int) ledger.Admission {
		if n == 1 {
			return ledger.Admission{Verdict: ledger.TooMany, Rooms: 1}
		}
		return ledger.Admission{Verdict: ledger.Granted}
	}
	r.ask = func(id string, a *Ask) {
		if id == "important" {
			a.VM, a.Priority = vsphere.Ref{Type: vsphere.TypeVM, Value: "vm-8"}, 7
		}
	}
	r.asks(0, byRule, "1", "important")
	r.want(r.run(), preemptapi.RoomRefused, preemptapi.RoomRunning)
	if len(r.rounds) != 1 || len(r.rounds[0].Demand.Rooms) != 1 || r.admitted[1].Rooms != 1 {
		t.Errorf("%+v", r.admitted)
	}
}

func TestRoomIsHeldUntilTheVMRunsOrTheTimeIsOver(t *testing.T) {
	for runs, want := range map[bool]preemptapi.RoomState{true: preemptapi.RoomRunning, false: preemptapi.RoomMade} {
		r := newRoomRun(t)
		r.asks(0, toHold, "1")
		r.RegisterDelayedCallback(func() { r.running = runs }, 10*time.Minute)
		began := r.Now()
		out := r.run()
		r.want(out, want)
		took := r.Now().Sub(began)
		if runs && took > 12*time.Minute || !runs && (took < time.Hour || took > 61*time.Minute) || r.powered != 0 {
			t.Errorf("runs: %v, it ended after %s", runs, took)
		}
		var kept bool
		for _, h := range r.holds {
			kept = kept || len(h.Rooms) == 1 && h.Rooms[0].RequestID == "id|1" && h.Rooms[0].Host == host.String() && h.For == "db-1"
		}
		if !kept || len(r.restores) != 1 || r.restores[0].Person || r.restores[0].Scope != cluster {
			t.Errorf("held %+v, restored %+v", r.holds, r.restores)
		}
	}
}

func TestRoomOnSeveralHostsIsHeldTogetherAndCountsAsSoMany(t *testing.T) {
	r := newRoomRun(t)
	r.ask = func(_ string, a *Ask) {
		a.VM, a.Room.For, a.Room.Name, a.Room.CPUs, a.Room.Hosts = vsphere.Ref{}, "", "", 4, 3
	}
	r.asks(0, toHold, "1")
	out := r.run()
	r.want(out, preemptapi.RoomMade)
	most := 0
	for _, h := range r.holds {
		most = max(most, len(h.Rooms))
	}
	if len(r.rounds) != 1 || len(r.rounds[0].Demand.Rooms) != 3 || r.rounds[0].Demand.Rooms[2].Part != 3 || r.admitted[0].Rooms != 3 || most != 3 ||
		len(out.Rooms[0].Hosts) != 3 || out.Rooms[0].For != "4 CPUs on each of 3 hosts" || len(r.restores) != 1 {
		t.Errorf("%d rounds of %+v, %d rooms held: %+v", len(r.rounds), r.rounds[0].Demand.Rooms, most, out.Rooms[0])
	}
}

// TestVMsOfOnePlanArePoweredOnSideBySide lets the most important VM's power-on end only when that of the last is under way.
func TestVMsOfOnePlanArePoweredOnSideBySide(t *testing.T) {
	r := newRoomRun(t)
	other := make(chan struct{})
	r.powering = func(ctx context.Context, in PowerOnInput) (PowerOnResult, error) {
		if in.VM == asker {
			close(other)
			return PowerOnResult{Refused: "its disk is locked"}, nil
		}
		select {
		case <-other:
			return PowerOnResult{On: true}, nil
		case <-ctx.Done():
			return PowerOnResult{Refused: "the other one was never begun"}, nil
		}
	}
	r.ask = func(id string, a *Ask) {
		if id == "important" {
			a.VM, a.Priority = vsphere.Ref{Type: vsphere.TypeVM, Value: "vm-8"}, 7
		}
	}
	r.asks(0, byRule, "1", "important")
	r.want(r.run(), preemptapi.RoomFailed, preemptapi.RoomRunning)
	if r.powered != 2 || len(r.rounds) != 1 {
		t.Errorf("%d power-ons after %d rounds", r.powered, len(r.rounds))
	}
}

func TestACancellationWithdrawsTheRoundAndHoldsNothing(t *testing.T) {
	r := newRoomRun(t)
	r.asks(0, toHold, "1")
	r.RegisterDelayedCallback(r.CancelWorkflow, 10*time.Minute)
	began := r.Now()
	out := r.run()
	r.want(out, preemptapi.RoomMade)
	if took := r.Now().Sub(began); took > 11*time.Minute || !out.Rooms[0].HeldUntil.IsZero() {
		t.Errorf("it ended after %s: %+v", took, out.Rooms[0])
	}
}

func TestWhatIsAskedTwiceIsDoneOnceAndWhatIsRefusedHoldsUpNobody(t *testing.T) {
	r := newRoomRun(t)
	r.ask = func(id string, a *Ask) {
		switch id {
		case "refused":
			a.Refused, a.Kind, a.VM = "no such VM", preemptapi.VMNotFound, vsphere.Ref{}
		case "other":
			a.VM, a.Priority = vsphere.Ref{Type: vsphere.TypeVM, Value: "vm-8"}, 7
		}
	}
	r.asks(0, byRule, "1", "refused", "1", "again", "other")
	out := r.run()
	r.want(out, preemptapi.RoomRunning, preemptapi.RoomRefused, preemptapi.RoomRunning)
	if len(r.rounds) != 1 || len(r.rounds[0].Demand.Rooms) != 2 || r.rounds[0].Demand.Rooms[0].RequestID != "id|other" {
		t.Errorf("the two are not planned together, the more important first: %+v", r.rounds)
	}
	if out.Rooms[1].Kind != preemptapi.VMNotFound {
		t.Errorf("%+v", out.Rooms[1])
	}
}

func TestARequestThatCannotBeLookedUpIsSaidToBeNotTaken(t *testing.T) {
	r := newRoomRun(t)
	r.unread = temporal.NewNonRetryableApplicationError("vCenter stayed away", "Unavailable", errors.New("away"))
	r.asks(0, byPerson, "1")
	out := r.run()
	if len(out.Rooms) != 0 || len(out.Rejected) != 1 || !strings.Contains(out.Rejected[0].Reason, "vCenter stayed away") {
		t.Errorf("%+v", out)
	}
}
