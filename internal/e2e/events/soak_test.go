package events

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
)

// soakFor is how long the soak goes on; CI has it in short. In full, with Temporal on files, for in memory SQLite takes a
// mapping of the process for each of its larger allocations, of which the kernel gives 65530, enough for half an hour:
// E2E_ROLLING_FILE=$(mktemp -d) go test ./internal/e2e/events -run Soak -soak 2h -timeout 3h -v
var soakFor = flag.Duration("soak", 45*time.Second, "how long alarms flap in the soak")

const (
	soakClusters = 10
	soakAnswer   = 60 * time.Second // within which an alarm is acted upon at the end, on a machine that is busy with other tests
	// soakCalm is within which the last round ends: a dead worker is noticed after 10 s, events are awaited for 15 s, and what
	// was admitted by a worker that died before it began is released by the second sweep.
	soakCalm = 3 * time.Minute
	soakIdle = 10 * time.Second // after which vCenter ends a session that makes no call
)

// soakConfig is the file of the workers: rounds and restores follow one another quickly.
const soakConfig = `
policies:
  default:
    maxVMs: 3
    cooldown: 500ms
    repeatWhileRed: true
    target: {cpu: 5, memory: 5, margin: 1}
    lateWatch: 2s
    restore: {enabled: true, settle: 1s, wave: 3, giveUp: 1h}
rules:
  - alarm: %q
    preempt: {tag: preemptible}
`

// TestASoakOfFlappingAlarmsLosesNothing lets alarms on ten clusters flap, through watch and receiver, while workers are
// killed and every long-lived workflow continues as new again and again. At its end every alarm is still acted upon.
func TestASoakOfFlappingAlarmsLosesNothing(t *testing.T) {
	t.Parallel()
	k := newSoak(t)
	end := time.Now().Add(*soakFor)
	samples := max(*soakFor/60, time.Second)
	k.every(
		end, habit{200 * time.Millisecond, k.flap}, habit{4 * time.Second, k.ownerPowersOn},
		habit{7 * time.Second, k.killWorker}, habit{samples, k.sample},
	)
	k.calm()
	k.answersAll()
	k.wantRolls()
	k.wantFlat()
}

// soak is a site with two worker programs, of which one is killed now and then and one lives on.
type soak struct {
	*sitetest.Site
	random       *rand.Rand
	url          string // the receiver's
	path, config string // of the worker's program and file
	mortal       *exec.Cmd
	steady       *exec.Cmd
	addr         string // of the steady worker's metrics
	red          map[string]bool
	began        time.Time
	kills, flaps int
	quiet        time.Duration // from the last change until no round was under way
	taken        []soakSample
}

// soakSample is what the steady worker and the histories hold at one moment.
type soakSample struct {
	minutes                         float64
	resident, goroutines, histories float64
	cached                          float64 // workflows that the SDK keeps at hand; each holds goroutines until it is pushed out
	sessions                        float64 // in vCenter, with those that workers left which were killed in the last soakIdle
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	k := &soak{Site: sitetest.NewOn(t, sitetest.Rolling(t), withClusters(soakClusters)), random: sitetest.Seeded(t), red: map[string]bool{}, began: time.Now()}
	k.Rules = sitetest.RulesOn(k.ID("cpu"))
	k.path, _ = sitetest.Program(t, "worker")
	k.config = filepath.Join(t.TempDir(), "preemption.yaml")
	k.Must(os.WriteFile(k.config, fmt.Appendf(nil, soakConfig, k.ID("cpu")), 0o600))
	k.Must(watch.Ensure(t.Context(), k.Temporal, k.Queue, watch.Timing{
		Poll: 100 * time.Millisecond, Compare: 5 * time.Second, Heartbeat: 2 * time.Second, Lease: time.Second,
	}))
	free, err := net.Listen("tcp", "127.0.0.1:0")
	k.Must(err)
	k.addr = free.Addr().String()
	k.Must(free.Close())
	k.steady = k.WorkerProcess(k.path, "PREEMPTION_CONFIG="+k.config, "HTTP_ADDR="+k.addr)
	k.mortal = k.WorkerProcess(k.path, "PREEMPTION_CONFIG="+k.config)
	k.Polling()
	k.url = k.Receiver()
	return k
}

// habit is what is done again and again, and how often.
type habit struct {
	pace time.Duration
	do   func()
}

// every does each thing at its pace until the end.
func (k *soak) every(end time.Time, habits ...habit) {
	due := make([]time.Time, len(habits))
	for time.Now().Before(end) {
		for i, h := range habits {
			if now := time.Now(); !now.Before(due[i]) {
				due[i] = now.Add(h.pace)
				h.do()
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	if k.kills == 0 || k.flaps == 0 || len(k.taken) == 0 {
		k.T.Fatalf("%d workers were killed, %d alarms changed, %d samples taken: the soak tests nothing", k.kills, k.flaps, len(k.taken))
	}
}

// active is a round under way, by its workflow id.
func (k *soak) active() string {
	for _, sc := range k.Ledger().Scopes {
		if sc.Active != "" {
			return sc.Active
		}
	}
	return ""
}

func (k *soak) clusters() (names []string) {
	for _, c := range k.VC.Inventory().Clusters {
		names = append(names, c.Name)
	}
	return names
}

// flap turns one alarm over; the receiver brings every other change too.
func (k *soak) flap() {
	names := k.clusters()
	k.turn(names[k.random.IntN(len(names))])
}

func (k *soak) turn(cluster string) {
	from, to := "green", "red"
	if k.red[cluster] {
		from, to = to, from
	}
	k.red[cluster] = to == "red"
	ev := k.Post("cpu", cluster, 0, from, to)
	if k.flaps++; k.flaps%2 == 0 {
		if a := k.Bring(k.url, sitetest.Routed(k.T, k.VC.URL(), ev)); a.Code != 202 && a.Code != 503 {
			k.T.Errorf("the receiver answers %+v", a)
		}
	}
}

// ownerPowersOn brings back what is off where no alarm stands.
func (k *soak) ownerPowersOn() {
	for _, cluster := range k.clusters() {
		if k.red[cluster] || k.random.IntN(2) == 0 {
			continue
		}
		for _, vm := range k.VC.TaggedVMs(cluster) {
			if !k.On(vm) {
				_ = k.VC.PowerOnAs(vm.Ref, "CORP\\owner") // a restore may be first
			}
		}
	}
}

func (k *soak) killWorker() {
	k.kills++
	_ = k.mortal.Process.Kill()
	_ = k.mortal.Wait()
	k.mortal = k.WorkerProcess(k.path, "PREEMPTION_CONFIG="+k.config)
}

func (k *soak) sample() {
	k.VC.EndIdleSessions(soakIdle)
	figures := sitetest.Scrape(k.T.(*testing.T), k.addr)
	var longest int64
	for _, e := range k.open() {
		d, err := k.Temporal.DescribeWorkflowExecution(k.T.Context(), e, "")
		if err == nil {
			longest = max(longest, d.WorkflowExecutionInfo.GetHistoryLength())
		}
	}
	k.taken = append(k.taken, soakSample{
		minutes: time.Since(k.began).Minutes(), resident: sitetest.Resident(k.T, k.steady.Process.Pid), goroutines: figures["go_goroutines"],
		cached:   figures["temporal_sticky_cache_size"],
		sessions: float64(k.VC.Sessions()), histories: float64(longest),
	})
}

// open are the ids of the workflows that run.
func (k *soak) open() (ids []string) {
	list, err := k.Temporal.ListWorkflow(k.T.Context(), &workflowservice.ListWorkflowExecutionsRequest{
		Query: fmt.Sprintf("ExecutionStatus = 'Running' AND TaskQueue = %q", k.Queue), PageSize: 1000,
	})
	k.Must(err)
	for _, e := range list.GetExecutions() {
		ids = append(ids, e.GetExecution().GetWorkflowId())
	}
	return ids
}

// calm lets every alarm fall, and waits until no round is under way and all VMs are on.
func (k *soak) calm() {
	for _, cluster := range k.clusters() {
		if k.red[cluster] {
			k.turn(cluster)
		}
	}
	// The last worker was killed a moment ago: what it did is taken over after its heartbeat's timeout, and then vCenter's
	// events are waited for.
	began, active := time.Now(), ""
	for active = k.active(); active != ""; active = k.active() {
		if time.Since(began) > soakCalm {
			k.T.Fatalf("%s is still under way %s after the last change", active, soakCalm)
		}
		time.Sleep(100 * time.Millisecond)
	}
	k.quiet = time.Since(began)
	k.Eventually("the VMs are on again", func() bool {
		on := true
		for _, vm := range k.VC.TaggedVMs("") {
			if !k.On(vm) {
				on = false
				_ = k.VC.PowerOnAs(vm.Ref, "CORP\\owner")
			}
		}
		return on
	})
}

// answersAll lets each alarm rise once more, and says how soon it was acted upon.
func (k *soak) answersAll() {
	var took []time.Duration
	for _, cluster := range k.clusters() {
		began := time.Now()
		k.turn(cluster)
		for k.offIn(cluster) == 0 {
			if time.Since(began) > soakAnswer {
				k.T.Errorf("the alarm on %s is not acted upon after %s: %+v", cluster, soakAnswer, k.State(k.Intake("cpu", cluster)))
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		took = append(took, time.Since(began))
		k.turn(cluster)
	}
	slices.Sort(took)
	fmt.Fprintf(k.T.Output(), "soak of %s: %d alarm changes, %d workers killed; the last round ended %s after the last change; then an alarm is acted upon after %s (median), %s (longest)\n",
		*soakFor, k.flaps, k.kills, k.quiet.Round(time.Millisecond), took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
}

func (k *soak) offIn(cluster string) (n int) {
	for _, vm := range k.VC.TaggedVMs(cluster) {
		if !k.On(vm) {
			n++
		}
	}
	return n
}

// wantRolls checks that the long-lived workflows have continued as new, and prints how often.
func (k *soak) wantRolls() {
	least := int64(1 + *soakFor/(10*time.Minute)) // several in the soak of half an hour
	for kind, want := range map[string]int64{
		ledger.WorkflowType: least, watchapi.WorkflowType: least, preemption.WorkflowName: least, preemptapi.RestoreType: 0,
	} {
		n, err := k.Temporal.CountWorkflow(k.T.Context(), &workflowservice.CountWorkflowExecutionsRequest{
			Query: fmt.Sprintf("ExecutionStatus = 'ContinuedAsNew' AND WorkflowType = %q AND TaskQueue = %q", kind, k.Queue),
		})
		k.Must(err)
		fmt.Fprintf(k.T.Output(), "soak: %s continued as new %d times\n", kind, n.GetCount())
		if n.GetCount() < want {
			k.T.Errorf("%s continued as new %d times in %s, want %d at least", kind, n.GetCount(), *soakFor, want)
		}
	}
	fmt.Fprintf(k.T.Output(), "soak: %d rounds\n", k.count(preemptapi.RoundType))
}

func (k *soak) count(kind string) int64 {
	n, err := k.Temporal.CountWorkflow(k.T.Context(), &workflowservice.CountWorkflowExecutionsRequest{
		Query: fmt.Sprintf("WorkflowType = %q AND TaskQueue = %q", kind, k.Queue),
	})
	k.Must(err)
	return n.GetCount()
}

// wantFlat prints how what a worker holds changed over the second half of the soak, and checks its bounds.
func (k *soak) wantFlat() {
	half := k.taken[len(k.taken)/2:]
	for name, of := range map[string]func(soakSample) float64{
		"resident MiB of the steady worker": func(s soakSample) float64 { return s.resident },
		"goroutines of the steady worker":   func(s soakSample) float64 { return s.goroutines },
		"workflows cached by it":            func(s soakSample) float64 { return s.cached },
		"goroutines for each of them":       func(s soakSample) float64 { return s.goroutines / max(s.cached, 1) },
		"sessions in vCenter":               func(s soakSample) float64 { return s.sessions },
		"events of the longest history":     func(s soakSample) float64 { return s.histories },
	} {
		mean, slope := trend(half, of)
		fmt.Fprintf(k.T.Output(), "soak: %s: mean %.1f, slope %+.3f a minute over the last half\n", name, mean, slope)
	}
	for _, s := range half {
		if s.histories > 25*sitetest.RollAfter {
			k.T.Errorf("a history of %.0f events: nothing rolls it over", s.histories)
		}
		if s.resident > 256 {
			k.T.Errorf("the steady worker holds %.0f MiB", s.resident)
		}
	}
}

// trend is the mean of a figure and its slope a minute, by least squares.
func trend(samples []soakSample, of func(soakSample) float64) (mean, slope float64) {
	n := float64(len(samples))
	var x, y, xy, xx float64
	for _, s := range samples {
		x, y = x+s.minutes, y+of(s)
	}
	x, y = x/n, y/n
	for _, s := range samples {
		xy += (s.minutes - x) * (of(s) - y)
		xx += (s.minutes - x) * (s.minutes - x)
	}
	if xx == 0 {
		return y, 0
	}
	return y, xy / xx
}
