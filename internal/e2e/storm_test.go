package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// longest is the most events that a run of a workflow's history has, over all its runs.
func (s *site) longest(id string) (events int64) {
	s.t.Helper()
	list, err := s.c.ListWorkflow(s.t.Context(), &workflowservice.ListWorkflowExecutionsRequest{
		Query: fmt.Sprintf("WorkflowId = %q", id), PageSize: 1000,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range list.GetExecutions() {
		d, err := s.c.DescribeWorkflowExecution(s.t.Context(), id, e.GetExecution().GetRunId())
		if err != nil {
			s.t.Fatal(err)
		}
		events = max(events, d.WorkflowExecutionInfo.GetHistoryLength())
	}
	if events == 0 {
		s.t.Fatalf("%s has no history", id)
	}
	return events
}

// stormed is a site with two alarms on four clusters: "cpu" on the first two, "mem" on the others.
func stormed(t testing.TB) *site {
	t.Helper()
	s := watched(t, withClusters(4), withPolicy(func(p *policy.Policy) { p.Cooldown, p.MaxVMs = clock.Duration(time.Hour), 3 }))
	s.rules = rulesOn(s.id("cpu"), s.id("mem"))
	return s
}

func (s *site) stormIntakes() (ids []string) {
	for i, c := range s.vc.Inventory().Clusters {
		ids = append(ids, s.intake([]string{"cpu", "mem"}[i/2], c.Name))
	}
	return ids
}

// storm posts n alarm events: the same alarms turn red again and again on every host.
func (s *site) storm(n int) {
	s.t.Helper()
	clusters := s.vc.Inventory().Clusters
	for i := range n {
		k := i % len(clusters)
		from := []string{"green", "yellow"}[i/len(clusters)%2]
		s.post([]string{"cpu", "mem"}[k/2], clusters[k].Name, i/len(clusters)%len(clusters[k].Hosts), from, "red")
	}
}

// outlives has a storm pass over a site that watches, and returns the longest history and how long after
// the last event all was quiet.
func outlives(t testing.TB, n int) (s *site, longest int64, quiet time.Duration) {
	s = stormed(t)
	s.worker()
	s.watch(quickWatch)
	s.storm(n)
	last := time.Now()
	s.pointWithin(5*time.Minute, "every event was read", func(c watchapi.Checkpoint) bool { return c.Events == int64(n) })
	var results []preemptapi.RoundResult
	for _, id := range s.stormIntakes() {
		r := s.untilWithin(5*time.Minute, id, "all its hosts are known to be in alarm and its round is over", func(r preemptapi.Response) bool {
			return len(r.Levels) == 3 && r.Round != nil && r.State != preemptapi.IntakeRunning
		}).Round
		wantState(t, *r, preemptapi.RoundCompleted, 3)
		results = append(results, *r)
		longest = max(longest, s.longest(s.id(id)))
	}
	quiet = time.Since(last)
	s.agree(results...)
	if rounds := s.rounds(); len(rounds) != len(results) || s.off("") != 3*len(results) {
		t.Errorf("%d VMs are off by %d rounds: %v", s.off(""), len(rounds), rounds)
	}
	return s, max(longest, s.longest(watchapi.WorkflowID(s.queue))), quiet
}

// pointWithin is point with its own patience.
func (s *site) pointWithin(d time.Duration, what string, ok func(watchapi.Checkpoint) bool) watchapi.Checkpoint {
	s.t.Helper()
	for deadline := time.Now().Add(d - 30*time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if c := s.point("the watch follows", func(watchapi.Checkpoint) bool { return true }); ok(c) {
			return c
		}
	}
	return s.point(what, ok)
}

// maxHistory is how many events a run may have: a fifth of what Temporal allows.
const maxHistory = 10_000

func TestAStormOfRepeatedAlarmsIsOnePreemptionPerAlarmAndScope(t *testing.T) {
	t.Parallel()
	s, longest, quiet := outlives(t, sized(2000, 500))
	before := s.follows()
	s.workers[0].stop()
	s.worker()
	began := time.Now()
	after := s.point("another worker has compared states", func(c watchapi.Checkpoint) bool { return c.Compared.After(began) })
	if after.Events != before.Events || after.Sent != before.Sent || after.Caught != 0 {
		t.Errorf("another worker repeated some of it: %d events and %d handed on, before it %d and %d", after.Events, after.Sent, before.Events, before.Sent)
	}
	t.Logf("longest history %d events, quiet after %s", longest, quiet)
	if longest > maxHistory {
		t.Errorf("a run has %d events, want at most %d", longest, maxHistory)
	}
}

// receiverProcess starts the released receiver by its documented environment, and returns its address.
func (s *site) receiverProcess(path string, extra ...string) (cmd *exec.Cmd, url string) {
	s.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	listener.Close()
	rules := filepath.Join(s.t.TempDir(), "rules.yaml")
	text := "rules:\n"
	for _, r := range s.rules {
		text += fmt.Sprintf("- {alarm: %q, preempt: {tag: %q}}\n", r.Alarm, r.Action.(trigger.Preempt).Tag)
	}
	if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	cmd = exec.Command(path)
	cmd.Env = append([]string{
		"TEMPORAL_URL=" + s.server.HostPort(), "TEMPORAL_NAMESPACE=" + s.server.Namespace(), "TEMPORAL_TASKQUEUE=" + s.queue,
		"PREEMPTION_CONFIG=" + rules, "PORT=" + port, "HOME=" + os.Getenv("HOME"),
	}, extra...)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if s.t.Failed() {
			s.t.Log(log.String())
		}
	})
	url = "http://127.0.0.1:" + port
	s.eventually("the receiver is ready", func() bool {
		resp, err := http.Get(url + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return cmd, url
}

// wire is an event as a request in structured mode.
func wire(t testing.TB, e event.Event) []byte {
	t.Helper()
	body, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: receiver\r\nContent-Type: application/cloudevents+json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// pour sends requests from eight clients, each over one connection, and returns how long each took; what is
// to be sent again is sent again.
func pour(t testing.TB, url string, requests [][]byte, want int) (took []time.Duration) {
	t.Helper()
	const clients = 8
	var next atomic.Int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			in := bufio.NewReader(conn)
			var mine []time.Duration
			for i := next.Add(1) - 1; i < int64(len(requests)); i = next.Add(1) - 1 {
				start := time.Now()
				if err := request(conn, in, requests[i], want); err != nil {
					t.Errorf("event %d: %v", i, err)
					return
				}
				mine = append(mine, time.Since(start))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	wg.Wait()
	return took
}

// request sends until the answer is no wish to have it sent again.
func request(conn io.Writer, in *bufio.Reader, text []byte, want int) error {
	for range 100 {
		if _, err := conn.Write(text); err != nil {
			return err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		switch {
		case err != nil:
			return err
		case resp.StatusCode == want:
			return nil
		case resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable:
			return fmt.Errorf("answered %s, want %d", resp.Status, want)
		}
	}
	return errors.New("it was to be sent again 100 times")
}

func TestOfTwoThousandEventsFromEightClientsEachRiseIsActedUponOnce(t *testing.T) {
	t.Parallel()
	clusters, hosts, times := sized(20, 5), 5, 20
	path, _ := program(t, "kn-go-preemption")
	s := watched(t, withInventory(func(o *simulation.Options) {
		o.Clusters, o.HostsPerCluster, o.VMsPerCluster, o.Tagged = clusters, hosts, 2, 2
	}), withPolicy(func(p *policy.Policy) { p.MaxVMs, p.Cooldown = 1, clock.Duration(time.Hour) }))
	s.worker()
	cmd, url := s.receiverProcess(path)
	var requests [][]byte
	for _, c := range s.vc.Inventory().Clusters {
		for host := range hosts {
			ev := s.alarm(c.Name, host, "green", "red")
			for range times {
				requests = append(requests, wire(t, routed(t, s.vc.URL(), ev))) // each time with another id
			}
		}
	}
	seeded(t).Shuffle(len(requests), func(i, j int) { requests[i], requests[j] = requests[j], requests[i] })
	if n := len(pour(t, url, requests, http.StatusAccepted)); n != clusters*hosts*times {
		t.Errorf("%d events were taken", n)
	}
	var results []preemptapi.RoundResult
	for _, c := range s.vc.Inventory().Clusters {
		id := s.intake("cpu", c.Name)
		r := s.untilWithin(2*time.Minute, id, "all was taken and its round is over", func(r preemptapi.Response) bool {
			return r.Requests == hosts*times && r.Round != nil && r.State != preemptapi.IntakeRunning
		})
		if len(r.Levels) != hosts || len(r.Rejections) != 0 {
			t.Errorf("%s", pretty(r))
		}
		wantState(t, *r.Round, preemptapi.RoundCompleted, 1)
		results = append(results, *r.Round)
		if n := s.longest(s.id(id)); n > maxHistory {
			t.Errorf("%s has %d events in a run", id, n)
		}
	}
	s.agree(results...)
	if rounds := s.rounds(); len(rounds) != clusters || s.off("") != clusters {
		t.Errorf("%d VMs are off by %d rounds, want %d of each", s.off(""), len(rounds), clusters)
	}
	if mib := resident(t, cmd.Process.Pid); mib > 48 {
		t.Errorf("the receiver takes %.1f MiB", mib)
	}
}
