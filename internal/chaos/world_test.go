package chaos

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

const (
	namespace = "chaos"
	queue     = "chaos"
	alarmName = "chaos"
	maxVMs    = 3                     // of a round
	latency   = 10 * time.Millisecond // of a call of vCenter
)

// config is the workers' file.
const config = `
limits:
  replyAllow: [127.0.0.1]
policies:
  default:
    maxVMs: 3
    cooldown: 500ms
    repeatWhileRed: false
    powerOffTimeout: 1m
    lateWatch: 2s
    withdrawWait: 1s
    criticality:
      MEDIUM: {action: shutdownGuest, notice: 1s, gracePeriod: 3s, thenForce: true}
    restore: {enabled: true, settle: 1s, wave: 3, giveUp: 1h} # all of a round: from wave to wave a restore waits 30 s
rules:
  - alarm: chaos
    preempt: {tag: preemptible, replyTo: %q, criticality: {yellow: MEDIUM, red: HIGH}}
`

// world is a site under attack: a simulated vCenter, a Temporal, two workers, and whoever is told of preemptions.
type world struct {
	t        *testing.T
	random   *rand.Rand
	vc       *simulation.VCenter
	temporal temporal
	client   client.Client
	address  string // of Temporal
	programs string // folder of the released programs
	secret   string
	config   string
	ca       string // file of the certificate that workers trust; "": they trust any
	workers  [2]*child
	change   func(w *world, i int, cmd *exec.Cmd) // how a worker is started
	sink     *sink
	colours  map[string]string // of the alarm, by cluster
	times    map[string]int    // that a VM was preempted
	judged   map[string]bool   // rounds

	clockJumps bool // of vCenter: events are not found at their times
}

// site is what a world consists of.
type site struct {
	temporal func(*testing.T) temporal
	tagged   int                                  // VMs of a cluster that may go; 0: five
	config   string                               // of the workers; "": the usual one
	worker   func(w *world, i int, cmd *exec.Cmd) // changes how a worker is started; nil: nothing
}

func newWorld(t *testing.T, random *rand.Rand, s site) *world {
	t.Helper()
	w := &world{t: t, random: random, programs: programs(t, "worker", "preemptctl"), secret: t.TempDir(), sink: newSink(t), colours: map[string]string{}, times: map[string]int{}, judged: map[string]bool{}, change: s.worker}
	w.config = filepath.Join(t.TempDir(), "preemption.yaml")
	w.must(os.WriteFile(w.config, fmt.Appendf(nil, cmp.Or(s.config, config), w.sink.URL), 0o600))
	w.startVCenter(t, cmp.Or(s.tagged, 5))
	w.temporal = s.temporal(t)
	w.address = w.temporal.hostPort()
	w.eventually("Temporal takes its namespace", func() error { return w.tryCtl("setup") })
	c, err := client.NewLazyClient(client.Options{
		HostPort: w.temporal.hostPort(), Namespace: namespace, Logger: sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	w.must(err)
	t.Cleanup(c.Close)
	w.client = c
	for i := range w.workers {
		w.startWorker(i)
	}
	return w
}

func (w *world) startVCenter(t *testing.T, tagged int) {
	t.Helper()
	vc, err := simulation.Start(t.Context(), simulation.Options{Clusters: 4, HostsPerCluster: 2, VMsPerCluster: tagged + 3, Tagged: tagged, Latency: latency})
	w.must(err)
	t.Cleanup(vc.Close)
	vc.SetTaskDelay(300 * time.Millisecond)
	vc.SetShutdownDelay(800 * time.Millisecond)
	vc.LagEvents(func(string) time.Duration { return time.Duration(rand.IntN(1500)) * time.Millisecond })
	w.must(vc.WriteSecret(w.secret))
	w.vc = vc
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// patience is how long anything may take that must come about by itself.
const patience = 4 * time.Minute

// eventually waits until f fails no more.
func (w *world) eventually(what string, f func() error) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.t.Errorf("never: %s: %v", what, err) // first: what follows is long
			w.tellWorkflows()
			w.t.FailNow()
		}
	}
}

// startWorker starts a worker as in production: by its documented environment alone.
func (w *world) startWorker(i int) {
	w.t.Helper()
	cmd := exec.Command(filepath.Join(w.programs, "worker"))
	cmd.Env = []string{
		"TEMPORAL_URL=" + w.temporal.hostPort(), "TEMPORAL_NAMESPACE=" + namespace, "TEMPORAL_TASKQUEUE=" + queue,
		"VCENTER_URL=" + w.vc.URL(), "VCENTER_INSECURE=true", "VCENTER_SECRET_PATH=" + w.secret, "HTTP_ADDR=127.0.0.1:0",
		"PREEMPTION_CONFIG=" + w.config, "HOME=" + w.t.TempDir(),
	}
	if w.change != nil {
		w.change(w, i, cmd)
	}
	w.workers[i] = spawn(w.t, fmt.Sprintf("worker %d", i+1), cmd)
}

func (w *world) killWorker(i int) {
	w.workers[i].kill()
	w.startWorker(i)
}

func (w *world) clusters() []simulation.Cluster { return w.vc.Inventory().Clusters }

// turn changes the colour of the alarm on a cluster.
func (w *world) turn(c simulation.Cluster, to string) {
	w.t.Helper()
	from := w.colours[c.Name]
	if from == "" {
		from = "green"
	}
	_, err := w.vc.PostAlarm(w.t.Context(), simulation.AlarmChange{Name: alarmName, Entity: c.Hosts[0].Ref, Cluster: c.Ref, From: from, To: to})
	w.must(err)
	w.colours[c.Name] = to
}

// rounds returns the rounds that began since then by their cluster, but those that were judged; an error while Temporal is
// away or one is under way.
func (w *world) rounds(since time.Time) (map[string][]preemptapi.RoundResult, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	list, err := w.client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
		Query: fmt.Sprintf("WorkflowType = %q AND StartTime >= %q", preemptapi.RoundType, since.UTC().Format(time.RFC3339Nano)), PageSize: 1000,
	})
	if err != nil {
		return nil, err
	}
	all := map[string][]preemptapi.RoundResult{}
	for _, e := range list.GetExecutions() {
		id := e.GetExecution().GetWorkflowId()
		if w.judged[id] {
			continue
		}
		if e.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
			return nil, fmt.Errorf("%s is under way", id)
		}
		var r preemptapi.RoundResult
		r, err := preemptapi.ResultOf(w.client.GetWorkflow(ctx, id, e.GetExecution().GetRunId()).Get(ctx, &r), r)
		if err != nil {
			return nil, fmt.Errorf("%s ended without a result: %w", id, err)
		}
		all[r.Scope.Value] = append(all[r.Scope.Value], r)
	}
	return all, nil
}

// tellWorkflows logs the states of the intakes and the results of the last restores, for whoever asks why something did
// not happen.
func (w *world) tellWorkflows() {
	w.tellOpen()
	for _, c := range w.clusters() {
		ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
		var state string
		v, err := w.client.QueryWorkflow(ctx, alarmName+"@"+c.Ref.Value+"@"+queue, "", preemption.WorkFlowQueryType)
		if err == nil {
			err = v.Get(&state)
		}
		w.t.Logf("the intake of %s: %s %v", c.Name, state, err)
		var result json.RawMessage
		err = w.client.GetWorkflow(ctx, "restore@"+c.Ref.Value+"@"+queue, "").Get(ctx, &result)
		cancel()
		w.t.Logf("the last restore of %s: %s %v", c.Name, result, err)
	}
}

// attributes are the texts of the attribute by VM.
func (w *world) attributes() map[string]string {
	all := map[string]string{}
	for _, vm := range w.vc.VMs() {
		all[vm.Ref.Value], _ = w.vc.Attribute(vm.Ref, preemption.AttributeKey)
	}
	return all
}

// attribute is what a VM's attribute says of its preemption.
type attribute struct {
	Preempted bool   `json:"preempted"`
	Restored  bool   `json:"restored"`
	RoundID   string `json:"roundID"`
}

func (w *world) attribute(ref types.ManagedObjectReference) (a attribute) {
	text, ok := w.vc.Attribute(ref, preemption.AttributeKey)
	if ok && text != "" {
		w.must(json.Unmarshal([]byte(text), &a))
	}
	return a
}

// judge compares what vCenter shows with what the rounds of one instant report. It returns what must not be.
func (w *world) judge(before map[string]string, rounds map[string][]preemptapi.RoundResult) (violations []string, off int) {
	wrong := func(format string, args ...any) { violations = append(violations, fmt.Sprintf(format, args...)) }
	claimed := map[string]string{} // the round that claims a VM
	for scope, rs := range rounds {
		for _, r := range rs {
			w.judged[r.RoundID] = true
			n := 0
			for _, t := range r.Targets {
				if !t.Outcome.Ours() {
					continue
				}
				if other, twice := claimed[t.Ref.Value]; twice {
					wrong("%s is claimed by %s and %s", t.Name, other, r.RoundID)
				}
				if !t.Annotated {
					wrong("%s is reported without its attribute by %s", t.Name, r.RoundID)
				}
				claimed[t.Ref.Value] = r.RoundID
				n++
			}
			if n > maxVMs {
				wrong("%s powered off %d VMs, more than its limit of %d", r.RoundID, n, maxVMs)
			}
			if r.State != preemptapi.RoundCompleted && r.State != preemptapi.RoundEmpty {
				wrong("%s on %s ended as %s: %s", r.RoundID, scope, r.State, r.Reason)
			}
			if n > 0 && !r.ReplySent {
				wrong("nobody was told of %s: %s", r.RoundID, r.ReplyError)
			}
		}
	}
	for _, c := range w.clusters() {
		tagged := w.vc.TaggedVMs(c.Name)
		for _, vm := range w.vc.VMs() {
			if vm.Cluster != c.Name {
				continue
			}
			round, ours := claimed[vm.Ref.Value]
			isOff, a := w.vc.PowerState(vm.Ref) != types.VirtualMachinePowerStatePoweredOn, w.attribute(vm.Ref)
			text, _ := w.vc.Attribute(vm.Ref, preemption.AttributeKey)
			written := text != before[vm.Ref.Value]
			mayGo := slices.ContainsFunc(tagged, func(o simulation.VM) bool { return o.Ref == vm.Ref })
			switch {
			case isOff && !mayGo:
				wrong("%s is off and carries no tag", vm.Name)
			case isOff && !ours:
				wrong("%s is off and in no result", vm.Name)
			case ours && !isOff:
				wrong("%s is reported off by %s and is on", vm.Name, round)
			case ours && (!a.Preempted || a.RoundID != round):
				wrong("%s was preempted by %s, and its attribute is %s", vm.Name, round, text)
			case !ours && written:
				wrong("%s was not preempted, and its attribute became %s", vm.Name, text)
			}
			if isOff {
				off++
			}
			if ours {
				w.times[vm.Ref.Value]++
			}
		}
	}
	return violations, off
}

// tooOften is how many preemptions within a day make a restore leave a VM to its owner.
const tooOften = 3

// back is nil when all VMs are on and those that were preempted are marked as restored. Those that are preempted too
// often are powered on by their owner, and so are those that a restore leaves off for a reason.
func (w *world) back() error {
	left := w.leftOff()
	for _, vm := range w.vc.VMs() {
		if w.times[vm.Ref.Value] >= tooOften || left[vm.Ref.Value] {
			if w.vc.PowerState(vm.Ref) != types.VirtualMachinePowerStatePoweredOn {
				_ = w.vc.PowerOnAs(vm.Ref, "CORP\\owner")
			}
			continue
		}
		if w.vc.PowerState(vm.Ref) != types.VirtualMachinePowerStatePoweredOn {
			return fmt.Errorf("%s is off", vm.Name)
		}
		if a := w.attribute(vm.Ref); a.Preempted || a.RoundID != "" && !a.Restored {
			return fmt.Errorf("%s is on, and its attribute says %+v", vm.Name, a)
		}
	}
	return nil
}

// leftOff are the VMs that the last restores left off: vCenter's events do not prove who turned them off, where its clock
// jumped.
func (w *world) leftOff() map[string]bool {
	left := map[string]bool{}
	for _, c := range w.clusters() {
		if !w.clockJumps {
			break
		}
		ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Second)
		var r preemptapi.RestoreResult
		if w.client.GetWorkflow(ctx, "restore@"+c.Ref.Value+"@"+queue, "").Get(ctx, &r) == nil {
			for _, vm := range r.Left {
				if vm.Reason == policy.NoEvidence {
					left[vm.Ref.Value] = true
				}
			}
		}
		cancel()
	}
	return left
}
