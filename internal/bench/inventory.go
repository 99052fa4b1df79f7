package bench

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/released"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// The bars of large inventories. That of the time is at 10,000 VMs with 2,000 candidates, and below.
const (
	barOfPlan   = 2 * time.Second
	planVMs     = 10_000
	planTagged  = 2_000
	barOfWorker = 256 << 20 // bytes of memory
	targetsOf   = 10        // a round there takes so many
)

// inventory measures plans, and a round of ten VMs, in inventories of all sizes.
func inventory(ctx context.Context, r *run) error {
	t, done := r.table("inventory", fmt.Sprintf("a plan, and a round of %d VMs, beside %d tags of others", targetsOf, r.tags),
		"VMs", "candidates", "calls of a plan", "plan", "at most 2 s", "processor time of a plan: worker + the rest", "round", "memory of the worker now / at most, MiB", "at most 256",
		"history of the round, KiB", "its largest event, KiB")
	calls := map[int]bool{}
	defer func() {
		t.Title += "; calls of a plan are flat: " + met(len(calls) <= 1)
		done()
	}()
	for _, n := range r.vms {
		if err := r.inventoryOf(ctx, t, n, calls); err != nil {
			return err
		}
	}
	return nil
}

// inventoryOf measures one inventory. It has no tagged VM at first; the tag goes on more and more.
func (r *run) inventoryOf(ctx context.Context, t *table, n int, calls map[int]bool) error {
	r.say("inventory: making %d VMs and %d tags", n, r.tags)
	s, err := r.newSite(ctx, simulation.Options{
		Clusters: max(1, n/perRound), HostsPerCluster: 16, VMsPerCluster: min(n, perRound), Tagged: -1, ExtraTags: r.tags,
	})
	if err != nil {
		return err
	}
	defer s.close()
	vms, tagged := s.vc.VMs(), 0
	for _, candidates := range r.candidates {
		if candidates > n {
			continue
		}
		began := time.Now()
		var refs []types.ManagedObjectReference
		for ; tagged < candidates; tagged++ {
			refs = append(refs, vms[tagged].Ref)
		}
		if err := s.vc.AttachTag("preemption", preemption.DefaultTag, refs...); err != nil {
			return err
		}
		r.say("inventory: %d of %d VMs carry the tag after %s", tagged, n, rounded(time.Since(began)))
		if err := s.plansOf(ctx, t, n, candidates, calls); err != nil {
			return fmt.Errorf("%d candidates of %d VMs: %w", candidates, n, err)
		}
	}
	return nil
}

// plansOf measures plans and a round with one number of candidates, with a worker of their own.
func (s *site) plansOf(ctx context.Context, t *table, n, candidates int, seen map[int]bool) error {
	file, err := s.file(targetsOf, 0, false)
	if err != nil {
		return err
	}
	if err := s.start(ctx, 1, file); err != nil {
		return err
	}
	defer s.stop()
	if _, err := s.plan(ctx); err != nil { // not measured: sessions and caches
		return err
	}
	var took samples
	used, err := s.processors(s.runs, func() error {
		s.vc.ResetCalls()
		one, err := s.plan(ctx)
		took = append(took, one)
		return err
	})
	if err != nil {
		return err
	}
	calls := s.vc.TotalCalls()
	seen[calls] = true
	s.say("inventory: %d of %d VMs: plan in %s, %d calls", candidates, n, rounded(took.median()), calls)
	round, record, err := s.handRound(ctx)
	if err != nil {
		return err
	}
	now, peak, err := s.workers[0].Memory()
	if err != nil {
		return err
	}
	bar := ""
	if n <= planVMs && candidates <= planTagged {
		bar = met(took.median() <= barOfPlan)
	}
	t.row(n, candidates, calls, took, bar, used, rounded(round), mib(now)+" / "+mib(peak), met(peak <= barOfWorker),
		kib(record.bytes), kib(record.largest)+" "+record.what)
	return nil
}

// processors does something several times, and returns how much processor time each time takes: of the worker, and of
// this process, which is vCenter and Temporal.
func (s *site) processors(times int, do func() error) (string, error) {
	var spent [2]time.Duration
	for i, pid := range []int{s.workers[0].PID(), os.Getpid()} {
		before, err := released.Spent(pid)
		if err != nil {
			return "", err
		}
		spent[i] = -before
	}
	for range times {
		if err := do(); err != nil {
			return "", err
		}
	}
	for i, pid := range []int{s.workers[0].PID(), os.Getpid()} {
		after, err := released.Spent(pid)
		if err != nil {
			return "", err
		}
		spent[i] = (spent[i] + after) / time.Duration(times)
	}
	return rounded(spent[0]) + " + " + rounded(spent[1]), nil
}

func kib(bytes int) string { return fmt.Sprintf("%.1f", float64(bytes)/1024) }

// plan asks who would go, as preemptctl does.
func (s *site) plan(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	w, err := s.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "preemption-plan-" + uuid.NewString(), TaskQueue: s.queue}, preemptapi.PlanType, s.byHand())
	if err != nil {
		return 0, fmt.Errorf("ask for a plan: %w", err)
	}
	var r preemptapi.RoundResult
	if err := w.Get(ctx, &r); err != nil {
		return 0, fmt.Errorf("plan: %w", err)
	}
	if len(r.Targets) == 0 {
		return 0, fmt.Errorf("the plan names no VM: it is %s: %s", r.State, r.Reason)
	}
	return time.Since(began), nil
}

// handRound asks for a round and waits until it is over; its VMs are on again then.
func (s *site) handRound(ctx context.Context) (took time.Duration, record recorded, err error) {
	id, began := "bench-by-hand-"+s.queue, time.Now()
	if err := s.signal(ctx, id, s.byHand()); err != nil {
		return 0, record, err
	}
	result, err := s.over(ctx, id)
	if err != nil {
		return 0, record, err
	}
	took = time.Since(began)
	if result.State != preemptapi.RoundCompleted || len(result.Preempted()) == 0 {
		return took, record, fmt.Errorf("round %s ended as %s: %s", result.RoundID, result.State, result.Reason)
	}
	record, err = s.recordOf(ctx, result.RoundID)
	if err != nil {
		return took, record, err
	}
	return took, record, s.powerOn(s.vc.VMs())
}
