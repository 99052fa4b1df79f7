package events

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// longestHistory is the most events that a run of a workflow's history has, over all its runs.
func longestHistory(s *sitetest.Site, id string) (events int64) {
	s.T.Helper()
	list, err := s.Temporal.ListWorkflow(s.T.Context(), &workflowservice.ListWorkflowExecutionsRequest{
		Query: fmt.Sprintf("WorkflowId = %q", id), PageSize: 1000,
	})
	if err != nil {
		s.T.Fatal(err)
	}
	for _, e := range list.GetExecutions() {
		d, err := s.Temporal.DescribeWorkflowExecution(s.T.Context(), id, e.GetExecution().GetRunId())
		if err != nil {
			s.T.Fatal(err)
		}
		events = max(events, d.WorkflowExecutionInfo.GetHistoryLength())
	}
	if events == 0 {
		s.T.Fatalf("%s has no history", id)
	}
	return events
}

// stormed is a site with two alarms on four clusters: "cpu" on the first two, "mem" on the others.
func stormed(t testing.TB) *sitetest.Site {
	t.Helper()
	s := sitetest.Watched(t, withClusters(4), sitetest.WithPolicy(func(p *policy.Policy) { p.Cooldown, p.MaxVMs = clock.Duration(time.Hour), 3 }))
	s.Rules = sitetest.RulesOn(s.ID("cpu"), s.ID("mem"))
	return s
}

func stormIntakes(s *sitetest.Site) (ids []string) {
	for i, c := range s.VC.Inventory().Clusters {
		ids = append(ids, s.Intake([]string{"cpu", "mem"}[i/2], c.Name))
	}
	return ids
}

// storm posts n alarm events: the same alarms turn red again and again on every host.
func storm(s *sitetest.Site, n int) {
	s.T.Helper()
	clusters := s.VC.Inventory().Clusters
	for i := range n {
		k := i % len(clusters)
		from := []string{"green", "yellow"}[i/len(clusters)%2]
		s.Post([]string{"cpu", "mem"}[k/2], clusters[k].Name, i/len(clusters)%len(clusters[k].Hosts), from, "red")
	}
}

// outlives has a storm pass over a site that watches, and returns the longest history and how long after
// the last event all was quiet.
func outlives(t testing.TB, n int) (s *sitetest.Site, longest int64, quiet time.Duration) {
	s = stormed(t)
	s.Worker()
	s.Watch(sitetest.QuickWatch)
	storm(s, n)
	last := time.Now()
	pointWithin(s, 5*time.Minute, "every event was read", func(c watchapi.Checkpoint) bool { return c.Events == int64(n) })
	var results []preemptapi.RoundResult
	for _, id := range stormIntakes(s) {
		r := s.UntilWithin(5*time.Minute, id, "all its hosts are known to be in alarm and its round is over", func(r preemptapi.Response) bool {
			return len(r.Levels) == 3 && r.Round != nil && r.State != preemptapi.IntakeRunning
		}).Round
		sitetest.WantState(t, *r, preemptapi.RoundCompleted, 3)
		results = append(results, *r)
		longest = max(longest, longestHistory(s, s.ID(id)))
	}
	quiet = time.Since(last)
	s.Agree(results...)
	if rounds := s.Rounds(); len(rounds) != len(results) || s.OffIn("") != 3*len(results) {
		t.Errorf("%d VMs are off by %d rounds: %v", s.OffIn(""), len(rounds), rounds)
	}
	return s, max(longest, longestHistory(s, watchapi.WorkflowID(s.Queue))), quiet
}

// pointWithin is point with its own patience.
func pointWithin(s *sitetest.Site, d time.Duration, what string, ok func(watchapi.Checkpoint) bool) watchapi.Checkpoint {
	s.T.Helper()
	for deadline := time.Now().Add(d - 30*time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if c := s.Point("the watch follows", func(watchapi.Checkpoint) bool { return true }); ok(c) {
			return c
		}
	}
	return s.Point(what, ok)
}

// maxHistory is how many events a run may have: a fifth of what Temporal allows.
const maxHistory = 10_000

func TestAStormOfRepeatedAlarmsIsOnePreemptionPerAlarmAndScope(t *testing.T) {
	// Not parallel: it takes all processors, and what runs beside it would be late.
	s, longest, quiet := outlives(t, sitetest.Sized(2000, 500))
	before := s.Follows()
	s.Workers[0].Stop()
	s.Worker()
	began := time.Now()
	after := s.Point("another worker has compared states", func(c watchapi.Checkpoint) bool { return c.Compared.After(began) })
	if after.Events != before.Events || after.Sent != before.Sent || after.Caught != 0 {
		t.Errorf("another worker repeated some of it: %d events and %d handed on, before it %d and %d", after.Events, after.Sent, before.Events, before.Sent)
	}
	t.Logf("longest history %d events, quiet after %s", longest, quiet)
	if longest > maxHistory {
		t.Errorf("a run has %d events, want at most %d", longest, maxHistory)
	}
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
	// Not parallel: it takes all processors, and what runs beside it would be late.
	clusters, hosts, times := sitetest.Sized(20, 5), 5, 20
	path, _ := sitetest.Program(t, "kn-go-preemption")
	s := sitetest.Watched(t, sitetest.WithInventory(func(o *simulation.Options) {
		o.Clusters, o.HostsPerCluster, o.VMsPerCluster, o.Tagged = clusters, hosts, 2, 2
	}), sitetest.WithPolicy(func(p *policy.Policy) { p.MaxVMs, p.Cooldown = 1, clock.Duration(time.Hour) }))
	s.Worker()
	cmd, url := s.ReceiverProcess(path)
	var requests [][]byte
	for _, c := range s.VC.Inventory().Clusters {
		for host := range hosts {
			ev := s.Alarm(c.Name, host, "green", "red")
			for range times {
				requests = append(requests, wire(t, sitetest.Routed(t, s.VC.URL(), ev))) // each time with another id
			}
		}
	}
	sitetest.Seeded(t).Shuffle(len(requests), func(i, j int) { requests[i], requests[j] = requests[j], requests[i] })
	if n := len(pour(t, url, requests, http.StatusAccepted)); n != clusters*hosts*times {
		t.Errorf("%d events were taken", n)
	}
	var results []preemptapi.RoundResult
	for _, c := range s.VC.Inventory().Clusters {
		id := s.Intake("cpu", c.Name)
		r := s.UntilWithin(2*time.Minute, id, "all was taken and its round is over", func(r preemptapi.Response) bool {
			return r.Requests == hosts*times && r.Round != nil && r.State != preemptapi.IntakeRunning
		})
		if len(r.Levels) != hosts || len(r.Rejections) != 0 {
			t.Errorf("%s", sitetest.Pretty(r))
		}
		sitetest.WantState(t, *r.Round, preemptapi.RoundCompleted, 1)
		results = append(results, *r.Round)
		if n := longestHistory(s, s.ID(id)); n > maxHistory {
			t.Errorf("%s has %d events in a run", id, n)
		}
	}
	s.Agree(results...)
	if rounds := s.Rounds(); len(rounds) != clusters || s.OffIn("") != clusters {
		t.Errorf("%d VMs are off by %d rounds, want %d of each", s.OffIn(""), len(rounds), clusters)
	}
	if mib := sitetest.Resident(t, cmd.Process.Pid); mib > 48 {
		t.Errorf("the receiver takes %.1f MiB", mib)
	}
}
