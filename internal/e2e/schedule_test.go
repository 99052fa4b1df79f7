package e2e

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
)

// preemptctl runs the program against the site, and returns what it printed on stdout.
func preemptctl(s *sitetest.Site, code int, args ...string) string {
	s.T.Helper()
	var stdout, stderr bytes.Buffer
	got := cli.Run(s.T.Context(), cli.Options{
		Args: append(args, "-s", s.Server.HostPort(), "-q", s.Queue), Env: sitetest.EmptyEnvironment{},
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr,
	})
	if got != code {
		s.T.Fatalf("preemptctl %s exits with %d, want %d\n%s%s", strings.Join(args, " "), got, code, &stdout, &stderr)
	}
	return stdout.String()
}

type listedSchedule struct {
	Name          string
	Paused        bool
	Runs, Skipped int
	Last          *struct{ WorkflowID, Result string }
}

// schedule waits until the list shows the schedule as it should be.
func schedule(s *sitetest.Site, name, what string, ok func(listedSchedule) bool) (found listedSchedule) {
	s.T.Helper()
	s.Eventually(what, func() bool {
		var all []listedSchedule
		if err := json.Unmarshal([]byte(preemptctl(s, 0, "schedule", "list", "-o", "json")), &all); err != nil {
			s.T.Fatal(err)
		}
		for _, found = range all {
			if found.Name == name {
				return ok(found)
			}
		}
		return false
	})
	return found
}

func TestAScheduledRunPreemptsOnceAndCompletesByItself(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(4), sitetest.WithPolicy(func(p *policy.Policy) { p.Cooldown = clock.Duration(time.Hour) }),
		sitetest.WithSettings(func(set *preempt.Settings) { set.Timing.IntakeIdle = 24 * time.Hour })) // it is not idleness that ends it
	served := make(chan struct{})
	serve := sync.OnceFunc(func() { close(served) })
	t.Cleanup(serve)
	s.VC.Hook("PowerOffVM_Task", func(types.ManagedObjectReference) { <-served })
	s.Worker()
	name := s.ID("nightly")
	preemptctl(s, 0, "schedule", "create", name, "--at", "22:00", "--time-zone", "Europe/Berlin", "-c", "high", "--paused")

	preemptctl(s, 0, "schedule", "run", name)
	s.Eventually("VMs are being powered off", func() bool { return s.Calls("PowerOffVM_Task") > 0 })
	schedule(s, name, "the run is under way", func(l listedSchedule) bool { return l.Last != nil && l.Last.Result == "under way" })
	preemptctl(s, 0, "schedule", "run", name)
	run := schedule(s, name, "a second run beside it is skipped", func(l listedSchedule) bool { return l.Skipped == 1 })
	if run.Runs != 1 {
		t.Errorf("%d runs were started", run.Runs)
	}
	serve()

	var res preemptapi.Response
	if err := s.Temporal.GetWorkflow(t.Context(), run.Last.WorkflowID, "").Get(t.Context(), &res); err != nil {
		t.Fatal(err)
	}
	if res.State != preemptapi.IntakeCompleted || res.Round == nil || len(res.VirtualMachines) != 4 || res.Requests != 1 {
		t.Fatalf("unexpected response %s", sitetest.Pretty(res))
	}
	sitetest.WantState(t, *res.Round, preemptapi.RoundCompleted, 4)
	s.WantOursExactly(*res.Round)
	schedule(s, name, "the list tells the result", func(l listedSchedule) bool { return l.Last.Result == "completed, 4 VMs off" })

	preemptctl(s, 0, "schedule", "run", name)
	schedule(s, name, "a run in the cooldown is refused, and does not wait for its end", func(l listedSchedule) bool {
		return l.Runs == 2 && strings.HasPrefix(l.Last.Result, "refused: the scope was preempted a short time ago")
	})
	if n := s.Calls("PowerOffVM_Task"); n != 4 {
		t.Errorf("%d power-offs for 4 VMs", n)
	}
	preemptctl(s, 0, "schedule", "delete", name)
	preemptctl(s, 3, "schedule", "delete", name)
}

func TestAScheduleRunsByTheClockUntilItIsPaused(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(4), sitetest.WithPolicy(func(p *policy.Policy) { p.Cooldown = clock.Duration(time.Hour) }))
	s.Worker()
	name := s.ID("often")
	preemptctl(s, 0, "schedule", "create", name, "--every", "1h", "-c", "high", "--paused")
	t.Cleanup(func() { _ = s.Temporal.ScheduleClient().GetHandle(t.Context(), "preemption-"+name).Delete(t.Context()) })
	s.Must(s.Temporal.ScheduleClient().GetHandle(t.Context(), "preemption-"+name).Update(t.Context(), client.ScheduleUpdateOptions{
		DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			in.Description.Schedule.Spec.Intervals = []client.ScheduleIntervalSpec{{Every: time.Second}} // shorter than preemptctl lets anybody choose
			return &client.ScheduleUpdate{Schedule: &in.Description.Schedule}, nil
		},
	}))
	if n := s.Calls("PowerOffVM_Task"); n != 0 {
		t.Fatalf("%d power-offs by a schedule that is paused", n)
	}

	preemptctl(s, 0, "schedule", "resume", name)
	schedule(s, name, "it runs again and again", func(l listedSchedule) bool { return l.Runs > 2 })
	preemptctl(s, 0, "schedule", "pause", name, "--reason", "enough")
	paused := schedule(s, name, "it is paused", func(l listedSchedule) bool { return l.Paused })
	time.Sleep(2500 * time.Millisecond) // in which it would run again
	if now := schedule(s, name, "it is listed", func(listedSchedule) bool { return true }); now.Runs != paused.Runs {
		t.Errorf("%d runs when it was paused, %d later", paused.Runs, now.Runs)
	}
	if n := s.Calls("PowerOffVM_Task"); n != 4 || s.OffIn("") != 4 {
		t.Errorf("%d power-offs for 4 VMs, %d are off", n, s.OffIn(""))
	}
	preemptctl(s, 0, "schedule", "delete", name)
	preemptctl(s, 3, "schedule", "run", name)
}
