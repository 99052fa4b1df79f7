package record

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/ledger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Now is how everything stands. Each part has its age, and its error if it could not be read: then it is as it was read
// last, or empty.
type Now struct {
	At       time.Time `json:"at"`
	Workers  Workers   `json:"workers"`
	Open     []Entry   `json:"open"` // work under way, newest first
	OpenAt   time.Time `json:"openAt,omitzero"`
	Intakes  []Intake  `json:"intakes"`
	Ledger   Ledger    `json:"ledger"`
	Watch    Watch     `json:"watch"`
	Clusters []Cluster `json:"clusters"`
	Off      []Off     `json:"off"` // VMs that are off, or throttled, because of us, by the record
	Reach    Reach     `json:"reach"`
	Troubles []Trouble `json:"troubles"` // parts that could not be read
}

// Trouble is a part that could not be read, and why.
type Trouble struct {
	Part  string `json:"part"`
	Error string `json:"error"`
}

// Workers are those that poll the task queue.
type Workers struct {
	At      time.Time `json:"at,omitzero"`
	Polled  bool      `json:"polled"`
	Pollers []Poller  `json:"pollers"`
}

// Poller is one worker that polls.
type Poller struct {
	Identity string    `json:"identity"`
	LastSeen time.Time `json:"lastSeen"`
}

// Intake is the intake of one alarm, or of one client, that runs.
type Intake struct {
	ID       string                 `json:"id"`
	State    preemptapi.IntakeState `json:"state"`
	RoundID  string                 `json:"roundID,omitempty"`
	Levels   []preemptapi.Level     `json:"levels,omitempty"`
	Deferred []preemptapi.Deferral  `json:"deferred,omitempty"`
	Decision *preemptapi.Decision   `json:"lastDecision,omitempty"`
	Failure  string                 `json:"failure,omitempty"`
	At       time.Time              `json:"at"`
	Error    string                 `json:"error,omitempty"`
}

// Ledger is what the ledger says.
type Ledger struct {
	At       time.Time            `json:"at,omitzero"`
	Running  bool                 `json:"running"`
	Alarms   []ledger.ActiveAlarm `json:"alarms"`   // that are active, with the scopes that they keep from restores
	Reserved map[string]int       `json:"reserved"` // VMs that are reserved, by the workflow that holds them
	Scopes   []LedgerScope        `json:"scopes"`   // that are active or in their cooldown
	Pauses   []ledger.Pause       `json:"pauses"`   // that persons hold up
	Spares   []ledger.Spare       `json:"spares"`   // VMs that persons spare
}

// LedgerScope is a scope in which a round is active, or that is in its cooldown.
type LedgerScope struct {
	Scope  string    `json:"scope"` // Type:Value; empty: everything
	Active string    `json:"active,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	Until  time.Time `json:"until,omitzero"` // end of the cooldown
}

// Watch is what the watch says.
type Watch struct {
	At      time.Time       `json:"at,omitzero"`
	Running bool            `json:"running"`
	State   *watchapi.State `json:"state,omitempty"`
}

// Cluster is the last measured usage of a cluster, a host or everything. Only plans measure.
type Cluster struct {
	policy.Usage
	Next []policy.Next `json:"next,omitempty"` // who would go as well if more had to, by that plan
	At   time.Time     `json:"at"`             // of the plan that measured it
	By   string        `json:"by"`             // workflow id of the round or restore
}

// parts are the last answers to questions that are asked at most so often.
type parts struct {
	mu   sync.Mutex // held while they are asked: one caller asks for all
	open atomic.Pointer[[]Entry]
	// idle says that nobody polls the task queue.
	idle atomic.Bool
	last Now
	err  map[string]error
	due  map[string]time.Time
}

// How often each part is asked for, whoever looks.
const (
	openEvery    = 900 * time.Millisecond
	ledgerEvery  = 3 * time.Second
	intakesEvery = 3 * time.Second
	endedEvery   = 2 * time.Second
)

// Now returns how everything stands. Its error means that Temporal did not answer at all; what was known before is
// returned all the same.
func (r *Reader) Now(ctx context.Context) (Now, error) {
	p := &r.parts
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.due == nil {
		p.due, p.err = map[string]time.Time{}, map[string]error{}
		p.last = Now{Open: []Entry{}, Intakes: []Intake{}, Clusters: []Cluster{}, Workers: Workers{Pollers: []Poller{}}}
	}
	r.ask(ctx, "workers", openEvery, r.readWorkers)
	if err := p.err["workers"]; err != nil { // Temporal is away: the others would wait for it, too
		p.err["work under way"] = err
		return r.assemble()
	}
	r.ask(ctx, "work under way", openEvery, r.readOpen)
	r.ask(ctx, "ledger", ledgerEvery, r.readLedger)
	r.ask(ctx, "watch", ledgerEvery, r.readWatch)
	r.ask(ctx, "what has ended", endedEvery, func(ctx context.Context) error { return r.extend(ctx, r.now().Add(-recently)) })
	return r.assemble()
}

// recently is how far back Now reads what has ended; who is off longer is known if History has read further.
const recently = 24 * time.Hour

// ask asks for a part, unless it was asked for a moment ago.
func (r *Reader) ask(ctx context.Context, name string, every time.Duration, read func(context.Context) error) {
	if now := r.now(); !now.Before(r.parts.due[name]) {
		r.parts.err[name] = read(ctx)
		r.parts.due[name] = r.now().Add(every)
	}
}

// openNow returns the work that was under way when it was last asked for.
func (r *Reader) openNow() []Entry {
	if open := r.parts.open.Load(); open != nil {
		return *open
	}
	return nil
}

// assemble puts the parts together.
func (r *Reader) assemble() (Now, error) {
	p := &r.parts
	out := p.last
	out.At = r.now()
	var past []Entry
	past, out.Reach = r.ended(time.Time{})
	out.Off = OffBy(past, p.last.Open)
	out.Clusters = clusters(past, p.last.Open)
	out.Troubles = []Trouble{}
	var first error
	for _, name := range []string{"workers", "work under way", "ledger", "watch", "what has ended"} {
		if err := p.err[name]; err != nil {
			out.Troubles = append(out.Troubles, Trouble{Part: name, Error: err.Error()})
			if name == "work under way" {
				first = err
			}
		}
	}
	return out, first
}

// clusters returns the last measured usage of each scope, by name.
func clusters(past, open []Entry) []Cluster {
	seen := map[vsphere.Ref]Cluster{}
	for _, e := range slices.Concat(open, past) {
		at := e.measuredAt()
		for _, u := range e.Usage {
			if known, ok := seen[u.Scope]; !ok || known.At.Before(at) {
				seen[u.Scope] = e.cluster(u, at)
			}
		}
	}
	all := []Cluster{}
	for _, c := range seen {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b Cluster) int {
		return cmp.Or(strings.Compare(a.Scope.Type, b.Scope.Type), strings.Compare(a.Name, b.Name), strings.Compare(a.Scope.Value, b.Scope.Value))
	})
	return all
}

// answerLimit is how long Temporal may take to answer the first question.
const answerLimit = 3 * time.Second

// fresh is how long ago a worker that is there polled at most: a poll lasts up to a minute.
const fresh = 75 * time.Second

func (r *Reader) readWorkers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	d, err := r.Client.DescribeTaskQueue(ctx, r.TaskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		return fmt.Errorf("look who polls task queue %s: %w", r.TaskQueue, err)
	}
	w := Workers{At: r.now(), Pollers: []Poller{}}
	for _, p := range d.GetPollers() {
		seen := p.GetLastAccessTime().AsTime()
		w.Pollers = append(w.Pollers, Poller{Identity: p.GetIdentity(), LastSeen: seen})
		w.Polled = w.Polled || w.At.Sub(seen) < fresh
	}
	slices.SortFunc(w.Pollers, func(a, b Poller) int { return strings.Compare(a.Identity, b.Identity) })
	r.parts.last.Workers = w
	r.parts.idle.Store(!w.Polled)
	return nil
}

// errNoWorker is the error of a question that only a worker can answer.
var errNoWorker = errors.New("no worker polls the task queue, so nobody can answer for it")

// query asks a workflow.
func (r *Reader) query(ctx context.Context, id, run, what string, to any) error {
	if r.parts.idle.Load() {
		return errNoWorker
	}
	ctx, cancel := context.WithTimeout(ctx, r.limits().Query)
	defer cancel()
	v, err := r.Client.QueryWorkflow(ctx, id, run, what)
	var refused *serviceerror.QueryFailed
	if errors.As(err, &refused) { // also if the history grew while a worker read it, which the second query sees whole
		v, err = r.Client.QueryWorkflow(ctx, id, run, what)
	}
	if err != nil {
		return fmt.Errorf("ask workflow %s: %w", id, err)
	}
	if err := v.Get(to); err != nil {
		return fmt.Errorf("read the answer of workflow %s: %w", id, err)
	}
	return nil
}

// readOpen reads the work under way.
func (r *Reader) readOpen(ctx context.Context) error {
	l := r.limits()
	infos, _, err := r.page(ctx, fmt.Sprintf("ExecutionStatus = 'Running' AND WorkflowType IN (%s)", types(preemption.WorkflowName)), l.Open, nil)
	if err != nil {
		return err
	}
	var work, intakes []*workflowpb.WorkflowExecutionInfo
	for _, info := range infos {
		switch {
		case info.GetType().GetName() == preemption.WorkflowName:
			intakes = append(intakes, info)
		case !strings.HasPrefix(info.GetExecution().GetWorkflowId(), dryRestore):
			work = append(work, info)
		}
	}
	open := make([]Entry, len(work))
	_ = r.each(len(work), func(i int) error { // each entry keeps its own error
		open[i] = r.shell(work[i])
		if err := r.state(ctx, &open[i], work[i].GetType().GetName()); err != nil {
			open[i].unread(err)
		}
		return nil
	})
	slices.SortStableFunc(open, func(a, b Entry) int { return b.StartedAt.Compare(a.StartedAt) })
	r.parts.last.Open, r.parts.last.OpenAt = open, r.now()
	r.parts.open.Store(&open)
	r.ask(ctx, "intakes", intakesEvery, func(ctx context.Context) error { r.readIntakes(ctx, intakes); return nil })
	return nil
}

// state asks a workflow under way for its state.
func (r *Reader) state(ctx context.Context, e *Entry, kind string) (err error) {
	switch kind {
	case preemptapi.RoundType:
		var v preemptapi.RoundResult
		if err = r.query(ctx, e.ID, e.RunID, preemptapi.RoundStateQuery, &v); err == nil {
			ofRound(e, v)
		}
	case preemptapi.RestoreType:
		var v preemptapi.RestoreResult
		if err = r.query(ctx, e.ID, e.RunID, preemptapi.RestoreStateQuery, &v); err == nil {
			ofRestore(e, v)
		}
	case preemption.MakeRoomWorkflowName:
		var v preemptapi.RoomResult
		if err = r.query(ctx, e.ID, e.RunID, preemption.RoomStateQuery, &v); err == nil {
			ofRooms(e, v)
		}
	case placement.ResizeType, placement.ReconfigureType, placement.MoveType:
		var v remediateapi.Report
		if err = r.query(ctx, e.ID, e.RunID, remediateapi.StateQuery, &v); err == nil {
			ofReport(e, v)
		}
	default:
		e.State = stateRunning
	}
	return err
}

// readIntakes asks the intakes for the alarms that they have, and what they put off.
func (r *Reader) readIntakes(ctx context.Context, infos []*workflowpb.WorkflowExecutionInfo) {
	infos = infos[:min(len(infos), r.limits().Intakes)]
	all := make([]Intake, len(infos))
	_ = r.each(len(infos), func(i int) error { // each has its own error
		id := infos[i].GetExecution().GetWorkflowId()
		all[i] = Intake{ID: id, At: r.now()}
		var text string
		var v preemptapi.Response
		err := r.query(ctx, id, infos[i].GetExecution().GetRunId(), preemption.WorkFlowQueryType, &text)
		if err == nil {
			err = json.Unmarshal([]byte(text), &v)
		}
		if err != nil {
			all[i].Error = err.Error()
			return nil
		}
		all[i].State, all[i].RoundID, all[i].Levels, all[i].Deferred = v.State, v.RoundID, v.Levels, v.Deferred
		all[i].Decision, all[i].Failure = v.LastDecision, v.Failure
		return nil
	})
	slices.SortFunc(all, func(a, b Intake) int { return strings.Compare(a.ID, b.ID) })
	r.parts.last.Intakes = all
}
