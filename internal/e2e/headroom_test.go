package e2e

import (
	"encoding/json"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// awaitWorker waits until the commands see a worker.
func awaitWorker(s *sitetest.Site) {
	s.T.Helper()
	s.Eventually("a worker plans", func() bool { code, _, _ := s.Typed("workflow", "plan"); return code == 0 })
}

// scheduled has a schedule run once, and returns the result of the run.
func scheduled(s *sitetest.Site, name string, runs int) (res preemptapi.Response) {
	s.T.Helper()
	preemptctl(s, 0, "schedule", "run", name)
	run := schedule(s, name, "the run has begun", func(l listedSchedule) bool { return l.Runs == runs && l.Last != nil && l.Last.WorkflowID != "" })
	if err := s.Temporal.GetWorkflow(s.T.Context(), run.Last.WorkflowID, "").Get(s.T.Context(), &res); err != nil {
		s.T.Fatal(err)
	}
	if res.Round == nil {
		s.T.Fatalf("no round: %s", sitetest.Pretty(res))
	}
	return res
}

func TestAScheduleKeepsTheHeadroomOfOneCluster(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore(func(p *policy.Policy) {
		p.Target, p.Headroom = policy.Goal{}, policy.Headroom{CPU: policy.Amount{N: 10, Percent: true}}
	}))
	s.Worker()
	awaitWorker(s)
	name := s.ID("headroom")
	preemptctl(s, 0, "schedule", "create", name, "--every", "10m", "--cluster", "cluster-a", "--headroom", "-c", "HIGH", "--paused")

	s.Must(s.VC.SetClusterUsage("cluster-a", 85, 50))
	s.Must(s.VC.SetClusterUsage("cluster-b", 99, 99))
	if r := scheduled(s, name, 1).Round; len(r.Targets) != 0 || s.OffIn("") != 0 {
		t.Fatalf("VMs went although the headroom was there: %s", sitetest.Pretty(r))
	}

	s.Must(s.VC.SetClusterUsage("cluster-a", 93, 50))
	r := scheduled(s, name, 2).Round
	gone := len(r.Preempted())
	if cpu, _ := s.VC.Usage("cluster-a"); gone == 0 || gone == 6 || s.OffIn("cluster-a") != gone || cpu > 90 || r.Usage[0].CPU.Target != 90 {
		t.Fatalf("%d went, and %.1f %% are used: %s", gone, cpu, sitetest.Pretty(r))
	}
	if s.OffIn("cluster-b") != 0 {
		t.Error("VMs of the other cluster went")
	}

	s.Must(s.VC.SetClusterUsage("cluster-a", 60, 50))
	scheduled(s, name, 3)
	s.Eventually("those who went come back when the headroom is there", func() bool { return s.OffIn("cluster-a") == 0 })
}

func TestAPlanForHeadroomHeedsAHostThatMayFail(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.Headroom = policy.Headroom{FailHosts: 1} }))
	s.Worker()
	s.Must(s.VC.SetClusterUsage("cluster-a", 45, 52))
	awaitWorker(s)
	var r preemptapi.RoundResult
	if err := json.Unmarshal([]byte(preemptctl(s, 0, "workflow", "plan", "--cluster", "/datacenter/host/cluster-a", "--headroom", "-o", "json")), &r); err != nil {
		t.Fatal(err)
	}
	u := r.Usage[0]
	if want := u.Memory.Capacity / int64(u.Hosts); u.Memory.Kept != want || u.Memory.Target != 100 {
		t.Errorf("the capacity of one of %d hosts is not kept: %+v", u.Hosts, u.Memory)
	}
	if fits := u.Memory.Used <= u.Memory.Capacity-u.Memory.Kept && u.CPU.Used <= u.CPU.Capacity-u.CPU.Kept; fits != (len(r.Targets) == 0) {
		t.Errorf("fits %t, and %d would go: %s", fits, len(r.Targets), sitetest.Pretty(u))
	}
	preemptctl(s, 3, "workflow", "plan", "--cluster", "clustr-a", "--headroom")
	preemptctl(s, 2, "workflow", "plan", "--headroom")
}

func TestAPolicyWithoutHeadroomIsNamed(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	awaitWorker(s)
	code, _, errs := s.Typed("workflow", "run", "--cluster", "cluster-a", "--headroom", "--wait", "-w", s.ID("cli"))
	if code == 0 || !sitetest.ContainsAll(errs, `policy "default"`, "it has no headroom", "failHosts") || s.OffIn("") != 0 {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
