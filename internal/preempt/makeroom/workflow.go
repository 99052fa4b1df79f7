package makeroom

import (
	"encoding/json"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/delivery"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt/round"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tally"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Input carries what a run leaves to the next one. Clients start the workflow without it.
type Input struct {
	Rooms   []preemptapi.RoomOutcome `json:"rooms,omitempty"`
	Held    []held                   `json:"held,omitempty"`
	Quiet   []quiet                  `json:"quiet,omitempty"`
	Pending []json.RawMessage        `json:"pending,omitempty"`
}

// held is room that is kept for somebody until a time.
type held struct {
	RequestID string            `json:"requestID"`
	Until     time.Time         `json:"until"`
	VM        vsphere.Ref       `json:"vm,omitzero"`
	Ask       Ask               `json:"ask"`
	Room      policy.HeldRoom   `json:"room"`
	More      []policy.HeldRoom `json:"more,omitempty"` // on the other hosts, if it was asked for on several
}

// quiet is a VM for which no rule asks again until a time: vCenter's refusal of our own power-on is such an event.
type quiet struct {
	VM    vsphere.Ref `json:"vm"`
	Until time.Time   `json:"until"`
}

// How the workflow waits, and what it keeps.
const (
	gather     = 2 * time.Second // for more events of the same host's death
	quietFor   = 5 * time.Minute
	heldLook   = 15 * time.Second // how often the workflow looks whether a VM runs whose room it holds
	maxPending = 1000
	maxKept    = 100
)

// MakeRoom is the workflow that makes room for those who ask by preemption.RoomSignal: those of a cluster together, by
// priority. It ends when nobody asks any more and no room is held.
func MakeRoom(ctx workflow.Context, in Input) (preemptapi.RoomResult, error) {
	m := newMaking(ctx, in)
	if err := workflow.SetQueryHandler(ctx, preemption.RoomStateQuery, func() (preemptapi.RoomResult, error) { return m.result, nil }); err != nil {
		return preemptapi.RoomResult{}, err
	}
	workflow.Go(m.ctx, m.listen)
	workflow.Go(m.ctx, m.listenDone)
	workflow.Go(ctx, m.listenCancel)
	for {
		m.await()
		if asks := m.take(); len(asks) > 0 {
			m.serve(asks)
		}
		m.endHolds()
		switch {
		case len(m.pending) > 0:
		case m.cancelled || len(m.held) == 0 && len(m.quiet) == 0:
			m.tellHolds()
			if m.out.Close(m.ctx) {
				continue // somebody may have asked meanwhile
			}
			return m.result, nil
		case m.out.Close(m.ctx):
		case workflow.GetInfo(ctx).GetContinueAsNewSuggested():
			return m.result, workflow.NewContinueAsNewError(ctx, preemption.MakeRoomWorkflowName, Input{Rooms: m.result.Rooms, Held: m.held, Quiet: m.quiet, Pending: m.pending})
		}
	}
}

// making is the state of one run of the workflow.
type making struct {
	ctx       workflow.Context // never cancelled: what has begun is brought to its end
	info      *workflow.Info
	result    preemptapi.RoomResult
	pending   []json.RawMessage
	held      []held
	quiet     []quiet
	timing    preempt.Timing
	attrs     bool
	perHour   int
	cancelled bool
	roundID   string                  // of the round under way; "": none
	done      *preemptapi.RoundResult // its result, once it has told
	vain      []vain
	scopes    []string        // of the rooms that are being made
	out       delivery.Outbox // what people are told
	told      string          // what the ledger was last told is held
}

func newMaking(ctx workflow.Context, in Input) *making {
	own, _ := workflow.NewDisconnectedContext(ctx)
	info := workflow.GetInfo(ctx)
	m := &making{ctx: tally.With(own), info: info, pending: in.Pending, held: in.Held, quiet: in.Quiet, timing: preempt.DefaultTiming()}
	m.result = preemptapi.RoomResult{WorkflowID: info.WorkflowExecution.ID, RunID: info.WorkflowExecution.RunID, Rooms: in.Rooms}
	return m
}

// listen takes requests.
func (m *making) listen(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, preemption.RoomSignal)
	for {
		var raw json.RawMessage
		if !ch.Receive(ctx, &raw) {
			return
		}
		if len(m.pending) >= maxPending {
			m.reject("more than 1000 requests wait: this one is not taken")
			continue
		}
		m.pending = append(m.pending, raw)
	}
}

// listenDone takes the result of the round under way, which comes before the round's end.
func (m *making) listenDone(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, round.DoneSignal)
	for {
		var r preemptapi.RoundResult
		if !ch.Receive(ctx, &r) {
			return
		}
		if r.RoundID == m.roundID {
			m.done = &r
		}
	}
}

// listenCancel withdraws the round under way, and gives up what is held.
func (m *making) listenCancel(ctx workflow.Context) {
	ctx.Done().Receive(ctx, nil)
	m.cancelled = true
	if m.roundID != "" {
		// That the round has ended meanwhile is no fault.
		_ = workflow.SignalExternalWorkflow(m.ctx, m.roundID, "", round.ChangeSignal, round.Change{Withdraw: true, Reason: "the request for room was cancelled"}).Get(m.ctx, nil)
	}
}

// await waits until somebody asks, or something that is held has to be looked at.
func (m *making) await() {
	ready := func() bool { return len(m.pending) > 0 || m.cancelled }
	if next, ok := m.next(); ok {
		// Its error is that of a context which is never cancelled.
		_, _ = workflow.AwaitWithTimeout(m.ctx, max(0, next.Sub(m.now())), ready)
		return
	}
	_ = workflow.Await(m.ctx, ready)
}

// next is when the first hold is looked at, or the first quiet time ends; ok is false for never.
func (m *making) next() (at time.Time, ok bool) {
	for _, h := range m.held {
		look := h.Until
		if !h.VM.Zero() && m.now().Add(heldLook).Before(look) {
			look = m.now().Add(heldLook)
		}
		if !ok || look.Before(at) {
			at, ok = look, true
		}
	}
	for _, q := range m.quiet {
		if !ok || q.Until.Before(at) {
			at, ok = q.Until, true
		}
	}
	return at, ok
}

// take returns the requests that came together.
func (m *making) take() []json.RawMessage {
	if len(m.pending) == 0 {
		return nil
	}
	if !slices.ContainsFunc(m.pending, fromPerson) {
		_ = workflow.Sleep(m.ctx, gather) // m.ctx is never cancelled
	}
	asks := m.pending
	m.pending = nil
	return asks
}

// fromPerson reports whether somebody waits for a request.
func fromPerson(raw json.RawMessage) bool {
	var r struct {
		Origin string `json:"origin"`
	}
	return json.Unmarshal(raw, &r) == nil && r.Origin == preemption.OriginPerson
}

func (m *making) now() time.Time { return workflow.Now(m.ctx).UTC() }

func (m *making) reject(reason string) {
	workflow.GetLogger(m.ctx).Warn("a request for room was not taken", "reason", reason)
	tally.Add(m.ctx, "preemption_rooms", map[string]string{"state": string(preemptapi.RoomRefused)})
	m.result.Rejected = append(m.result.Rejected, preemptapi.Rejection{Time: m.now(), Reason: reason})
	m.result.Rejected = m.result.Rejected[max(0, len(m.result.Rejected)-maxKept):]
}

// outcome returns the outcome of a request; it is there once the request was looked at.
func (m *making) outcome(requestID string) *preemptapi.RoomOutcome {
	for i := range m.result.Rooms {
		if m.result.Rooms[i].RequestID == requestID {
			return &m.result.Rooms[i]
		}
	}
	return &preemptapi.RoomOutcome{}
}

// end records how a request ended.
func (m *making) end(requestID string, state preemptapi.RoomState, reason string) {
	o := m.outcome(requestID)
	o.State, o.Reason, o.EndedAt = state, reason, m.now()
	tally.Add(m.ctx, "preemption_rooms", map[string]string{"state": string(state)})
	preempt.Upsert(m.ctx, m.attrs, "", o.Cluster.String(), string(state))
	m.tellEnd(o)
	workflow.GetLogger(m.ctx).Info("room", "for", o.For, "state", state, "host", o.HostName, "reason", reason, "gone", len(o.Gone))
	if o.Rule != "" && !o.VM.Zero() && state != preemptapi.RoomRunning {
		m.quiet = append(m.quiet, quiet{VM: o.VM, Until: m.now().Add(quietFor)})
	}
}
