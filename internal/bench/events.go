package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/released"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

const (
	barOfEvents  = 300 // events a second that are acted upon
	senders      = 8
	hostsOfEvent = 5
)

// events measures the receiver under changes of an alarm, on one intake and over twenty.
func events(ctx context.Context, r *run) error {
	t, done := r.table("events", fmt.Sprintf("%d events that are acted upon, from %d clients, through the receiver", r.events, senders),
		"intakes", "events a second", fmt.Sprintf("at least %d", barOfEvents), "answer: median", "99 of 100",
		"for each event: signals", "workflow tasks", "events of histories", "requests to the database")
	defer done()
	r.say("building the receiver as a release does")
	if err := released.Build(ctx, r.dir, "kn-go-preemption"); err != nil {
		return err
	}
	for _, over := range []int{1, 20} {
		if err := r.eventsOver(ctx, t, over); err != nil {
			return fmt.Errorf("%d intakes: %w", over, err)
		}
	}
	return nil
}

func (r *run) eventsOver(ctx context.Context, t *table, over int) error {
	s, err := r.newSite(ctx, simulation.Options{Clusters: over, HostsPerCluster: hostsOfEvent, VMsPerCluster: 1, Tagged: 1})
	if err != nil {
		return err
	}
	defer s.close()
	file, err := s.file(1, time.Hour, false)
	if err != nil {
		return err
	}
	if err := s.start(ctx, 1, file); err != nil {
		return err
	}
	url, err := s.receiver(ctx)
	if err != nil {
		return err
	}
	bodies, err := s.changes(ctx, r.events)
	if err != nil {
		return err
	}
	before, began := s.server.DatabaseRequests(), time.Now()
	took, err := pour(ctx, url, bodies)
	if err != nil {
		return err
	}
	all := time.Since(began)
	if err := s.settled(ctx); err != nil {
		return err
	}
	requests, sum := s.server.DatabaseRequests()-before, recorded{}
	for _, c := range s.vc.Inventory().Clusters {
		record, err := s.recordOf(ctx, s.intake(c))
		if err != nil {
			return err
		}
		sum.plus(record)
	}
	n, rate := float64(len(bodies)), float64(len(bodies))/all.Seconds()
	slices.Sort(took)
	r.say("events: %d over %d intakes in %s", len(bodies), over, rounded(all))
	each := func(count int) string { return fmt.Sprintf("%.2f", float64(count)/n) }
	t.row(over, fmt.Sprintf("%.0f", rate), met(rate >= barOfEvents), rounded(took[len(took)/2]), rounded(took[len(took)*99/100]),
		each(sum.signals), each(sum.tasks), each(sum.events), each(int(requests)))
	return nil
}

// receiver starts the receiver and waits until it is ready.
func (s *site) receiver(ctx context.Context) (url string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()
	file, err := s.file(1, time.Hour, true)
	if err != nil {
		return "", err
	}
	cmd := exec.Command(filepath.Join(s.dir, "kn-go-preemption"))
	cmd.Env = []string{
		"TEMPORAL_URL=" + s.server.HostPort(), "TEMPORAL_NAMESPACE=" + namespace, "TEMPORAL_TASKQUEUE=" + s.queue,
		"PREEMPTION_CONFIG=" + file, "PORT=" + strconv.Itoa(port), "HOME=" + s.secret,
	}
	p, err := s.spawn(cmd)
	if err != nil {
		return "", err
	}
	s.workers = append(s.workers, p) // it is stopped with them
	url = fmt.Sprintf("http://127.0.0.1:%d", port)
	return url, s.until(ctx, "the receiver is ready", func() error {
		resp, err := http.Get(url + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("it answers %s", resp.Status)
		}
		return nil
	})
}

// changes are n changes of the alarm as structured CloudEvents: on one host after the other, each to another colour.
func (s *site) changes(ctx context.Context, n int) (bodies [][]byte, err error) {
	clusters, colours := s.vc.Inventory().Clusters, []string{"green", "red"}
	for i := range n {
		c, host, turn := clusters[i%len(clusters)], i/len(clusters)%hostsOfEvent, i/(len(clusters)*hostsOfEvent)
		ev, err := s.turn(ctx, c, host, colours[turn%2], colours[(turn+1)%2])
		if err != nil {
			return nil, err
		}
		e, err := s.cloudEvent(ev)
		if err != nil {
			return nil, err
		}
		body, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		bodies = append(bodies, body)
	}
	return bodies, nil
}

// settled waits until Temporal has next to nothing to do.
func (s *site) settled(ctx context.Context) error {
	const few = 50
	for last := int64(-1); ; {
		now := s.server.DatabaseRequests()
		if last >= 0 && now-last < few {
			return nil
		}
		last = now
		if !clock.Sleep(ctx, time.Second) {
			return ctx.Err()
		}
	}
}

// pour sends the events from several clients, and returns how long each took. What is to be sent again is sent again.
func pour(ctx context.Context, url string, bodies [][]byte) (took samples, err error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: senders}}
	defer client.CloseIdleConnections()
	var next atomic.Int64
	var mu sync.Mutex
	var group sync.WaitGroup
	for range senders {
		group.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(bodies)); i = next.Add(1) - 1 {
				began := time.Now()
				failed := deliver(ctx, client, url, bodies[i])
				mu.Lock()
				took = append(took, time.Since(began))
				if failed != nil {
					err = fmt.Errorf("event %d: %w", i, failed)
				}
				mu.Unlock()
				if failed != nil {
					return
				}
			}
		})
	}
	group.Wait()
	return took, err
}

// deliver sends one event until it is taken.
func deliver(ctx context.Context, client *http.Client, url string, body []byte) error {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/cloudevents+json")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusAccepted:
			return nil
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		default:
			return fmt.Errorf("the receiver answers %s", resp.Status)
		}
	}
}
