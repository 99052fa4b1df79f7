package events

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
)

// BenchmarkAlarmInVCenterToTenVMsOff measures from the moment that vCenter has an alarm's event until the last
// of 10 VMs is off, and until it is annotated, with the timing of production: a look a second.
func BenchmarkAlarmInVCenterToTenVMsOff(b *testing.B) {
	s := sitetest.Watched(b, sitetest.WithInventory(func(o *simulation.Options) { o.Tagged = 10 }), sitetest.WithPolicy(func(p *policy.Policy) { p.Cooldown = 0 }))
	s.Worker()
	s.Watch(watch.DefaultTiming())
	vms := s.VC.TaggedVMs("cluster-a")
	id := s.Intake("cpu", "cluster-a")
	last := ""
	run := func() (off, annotated time.Duration) {
		time.Sleep(time.Duration(rand.IntN(1000)) * time.Millisecond) // at any instant between two looks
		start := time.Now()
		s.Alarm("cluster-a", 0, "green", "red")
		for left := vms; len(left) > 0; time.Sleep(500 * time.Microsecond) {
			for len(left) > 0 && s.VC.PowerState(left[0].Ref) == "poweredOff" {
				left = left[1:]
			}
		}
		off = time.Since(start)
		s.Exists(id)
		r := s.Until(id, "the round is over", func(r preemptapi.Response) bool {
			return r.Round != nil && r.RoundID != last && r.State != preemptapi.IntakeRunning
		}).Round
		last = r.RoundID
		annotated = time.Since(start)
		if len(r.Preempted()) != 10 || r.State != preemptapi.RoundCompleted {
			b.Fatalf("%+v", r)
		}
		for _, vm := range vms {
			s.Must(s.VC.SetPowerState(vm.Ref, "poweredOn"))
		}
		s.Alarm("cluster-a", 0, "red", "green")
		s.Until(id, "the fall is known", func(r preemptapi.Response) bool { return len(r.Levels) == 0 })
		return off, annotated
	}
	run()
	var off, over []time.Duration
	for b.Loop() {
		for len(off) < 11 {
			o, a := run()
			off, over = append(off, o), append(over, a)
		}
	}
	sitetest.Figures(b, "alarm posted in vCenter to its round over and reported, 10 VMs", over)
	sitetest.Figures(b, "alarm posted in vCenter to 10 VMs off", off)
}

// rate has requests poured into the receiver, and prints how many a second were taken, how long the slowest
// of a hundred took, and what the receiver and this process, which is all the rest, spent on each.
func rate(b *testing.B, what string, receiver int, url string, requests [][]byte, want int) (perSecond float64) {
	b.Helper()
	theirs, ours, start := spent(b, receiver), spent(b, os.Getpid()), time.Now()
	took := pour(b, url, requests, want)
	all := time.Since(start)
	n := time.Duration(len(requests))
	theirs, ours = (spent(b, receiver)-theirs)/n, (spent(b, os.Getpid())-ours)/n
	slices.Sort(took)
	load, _ := os.ReadFile("/proc/loadavg")
	perSecond = float64(n) / all.Seconds()
	fmt.Fprintf(b.Output(), "receiver: %s: %d in %s, %.0f a second, median %s, p99 %s; processor time of each %s and %s for all the rest; load %s\n",
		what, n, all.Round(time.Millisecond), perSecond, took[len(took)/2].Round(time.Millisecond/10), took[len(took)*99/100].Round(time.Millisecond/10),
		theirs.Round(time.Microsecond), ours.Round(time.Microsecond), strings.TrimSpace(string(load)))
	return perSecond
}

// spent is the processor time that a process has used.
func spent(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	var ticks int64
	for _, field := range strings.Fields(rest)[11:13] { // user and system, in hundredths of a second
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// BenchmarkReceiver measures the released receiver under 2,000 alarm events from 8 clients, beside a Temporal
// server and a worker that share the processor with it, and under events that no rule is on.
func BenchmarkReceiver(b *testing.B) {
	const clusters, hosts, n = 20, 5, 2000
	path, size := sitetest.Program(b, "kn-go-preemption")
	s := sitetest.Watched(b, sitetest.WithInventory(func(o *simulation.Options) {
		o.Clusters, o.HostsPerCluster, o.VMsPerCluster, o.Tagged = clusters, hosts, 1, 1
	}), sitetest.WithPolicy(func(p *policy.Policy) { p.Cooldown = clock.Duration(time.Hour) }))
	s.Worker()
	cmd, url := s.ReceiverProcess(path)
	time.Sleep(3 * time.Second)
	idle := sitetest.Resident(b, cmd.Process.Pid)
	all := s.VC.Inventory().Clusters
	// flap returns changes of the alarm on one host after the other, each a new event, over so many clusters.
	flap := func(over int) (requests [][]byte) {
		colours := []string{"red", "green"}
		for i := range n {
			c, host, turn := all[i%over], i/over%hosts, i/(over*hosts)
			ev := s.Alarm(c.Name, host, colours[(turn+1)%2], colours[turn%2])
			requests = append(requests, wire(b, sitetest.Routed(b, s.VC.URL(), ev)))
		}
		return requests
	}
	for b.Loop() {
		for _, over := range []int{clusters, 1} {
			acted := rate(b, fmt.Sprintf("alarm events acted upon, %d intakes", over), cmd.Process.Pid, url, flap(over), http.StatusAccepted)
			b.ReportMetric(acted, fmt.Sprintf("acted/s-%d", over))
			s.UntilWithin(5*time.Minute, s.Intake("cpu", all[0].Name), "its intake has caught up", func(r preemptapi.Response) bool { return r.State != preemptapi.IntakeRunning && r.LastDecision != nil })
			time.Sleep(5 * time.Second)
		}
		for _, mode := range []string{"binary", "structured"} {
			text := passing(b, s, mode)
			requests := make([][]byte, 40_000)
			for i := range requests {
				requests[i] = text
			}
			passed := rate(b, "events passed over, "+mode, cmd.Process.Pid, url, requests, http.StatusOK)
			b.ReportMetric(passed, "passed/s-"+mode)
		}
	}
	b.ReportMetric(0, "ns/op")
	fmt.Fprintf(b.Output(), "receiver: resident %.1f MiB idle, %.1f MiB loaded; stripped binary %.2f MB\n",
		idle, sitetest.Resident(b, cmd.Process.Pid), float64(size)/1e6)
}

// passing is a request with an event that no rule is on.
func passing(b *testing.B, s *sitetest.Site, mode string) []byte {
	e := sitetest.Routed(b, s.VC.URL(), s.Alarm("cluster-a", 0, "green", "red"))
	e.SetSubject("VmMigratedEvent")
	if mode == "structured" {
		return wire(b, e)
	}
	return fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: receiver\r\nCe-Specversion: 1.0\r\nCe-Id: %s\r\nCe-Source: %s\r\nCe-Type: %s\r\nCe-Subject: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
		e.ID(), e.Source(), e.Type(), e.Subject(), event.ApplicationJSON, len(e.Data()), e.Data())
}

// BenchmarkStorm10000 has 10,000 alarm events pass over a site that watches.
func BenchmarkStorm10000(b *testing.B) {
	for b.Loop() {
		start := time.Now()
		s, longest, quiet := outlives(b, 10_000)
		load, _ := os.ReadFile("/proc/loadavg")
		fmt.Fprintf(b.Output(), "storm of 10,000 alarm events in %s: %d rounds, longest history %d events, quiet %s after the last event; load %s\n",
			(time.Since(start) - quiet).Round(time.Millisecond), len(s.Rounds()), longest, quiet.Round(time.Millisecond), strings.TrimSpace(string(load)))
		b.ReportMetric(float64(longest), "events-longest")
		b.ReportMetric(quiet.Seconds(), "s-quiet")
	}
	b.ReportMetric(0, "ns/op")
}
