package vcenter

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// many is an inventory with n VMs, all tagged.
func many(n int) simulation.Options {
	return simulation.Options{Clusters: 1, HostsPerCluster: 1, VMsPerCluster: n, Tagged: n}
}

// reports collects what AwaitOff reports.
type reports struct {
	t  *testing.T
	mu sync.Mutex
	of map[vsphere.Ref]WaitResult
}

func newReports(t *testing.T) *reports { return &reports{t: t, of: map[vsphere.Ref]WaitResult{}} }

func (r *reports) add(ref vsphere.Ref, result WaitResult) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, twice := r.of[ref]; twice {
		r.t.Errorf("%v is reported twice", ref)
	}
	r.of[ref] = result
}

func (r *reports) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.of)
}

func powerOffAll(t *testing.T, g *Gateway, refs []vsphere.Ref) (waits []Wait) {
	t.Helper()
	for _, ref := range refs {
		task, err := g.PowerOff(t.Context(), ref)
		check(t, err)
		waits = append(waits, Wait{VM: ref, Task: task})
	}
	return waits
}

func TestWaitingForManyCostsNoMoreThanForOne(t *testing.T) {
	for _, n := range []int{1, 150} { // beyond the 100 objects that vCenter puts into one answer
		v, g := warm(t, many(n))
		refs, got := taggedRefs(v), newReports(t)
		v.SetTaskDelay(100 * time.Millisecond)
		waits := powerOffAll(t, g, refs)
		v.ResetCalls()
		check(t, g.AwaitOff(t.Context(), waits, got.add))
		for _, ref := range refs {
			if !got.of[ref].Off {
				t.Errorf("%v: %+v", ref, got.of[ref])
			}
		}
		wantCalls(t, v, 12)
		eventually(t, "the collector is given back", func() bool { return v.Calls()["DestroyPropertyFilter"] == 1 })
	}
}

func TestTheNextWaitUsesTheCollectorOfTheLast(t *testing.T) {
	v, g := warm(t, many(2))
	refs := taggedRefs(v)
	for i, ref := range refs {
		got := newReports(t)
		check(t, g.AwaitOff(t.Context(), powerOffAll(t, g, []vsphere.Ref{ref}), got.add))
		if !got.of[ref].Off {
			t.Fatalf("wait %d: %+v", i, got.of[ref])
		}
		eventually(t, "the filter is destroyed", func() bool { return v.Calls()["DestroyPropertyFilter"] == i+1 })
		time.Sleep(50 * time.Millisecond) // kept a moment after that
	}
	if n := v.Calls()["CreatePropertyCollector"]; n != 1 {
		t.Errorf("two waits made %d collectors", n)
	}
}

func TestACollectorOfAnEndedSessionIsNotUsedAgain(t *testing.T) {
	v, g := warm(t, many(2))
	refs := taggedRefs(v)
	for _, ref := range refs {
		got := newReports(t)
		check(t, g.AwaitOff(t.Context(), powerOffAll(t, g, []vsphere.Ref{ref}), got.add))
		if !got.of[ref].Off {
			t.Fatalf("%+v", got.of[ref])
		}
		time.Sleep(300 * time.Millisecond)
		check(t, v.TerminateSessions())
	}
}

func TestGuestShutdownsAreAwaited(t *testing.T) {
	v, g := warm(t, small())
	refs, got := taggedRefs(v), newReports(t)
	v.IgnoreShutdown(toMoRef(refs[1]))
	check(t, v.SetToolsRunning(toMoRef(refs[2]), false))
	check(t, g.ShutdownGuest(t.Context(), refs[0]))
	check(t, g.ShutdownGuest(t.Context(), refs[1]))
	wantKind(t, g.ShutdownGuest(t.Context(), refs[2]), ToolsUnavailable)
	ctx, giveUp := context.WithCancel(t.Context())
	err := g.AwaitOff(ctx, []Wait{{VM: refs[0]}, {VM: refs[1]}}, func(ref vsphere.Ref, r WaitResult) {
		got.add(ref, r)
		time.AfterFunc(300*time.Millisecond, giveUp)
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the VM that ignores the shutdown: %v", err)
	}
	if len(got.of) != 1 || !got.of[refs[0]].Off {
		t.Errorf("reports %v", got.of)
	}
}

func TestEachFateIsReported(t *testing.T) {
	v, g := warm(t, many(7))
	refs, got := taggedRefs(v), newReports(t)
	v.SetTaskDelay(50 * time.Millisecond)
	v.FailTask(toMoRef(refs[1]), &types.TaskInProgress{}, 1)
	v.FailTask(toMoRef(refs[2]), &types.FileFault{}, 1)
	check(t, v.PowerOffAs(toMoRef(refs[3]), "owner@vsphere.local"))
	v.SetTaskDelayFor(toMoRef(refs[4]), time.Minute)
	waits := powerOffAll(t, g, refs[:5])
	check(t, v.RemoveVM(toMoRef(refs[5])))
	waits = append(waits, Wait{VM: refs[5]}, Wait{VM: gone, Task: vsphere.Ref{Type: "Task", Value: "task-0"}}, Wait{VM: refs[6]})
	time.AfterFunc(150*time.Millisecond, func() {
		if err := v.RemoveVM(toMoRef(refs[4])); err != nil {
			t.Error(err)
		}
		if err := v.SetPowerState(toMoRef(refs[6]), suspended); err != nil {
			t.Error(err)
		}
	})
	check(t, g.AwaitOff(t.Context(), waits, got.add))
	if !got.of[refs[0]].Off || !got.of[refs[6]].Off {
		t.Errorf("powered off %+v, suspended %+v", got.of[refs[0]], got.of[refs[6]])
	}
	if !got.of[refs[3]].Off {
		t.Errorf("already off, the task fails: %+v", got.of[refs[3]])
	}
	if k := KindOf(got.of[refs[1]].Err); k != Busy {
		t.Errorf("busy VM: %v", got.of[refs[1]])
	}
	if k := KindOf(got.of[refs[2]].Err); k != TaskFailed {
		t.Errorf("failed task: %v", got.of[refs[2]])
	}
	for _, r := range []vsphere.Ref{refs[4], refs[5], gone} {
		if !got.of[r].Gone {
			t.Errorf("destroyed %v: %+v", r, got.of[r])
		}
	}
}

func TestWaitingOutlivesTroubleWithVCenter(t *testing.T) {
	cases := map[string]func(t *testing.T, v *simulation.VCenter){
		"sessions ended": func(t *testing.T, v *simulation.VCenter) { check(t, v.TerminateSessions()) },
		"503 for a while": func(_ *testing.T, v *simulation.VCenter) {
			v.Outage()
			time.Sleep(300 * time.Millisecond)
			v.Recover()
		},
		"connections dropped": func(_ *testing.T, v *simulation.VCenter) {
			v.DropConnections()
			time.Sleep(100 * time.Millisecond)
			v.Recover()
		},
		"restarted": func(t *testing.T, v *simulation.VCenter) {
			check(t, v.Stop())
			time.Sleep(300 * time.Millisecond)
			check(t, v.Restart())
		},
	}
	for name, trouble := range cases {
		t.Run(name, func(t *testing.T) {
			v, g := warm(t, small())
			refs, got := taggedRefs(v), newReports(t)
			v.SetTaskDelay(100 * time.Millisecond)
			v.SetTaskDelayFor(toMoRef(refs[1]), time.Hour)
			waits := powerOffAll(t, g, refs)
			waits[2].Task = vsphere.Ref{Type: "Task", Value: "task-of-before"} // unknown after a restart
			done := make(chan error, 1)
			go func() { done <- g.AwaitOff(t.Context(), waits, got.add) }()
			eventually(t, "two are reported", func() bool { return got.len() == 2 })
			trouble(t, v)
			check(t, v.PowerOffAs(toMoRef(refs[1]), "owner@vsphere.local"))
			select {
			case err := <-done:
				check(t, err)
			case <-time.After(20 * time.Second):
				t.Fatal("it does not come back")
			}
			if !got.of[refs[1]].Off {
				t.Errorf("reports %v", got.of)
			}
		})
	}
}

func TestWaitingInAnOutageEndsWithTheContext(t *testing.T) {
	v, g := warm(t, small())
	v.Outage()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := g.AwaitOff(ctx, []Wait{{VM: taggedRefs(v)[0]}}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestWaitingForNobody(t *testing.T) {
	v, g := warm(t, small())
	check(t, g.AwaitOff(t.Context(), nil, nil))
	wantCalls(t, v, 0)
}

func TestWaitingIsRefusedWithoutPermission(t *testing.T) {
	v, g := warm(t, small())
	v.FailCall("CreateFilter", nil, &types.NoPermission{PrivilegeId: "System.Read"}, -1)
	wantKind(t, g.AwaitOff(t.Context(), []Wait{{VM: taggedRefs(v)[0]}}, nil), NoPermission)
}

func TestAVMThatIsOnAgainBeforeItWasSeenOffIsReportedWithWhoDidIt(t *testing.T) {
	v, g := warm(t, many(2))
	refs, got := taggedRefs(v), newReports(t)
	since, err := g.ServerTime(t.Context())
	check(t, err)
	v.KeepOn(toMoRef(refs[0]), "controller@example.org", 0)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	check(t, g.AwaitOff(ctx, powerOffAll(t, g, refs), got.add))
	if r := got.of[refs[0]]; !r.On || !r.ByTask || r.Off {
		t.Errorf("reported %+v", r)
	}
	if r := got.of[refs[1]]; !r.Off {
		t.Errorf("the other: %+v", r)
	}
	by, err := g.PoweredOnAgain(t.Context(), refs, since)
	check(t, err)
	if touch, ok := by[refs[0]]; len(by) != 1 || !ok || touch.Ours || touch.User != `EXAMPLE.ORG\controller` {
		t.Errorf("powered on again: %+v", by)
	}
}

func TestWaitsHoldNoPlaceWhileCallsNeedThemAllAndStillSeeWhoIsOff(t *testing.T) {
	v, g := warm(t, many(10))
	refs := taggedRefs(v)
	v.SetLatency(10 * time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	for range 3 * DefaultMaxConcurrentCalls { // they take all places, and wait for them
		group.Go(func() {
			for ctx.Err() == nil {
				_, _ = g.ServerTime(ctx)
			}
		})
	}
	seen := make(chan ref, len(refs))
	for _, vm := range refs {
		group.Go(func() { _ = g.AwaitOff(ctx, []Wait{{VM: vm}}, func(vm ref, _ WaitResult) { seen <- vm }) })
	}
	eventually(t, "all wait", func() bool { return int(g.waits.Load()) == len(refs) })
	held := func() int { g.limit.mu.Lock(); defer g.limit.mu.Unlock(); return g.limit.polls }
	eventually(t, "the calls that were held before have ended", func() bool { return held() == 0 })
	holding := 0
	for range 100 {
		if held() > 0 {
			holding++
		}
		time.Sleep(5 * time.Millisecond)
	}
	if holding > 50 { // it may, while the machine lets no caller run
		t.Errorf("waits hold a place that others need %d of 100 times", holding)
	}
	check(t, v.PowerOffAs(toMoRef(refs[3]), "CORP\\owner"))
	select {
	case vm := <-seen:
		if vm != refs[3] {
			t.Errorf("%s was seen off, want %s", vm, refs[3])
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody saw that a VM went off")
	}
}
