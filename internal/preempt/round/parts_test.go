package round

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/api/serviceerror"

	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/vcentertest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// sideBySide divides the order into parts of n VMs, as the round hands them out, and carries them out together. With
// budgets none sends before all have read how things stand.
func (b *bench) sideBySide(in ActInput, n int) (all ActResult) {
	var parts []ActInput
	for part := range slices.Chunk(in.Targets, n) {
		one := in
		one.Targets = part
		for _, before := range parts {
			for _, t := range before.Targets {
				one.UnderWay = append(one.UnderWay, t.Ref.String())
			}
		}
		parts = append(parts, one)
	}
	var read, done sync.WaitGroup
	if in.Detail {
		read.Add(len(parts))
		var reads atomic.Int64
		b.vc.Fail = func(call string, _ vsphere.Ref) error {
			if call == "RecheckDetail" && reads.Add(1) <= int64(len(parts)) {
				read.Done()
				read.Wait()
			}
			return nil
		}
	}
	var mu sync.Mutex
	for _, part := range parts {
		done.Go(func() {
			res := b.evict(part)
			mu.Lock()
			defer mu.Unlock()
			all.append(res)
		})
	}
	done.Wait()
	return all
}

// off counts the VMs of the first n that are off.
func (b *bench) off(n int) (off int) {
	for i := 1; i <= n; i++ {
		if b.vc.Get(i).PowerState != vsphere.PoweredOn {
			off++
		}
	}
	return off
}

func TestPartsSideBySideLeaveTheMinimumOfAGroupOn(t *testing.T) {
	for _, act := range []action.Action{action.PowerOff, action.ShutdownGuest} {
		b := newBench(t, 6)
		for i := 1; i <= 6; i++ {
			b.vc.Set(i, func(vm *vcentertest.VM) { vm.Tags = map[string][]string{policy.CategoryGroup: {"db"}} })
		}
		in := b.order(act)
		in.Detail, in.Targets = true, in.Targets[:4]
		in.Policy.Budgets = []policy.Budget{{Group: "*", MinAvailable: policy.Amount{N: 2}}}
		b.vc.TurnOff(6, vcentertest.Owner) // since the plan
		res := b.sideBySide(in, 2)
		if went := len(res.Pending); act == action.ShutdownGuest && went != 3 || act == action.PowerOff && b.off(5) != 3 {
			t.Errorf("%s: %d of 5 went, %d were asked: 2 must stay on", act, b.off(5), went)
		}
		if len(res.Outcomes)+len(res.Pending) != 4 {
			t.Errorf("%s: %+v", act, res)
		}
	}
}

func TestPartsSideBySideKeepTheBudgetOfTheirScope(t *testing.T) {
	b := newBench(t, 6)
	b.books.facts = func(r ledger.FactsRequest) (f ledger.Facts, err error) {
		f.Now = time.Now()
		for _, vm := range append(r.UnderWay, "VirtualMachine:vm-9") { // another went since the plan
			f.Evictions = append(f.Evictions, ledger.Eviction{VM: vm, Time: f.Now})
		}
		return f, nil
	}
	in := b.order(action.PowerOff)
	in.Detail = true
	in.Policy.Budgets = []policy.Budget{{Scope: true, Max: policy.Amount{N: 6}}}
	b.sideBySide(in, 3)
	if n := b.off(6); n != 5 {
		t.Errorf("%d went, want the 5 that the budget has left", n)
	}
}

// most counts how many calls are under way at once.
type most struct {
	mu        sync.Mutex
	now, high int
}

func (m *most) add(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now += n
	m.high = max(m.high, m.now)
}

func TestPartsOfARoundSendInTurnOnOneWorker(t *testing.T) {
	b := newBench(t, 6)
	var sending, other most
	b.vc.Fail = func(call string, vm vsphere.Ref) error {
		if call != "PowerOff" {
			return nil
		}
		count := &sending
		if vm == vcentertest.Ref(6) {
			count = &other
		}
		count.add(1)
		time.Sleep(30 * time.Millisecond)
		count.add(-1)
		return nil
	}
	in := b.order(action.PowerOff)
	of6 := in
	of6.RoundID, of6.Targets, in.Targets = "round-2", in.Targets[5:], in.Targets[:5]
	var wg sync.WaitGroup
	wg.Go(func() { b.sideBySide(in, 1) })
	wg.Go(func() { b.evict(of6) })
	wg.Wait()
	if sending.high != sendSideBySide || b.off(6) != 6 {
		t.Errorf("%d parts of one round sent at once, want %d; %d VMs are off", sending.high, sendSideBySide, b.off(6))
	}
	if len(b.acts.turns.of) != 0 {
		t.Errorf("rounds that are over are remembered: %v", b.acts.turns.of)
	}
}

func TestAPartWhoseTasksTakeLongLetsOthersSend(t *testing.T) {
	b := newBench(t, 5)
	in := b.order(action.PowerOff)
	in.Policy.PowerOffTimeout = clock.Duration(3 * time.Second)
	for i := 1; i <= sendSideBySide; i++ {
		b.vc.Set(i, func(vm *vcentertest.VM) { vm.Hangs = true })
	}
	began := time.Now()
	var last atomic.Int64
	b.vc.After = func(call string, vm vsphere.Ref) {
		if call == "PowerOff" {
			last.Store(int64(time.Since(began)))
		}
	}
	res := b.sideBySide(in, 1)
	if slowest := time.Duration(last.Load()); slowest > 1500*time.Millisecond || len(res.Outcomes) != 5 {
		t.Errorf("the last was sent after %s: %s", slowest, fmt.Sprint(res.Outcomes))
	}
}

func TestANoticeKeepsThePoolsOfThePercentages(t *testing.T) {
	r := newRoundRun(t, 4, "MEDIUM")
	r.in.Demand.Policy.Criticality.Medium.Notice = clock.Duration(time.Minute)
	r.in.Demand.Policy.Budgets = []policy.Budget{{Scope: true, Max: policy.Amount{N: 50, Percent: true}}}
	r.onPlan = func(_ PlanInput, p *PlanResult) error {
		p.Pools = []int{8}
		return nil
	}
	r.onAwait = shutDown
	r.run()
	if len(r.evictions) == 0 || !slices.Equal(r.evictions[0].Pools, []int{8}) {
		t.Errorf("%+v", r.evictions)
	}
}

func TestAWorkerThatWasTakenForDeadSendsNoMore(t *testing.T) {
	b := newBench(t, 30)
	in := b.order(action.PowerOff)
	var sent atomic.Int64
	b.vc.After = func(call string, _ vsphere.Ref) {
		if call == "PowerOff" && sent.Add(1) == 5 {
			b.end(serviceerror.NewNotFound("another worker has it"))
		}
	}
	_, err := do[ActResult](b, b.acts.EvictVMs, in)
	if n := b.off(30); err == nil || n < 5 || n > 5+sendAtOnce {
		t.Errorf("%d VMs went off: %v", n, err)
	}
	for i := 1; i <= 30; i++ {
		if off := b.vc.Get(i).PowerState != vsphere.PoweredOn; off && b.record(i).RoundID != "round-1" {
			t.Errorf("VM %d is off and not annotated", i)
		}
	}
}
