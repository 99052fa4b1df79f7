package e2e

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/health"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/telemetry"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
)

// pauses runs preemptctl, which must succeed, and returns what it said.
func pauses(s *sitetest.Site, args ...string) string {
	s.T.Helper()
	code, out, errs := s.Typed(args...)
	if code != 0 {
		s.T.Fatalf("preemptctl %s exits with %d:\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out + errs
}

func TestAPauseSparesWhoHasNotGoneAndTheAlarmHasItsTurnLater(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithNotice(time.Minute))
	s.Worker()
	awaitWorker(s)
	s.Change("alarm", "cluster-a", 0, "green", "red")
	round := s.Started("alarm")
	s.Reaches(round, preemptapi.RoundNotified)

	began := time.Now()
	said := pauses(s, "pause", "--reason", "storage migration", "--for", "1h")
	s.Eventually("the round is withdrawn", func() bool { return s.Under(round).Paused })
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the pause took %s", took)
	}
	if !strings.Contains(said, round+" is withdrawn") || !strings.Contains(said, "everything") {
		t.Errorf("it says %q", said)
	}
	if r := s.Round(round); r.State != preemptapi.RoundWithdrawn || len(r.Preempted()) != 0 {
		t.Errorf("%s", sitetest.Pretty(r))
	}
	if code, _, errs := s.Typed("workflow", "run", "-w", s.ID("person"), "--wait"); code != 4 || !sitetest.ContainsAll(errs, "is paused", "storage migration") {
		t.Errorf("a person's request exits with %d: %s", code, errs)
	}
	if code, _, errs := s.Typed("workflow", "status", "-w", s.ID("alarm")); code != 0 || !strings.Contains(errs, "PAUSED: everything") {
		t.Errorf("status says nothing of the pause: %d, %s", code, errs)
	}
	if !strings.Contains(pauses(s, "pause", "list"), "storage migration") || s.OffIn("") != 0 {
		t.Errorf("%d VMs are off", s.OffIn(""))
	}

	pauses(s, "resume")
	next := s.Until("alarm", "the alarm has its turn", func(r preemptapi.Response) bool { return r.RoundID != round && r.RoundID != "" })
	s.Reaches(next.RoundID, preemptapi.RoundNotified)
	if code, _, _ := s.Typed("resume"); code != 3 {
		t.Errorf("a second resume exits with %d", code)
	}
}

func TestAPauseOfOneClusterOrAlarmLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	awaitWorker(s)
	pauses(s, "pause", "--cluster", "cluster-a", "--reason", "CHG-4711")
	pauses(s, "pause", "--alarm", "flapping", "--reason", "it flaps")
	s.Change("alarm", "cluster-a", 0, "green", "red")
	s.Change("other", "cluster-b", 0, "green", "red")
	if r := s.Done("other"); len(r.Preempted()) == 0 {
		t.Errorf("nobody went in the other cluster: %s", sitetest.Pretty(r))
	}
	s.Until("alarm", "it is deferred by the pause", func(r preemptapi.Response) bool {
		return len(r.Deferred) == 1 && strings.Contains(r.Deferred[0].Reason, "CHG-4711")
	})
	if s.OffIn("cluster-a") != 0 {
		t.Error("VMs of the paused cluster went")
	}
	pauses(s, "resume", "--all")
	if r := s.Done("alarm"); len(r.Preempted()) == 0 {
		t.Errorf("nobody went after the pause: %s", sitetest.Pretty(r))
	}
}

func TestARestoreWaitsWhileItIsPaused(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore())
	s.Worker()
	awaitWorker(s)
	s.Preempted(6)
	pauses(s, "pause", "--reason", "hands off")
	s.Change("alarm", "cluster-a", 0, "red", "green")
	s.Eventually("the restore waits for the end of the pause", func() bool {
		r, ok := s.RestoreState()
		return ok && strings.Contains(r.Reason, "hands off")
	})
	if code, _, errs := s.Typed("restore"); code != 4 || !strings.Contains(errs, "hands off") {
		t.Errorf("a person's restore exits with %d: %s", code, errs)
	}
	if n := s.OffIn("cluster-a"); n != 6 {
		t.Fatalf("%d VMs are off, want 6", n)
	}
	pauses(s, "resume")
	if r := s.Restored(); len(r.Restored()) != 6 {
		t.Errorf("%s", sitetest.Pretty(r))
	}
}

func TestAVMThatAPersonSparesStays(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithNotice(4*time.Second))
	s.Worker()
	awaitWorker(s)
	vms := s.VC.TaggedVMs("cluster-a")
	early, late := vms[0], vms[1]
	pauses(s, "spare", early.Name, "--for", "1h", "--reason", "a demo for the board")
	s.Change("alarm", "cluster-a", 0, "green", "red")
	round := s.Started("alarm")
	s.Reaches(round, preemptapi.RoundNotified)
	pauses(s, "spare", late.Name, "--for", "1h", "--reason", "while its notice runs")
	r := s.Round(round)
	for _, spared := range r.Spared {
		if spared.Ref == sitetest.Ref(early.Ref) && (spared.Reason != policy.SparedForNow || !strings.Contains(spared.Detail, "board")) {
			t.Errorf("%s is spared for %s: %s", early.Name, spared.Reason, spared.Detail)
		}
	}
	for _, o := range r.Targets {
		if o.Ref == sitetest.Ref(late.Ref) && (o.Outcome != action.Spared || o.Reason.Reason != policy.SparedForNow) {
			t.Errorf("%s: %s", late.Name, sitetest.Pretty(o))
		}
	}
	if !s.On(early) || !s.On(late) || len(r.Preempted()) != len(vms)-2 {
		t.Errorf("%s", sitetest.Pretty(r))
	}
	if code, _, errs := s.Typed("evict", early.Name, "-c", string(preemption.CriticalityHigh)); code != 4 || !strings.Contains(errs, "spare") {
		t.Errorf("evict exits with %d: %s", code, errs)
	}
	if !strings.Contains(pauses(s, "spare", "list"), early.Name) {
		t.Error("the list lacks it")
	}
	pauses(s, "spare", "end", early.Name)
	if code, _, _ := s.Typed("spare", "end", early.Name); code != 3 {
		t.Errorf("to end it twice exits with %d", code)
	}
	pauses(s, "evict", early.Name, "-c", string(preemption.CriticalityHigh))
	if s.On(early) {
		t.Error("it is on although nobody spares it any more")
	}
}

func TestWhatIsPausedAndSparedShowsInTheMetrics(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	awaitWorker(s)
	metrics := telemetry.NewMetrics(telemetry.Build{}, telemetry.Worker)
	m := &health.Monitor{
		Namespace: s.Server.Namespace(), TaskQueue: s.Queue, Every: 100 * time.Millisecond, Metrics: metrics.ForTemporal(), Log: sitetest.TestLog(t),
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); m.Run(ctx, s.Temporal) }()
	t.Cleanup(func() { cancel(); <-done })
	shows := func(lines ...string) func() bool {
		return func() bool {
			rec := httptest.NewRecorder()
			metrics.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			return sitetest.ContainsAll(rec.Body.String(), lines...)
		}
	}
	pauses(s, "pause", "--reason", "x")
	pauses(s, "pause", "--alarm", "cpu", "--reason", "x")
	pauses(s, "spare", s.VC.TaggedVMs("cluster-a")[0].Name, "--reason", "x")
	s.Eventually("the metrics show two pauses", shows("\npreemption_paused 2\n", "\npreemption_spared_vms 1\n"))
	pauses(s, "resume", "--all")
	s.Eventually("the metrics show none", shows("\npreemption_paused 0\n", "\npreemption_spared_vms 1\n"))
}

func TestPeopleAreToldOfAPauseAndOfItsEnd(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	var mu sync.Mutex
	var got []string
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, string(text))
	}))
	t.Cleanup(hook.Close)
	s.Env = map[string]string{"OPS": "generic+" + hook.URL}
	s.Told.Channels = []tell.Channel{{Name: "ops", URLFrom: tell.Source{Env: "OPS"}, On: []tell.Event{tell.Paused}}}
	s.Worker()
	awaitWorker(s)
	for i, step := range []struct {
		args []string
		says []string
	}{
		{[]string{"pause", "--reason", "storage migration"}, []string{"everything is paused", "storage migration", "preemptctl resume"}},
		{[]string{"resume"}, []string{"everything goes on"}},
	} {
		pauses(s, step.args...)
		s.Eventually("people are told", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(got) == i+1
		})
		if !sitetest.ContainsAll(got[i], step.says...) {
			t.Errorf("of %v the message reads\n%s", step.args, got[i])
		}
	}
}
