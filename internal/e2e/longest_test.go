package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Temporal's limits, in bytes. What comes near one of them is too large.
const (
	mostPerEvent   = 2 << 20
	mostPerHistory = 50 << 20
)

// crowdPolicy lets each criticality do something else: HIGH powers off, MEDIUM gives notice, asks the guests and forces,
// LOW asks the guests and looks on for late ones.
func crowdPolicy(p *policy.Policy) {
	second := clock.Duration(time.Second)
	p.Cooldown = clock.Duration(time.Millisecond)
	p.Criticality.Medium.Notice, p.Criticality.Medium.GracePeriod = 2*second, second
	p.Criticality.Low.GracePeriod, p.LateWatch = second, 2*second
	p.Protect.MaxPreemptionsPerDay = 5 // so that the ledger is told of evictions as they come
	p.Restore = policy.Restore{Enabled: true, Settle: clock.Duration(100 * time.Millisecond), Wave: 1000, GiveUp: clock.Duration(time.Hour)}
}

// lived is the life of one round of n VMs.
type lived struct {
	round  preemptapi.RoundResult
	intake preemptapi.Response
	tasks  map[string]time.Duration // longest, by workflow type
	sizes  map[string]int           // largest event of each kind
	most   int                      // longest history in bytes
}

func (c *crowd) live(crit preemption.Criticality, within time.Duration) (l lived) {
	c.T.Helper()
	c.Signal("alarm", c.AlarmRequest("cluster-a", crit))
	id := c.Until("alarm", "the round began", func(r preemptapi.Response) bool { return r.RoundID != "" }).RoundID
	l.intake = c.UntilWithin(within, "alarm", "the round ended", func(r preemptapi.Response) bool { return r.Round != nil && r.State != preemptapi.IntakeRunning })
	l.round = c.Round(id)
	l.sizes = map[string]int{}
	for _, id := range []string{id, c.ID("alarm"), ledger.WorkflowID(c.Queue)} {
		c.weigh(&l, id)
	}
	l.tasks = map[string]time.Duration{}
	for _, kind := range []string{preemptapi.RoundType, preemption.WorkflowName, ledger.WorkflowType} {
		l.tasks[kind] = c.clock.task(kind)
	}
	return l
}

// weigh takes the sizes of all runs of a workflow.
func (c *crowd) weigh(l *lived, id string) {
	c.T.Helper()
	for _, run := range c.runs(id) {
		largest, total := c.weights(id, run)
		for kind, size := range largest {
			l.sizes[kind] = max(l.sizes[kind], size)
		}
		l.most = max(l.most, total)
	}
}

// runs are all runs of a workflow that the list knows, or the last.
func (c *crowd) runs(id string) (runs []string) {
	list, err := c.Temporal.ListWorkflow(c.T.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: fmt.Sprintf("WorkflowId = %q", id)})
	if err != nil {
		c.T.Fatal(err)
	}
	for _, e := range list.GetExecutions() {
		runs = append(runs, e.GetExecution().GetRunId())
	}
	if len(runs) == 0 {
		runs = []string{""}
	}
	return runs
}

// sound checks that nothing of a life comes near a limit.
func (l lived) sound(t testing.TB) {
	t.Helper()
	for kind, size := range l.sizes {
		if size > mostPerEvent*9/10 {
			t.Errorf("%s has %d bytes, of %d that Temporal takes", kind, size, mostPerEvent)
		}
	}
	if l.most > mostPerHistory/2 {
		t.Errorf("a history has %d bytes, of %d that Temporal takes", l.most, mostPerHistory)
	}
}

func (l lived) String() string {
	var b strings.Builder
	for _, kind := range sortedKeys(l.tasks) {
		fmt.Fprintf(&b, "  longest task of %s: %s\n", kind, l.tasks[kind].Round(time.Millisecond))
	}
	for _, kind := range sortedKeys(l.sizes) {
		if l.sizes[kind] > 20_000 {
			fmt.Fprintf(&b, "  %s: %d bytes\n", kind, l.sizes[kind])
		}
	}
	fmt.Fprintf(&b, "  longest history: %d bytes\n", l.most)
	return b.String()
}

func sortedKeys[V any](m map[string]V) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func TestARoundOfAThousandVMsEnds(t *testing.T) {
	for _, crit := range []preemption.Criticality{preemption.CriticalityHigh, preemption.CriticalityMedium, preemption.CriticalityLow} {
		t.Run(string(crit), func(t *testing.T) {
			n := sitetest.Sized(1000, 200)
			c := newCrowd(t, n, sitetest.WithPolicy(crowdPolicy))
			l := c.live(crit, 3*time.Minute)
			off := len(l.round.Preempted())
			if len(l.round.Targets) != n || crit != preemption.CriticalityLow && off != n || off == 0 {
				t.Fatalf("%s: %d targets, %d of them off, want %d: %s", l.round.State, len(l.round.Targets), off, n, l.round.Reason)
			}
			for i, o := range l.round.Targets {
				if o.Ref != crowdVM(i) {
					t.Fatalf("target %d is %s, want them in the plan's order", i, o.Ref)
				}
			}
			if got := len(l.intake.VirtualMachines); got != off && crit != preemption.CriticalityLow {
				t.Errorf("the intake tells of %d VMs, want %d", got, off)
			}
			// One outcome of each, and of those that are looked at late a second one.
			if got := c.clock.count("preemption_evictions"); got < int64(n) || got > int64(2*n) || crit == preemption.CriticalityHigh && got != int64(n) {
				t.Errorf("%d evictions were counted of %d VMs", got, n)
			}
			l.sound(t)
			t.Logf("%d VMs, %s:\n%s", n, crit, l)
		})
	}
}

// BenchmarkLongestTask prints, for rounds, restores, an intake and a ledger that grow, how long the longest of their
// workflow tasks took on a real worker and server, and how large what they send is.
// go test ./internal/e2e -run NONE -bench LongestTask -benchtime 1x -timeout 30m
func BenchmarkLongestTask(b *testing.B) {
	for _, n := range []int{10, 100, 500, 1000, 2000, 5000} {
		for _, crit := range []preemption.Criticality{preemption.CriticalityHigh, preemption.CriticalityMedium, preemption.CriticalityLow} {
			b.Run(fmt.Sprintf("round/%s/%d", crit, n), func(b *testing.B) {
				for b.Loop() {
					c := newCrowd(b, n, sitetest.WithPolicy(crowdPolicy))
					l := c.live(crit, 5*time.Minute)
					l.sound(b)
					report(b, fmt.Sprintf("round of %d VMs, %s: %s, %d off", n, crit, l.round.State, len(l.intake.VirtualMachines)), l)
				}
			})
		}
		b.Run(fmt.Sprintf("restore/%d", n), func(b *testing.B) {
			for b.Loop() {
				c := newCrowd(b, n, sitetest.WithPolicy(crowdPolicy))
				r, l := c.comeBack(2 * time.Minute)
				l.sound(b)
				report(b, fmt.Sprintf("restore of %d VMs: %s in %d waves", len(r.Restored()), r.State, r.Waves), l)
			}
		})
		b.Run(fmt.Sprintf("intake/%d", n), func(b *testing.B) {
			for b.Loop() {
				c := newCrowd(b, 10, sitetest.WithPolicy(crowdPolicy))
				l := c.inAlarm(n)
				l.sound(b)
				report(b, fmt.Sprintf("intake of %d entities in alarm: %d levels", n, len(l.intake.Levels)), l)
			}
		})
	}
}

// report prints a life, and its longest task as the benchmark's figure.
func report(b *testing.B, what string, l lived) {
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Printf("\n%s; load %s\n%s", what, strings.TrimSpace(string(load)), l) // the benchmark's own output is cut
	longest := time.Duration(0)
	for _, d := range l.tasks {
		longest = max(longest, d)
	}
	b.ReportMetric(float64(longest.Microseconds())/1000, "ms-longest-task")
	b.ReportMetric(0, "ns/op")
}

// inAlarm has n entities of one scope turn yellow, a hundred in each signal.
func (c *crowd) inAlarm(n int) (l lived) {
	c.T.Helper()
	var all []preemption.AlarmChange
	for i := range n {
		all = append(all, preemption.AlarmChange{
			Alarm: "cpu", Entity: crowdHost(i).String() + fmt.Sprint(i), Scope: c.Cluster("cluster-a").String(), From: "green", To: "yellow",
			Time: time.Now().Add(-time.Second), EventKey: int64(i + 1), Request: []byte(`{"tag":"preemptible","criticality":"LOW"}`),
		})
	}
	for some := range slices.Chunk(all, 100) {
		c.Changes("alarm", some)
	}
	l.intake = c.UntilWithin(2*time.Minute, "alarm", "all changes were taken", func(r preemptapi.Response) bool { return r.Requests == n })
	l.sizes = map[string]int{}
	c.weigh(&l, c.ID("alarm"))
	l.tasks = map[string]time.Duration{preemption.WorkflowName: c.clock.task(preemption.WorkflowName), ledger.WorkflowType: c.clock.task(ledger.WorkflowType)}
	return l
}

// comeBack restores the crowd.
func (c *crowd) comeBack(within time.Duration) (r preemptapi.RestoreResult, l lived) {
	c.T.Helper()
	p := c.Settings.Policies["default"]
	in := preemptapi.RestoreInput{Tag: "preemptible", Policy: &p, PolicyName: "default", By: "cpu"}
	id := preemptapi.RestoreID(c.Queue, vsphere.Ref{})
	run, err := c.Temporal.ExecuteWorkflow(c.T.Context(), client.StartWorkflowOptions{
		ID: id, TaskQueue: c.Queue, WorkflowExecutionTimeout: within, WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
	}, preemptapi.RestoreType, in)
	if err != nil {
		c.T.Fatal(err)
	}
	if err := run.Get(c.T.Context(), &r); err != nil {
		c.T.Fatal(err)
	}
	l.sizes = map[string]int{}
	c.weigh(&l, id)
	c.weigh(&l, ledger.WorkflowID(c.Queue))
	l.tasks = map[string]time.Duration{preemptapi.RestoreType: c.clock.task(preemptapi.RestoreType), ledger.WorkflowType: c.clock.task(ledger.WorkflowType)}
	return r, l
}

func TestWhatAWorkflowTaskCountedBeforeItFailedIsNotCountedAgain(t *testing.T) {
	for name, counted := range map[string]string{"preemption_rounds": "preemption_evictions", "preemption_restores": "preemption_restored_vms"} {
		t.Run(counted, func(t *testing.T) {
			c := newCrowd(t, 20, sitetest.WithPolicy(crowdPolicy))
			c.clock.fail(name)
			if counted == "preemption_evictions" {
				c.live(preemption.CriticalityHigh, time.Minute)
			} else {
				c.comeBack(time.Minute)
			}
			if c.clock.failed() == 0 {
				t.Fatal("no workflow task failed")
			}
			if got := c.clock.count(counted); got != 20 {
				t.Errorf("%s is %d of 20 VMs", counted, got)
			}
			if got := c.clock.count(name); got != 1 {
				t.Errorf("%s is %d, want 1", name, got)
			}
		})
	}
}

// The real activities against a simulated vCenter, as many VMs as it can model in a few seconds.
func TestARoundOfHundredsOfSimulatedVMsEndsAsVCenterSays(t *testing.T) {
	t.Parallel()
	n := sitetest.Sized(600, 60)
	s := sitetest.New(t, sitetest.WithInventory(func(o *simulation.Options) { o.Clusters, o.VMsPerCluster, o.Tagged = 1, n, n }),
		sitetest.WithPolicy(func(p *policy.Policy) { p.MaxVMs, p.PowerOffTimeout = n, clock.Duration(5*time.Minute) }))
	s.Worker()
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	r := *s.UntilWithin(4*time.Minute, "alarm", "the round ended", func(r preemptapi.Response) bool { return r.Round != nil && r.State != preemptapi.IntakeRunning }).Round
	sitetest.WantState(t, r, preemptapi.RoundCompleted, n)
	if off := s.OffIn("cluster-a"); off != n {
		t.Errorf("%d VMs are off, want %d", off, n)
	}
	s.Agree(r)
}

func TestARestoreOfAThousandVMsEnds(t *testing.T) {
	n := sitetest.Sized(1000, 200)
	c := newCrowd(t, n, sitetest.WithPolicy(crowdPolicy))
	r, l := c.comeBack(3 * time.Minute)
	if len(r.VMs) != n || len(r.Restored()) != n {
		t.Fatalf("%s: %d of %d VMs came back: %s", r.State, len(r.Restored()), n, r.Reason)
	}
	if got := c.clock.count("preemption_restored_vms"); got != int64(n) {
		t.Errorf("%d VMs were counted as restored, want %d", got, n)
	}
	l.sound(t)
	t.Logf("%d VMs:\n%s", n, l)
}
