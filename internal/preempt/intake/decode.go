package intake

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Message is a signal or update that reached the intake, not yet decoded.
type Message struct {
	Alarm bool            `json:"alarm,omitempty"` // an AlarmChange; otherwise a WorkflowRequest
	JSON  json.RawMessage `json:"json"`
	Again int             `json:"again,omitempty"` // how many more of the same came right behind it
	Plan  bool            `json:"plan,omitempty"`  // it is only planned
}

// Decoded is what a message says, or why it is rejected.
type Decoded struct {
	Demand   *preemptapi.Demand `json:"demand,omitempty"`
	Change   *preemptapi.Change `json:"change,omitempty"` // an alarm change; with no demand: a fall or gray
	From     string             `json:"from,omitempty"`
	Rejected string             `json:"rejected,omitempty"`
	// AnotherVCenter: it is rejected because its event is of another vCenter.
	AnotherVCenter bool `json:"elsewhere,omitempty"`
	// Uncertain: it is taken because the alarm has that state here, too; another vCenter may know the event for certain.
	Uncertain bool `json:"perhaps,omitempty"`
	Person    bool `json:"person,omitempty"` // of what is rejected: a person asked

	source string // of the event of a change that carries no request
}

// Decode is the result of DecodeMessages: one Decoded per message, and what to pin beside them.
type Decode struct {
	Decoded []Decoded      `json:"decoded"`
	Timing  preempt.Timing `json:"timing"`
	Attrs   bool           `json:"attrs"` // the search attributes are registered in this namespace
}

// wireRequest is a WorkflowRequest whose event stays as it came.
type wireRequest struct {
	Tag         string          `json:"tag"`
	Criticality string          `json:"criticality"`
	Event       json.RawMessage `json:"event"`
	ReplyTo     string          `json:"replyTo"`
	ID          string          `json:"id"`
	Origin      string          `json:"origin"`
	Policy      string          `json:"policy"`
	TaskQueue   string          `json:"taskQueue"`
	Mode        string          `json:"mode"`
	VM          string          `json:"vm"`
	NoticeOnly  bool            `json:"noticeOnly"`
	Notice      string          `json:"notice"`
	Silenced    string          `json:"whenSilenced"`

	Room     *preemption.Room `json:"room"`
	Cluster  string           `json:"cluster"`
	Headroom bool             `json:"headroom"`
}

// Bounds of a request's texts, and of the notice that it rehearses.
const (
	maxTag = 512
	maxID  = 512
	maxVM  = 1024

	defaultRehearsal = 30 * time.Second
	maxRehearsal     = time.Hour
)

// DecodeMessages validates what reached the intake. It reads its argument and the worker's configuration, and asks
// vCenter where an event's source does not name it; being an activity, its verdict is recorded, so that a later version
// of the decoder cannot change what a running workflow has seen. It never fails: a bad message is a rejection.
func (a *Activities) DecodeMessages(ctx context.Context, messages []Message) (Decode, error) {
	out := Decode{Timing: a.Settings.Timing, Attrs: a.AttributesRegistered()}
	ctx, cancel := context.WithTimeout(ctx, originLookUp)
	defer cancel()
	for _, m := range messages {
		var d Decoded
		var err error
		if m.Alarm {
			d, err = a.decodeAlarm(m.JSON)
		} else {
			d, err = a.decodeRequest(m.JSON)
			if err == nil && len(d.Demand.Rooms) > 0 && (!m.Plan || d.Demand.Rooms[0].Waiting) {
				err = errors.New("an intake makes no room: preemptctl make-room does, and preemptctl workflow plan plans it")
			}
		}
		if err != nil {
			d = Decoded{Rejected: err.Error(), Person: d.Person}
		}
		d = a.checkOrigin(ctx, d)
		a.traceRejected(ctx, m, d)
		out.Decoded = append(out.Decoded, d)
	}
	return out, nil
}

func (a *Activities) decodeRequest(raw []byte) (Decoded, error) {
	var w wireRequest
	if err := json.Unmarshal(raw, &w); err != nil {
		return Decoded{}, fmt.Errorf("the request is no WorkflowRequest: %w", err)
	}
	d, err := a.demand(w)
	if err != nil {
		return Decoded{Person: w.Origin == preemption.OriginPerson}, err
	}
	out := Decoded{Demand: &d}
	if len(w.Event) == 0 || bytes.Equal(w.Event, []byte("null")) {
		return out, setID(&d, w)
	}
	if err := readEvent(&d, &out, w); err != nil {
		return Decoded{}, err
	}
	if (w.Room != nil || w.Cluster != "") && d.Change != nil {
		return Decoded{}, errors.New("the request names its own cluster, and the event is an alarm's, which names another: leave one of them out")
	}
	if d.Event, err = keptEvent(d.Event); err != nil {
		return Decoded{}, err
	}
	return out, setID(&d, w)
}

// demand checks everything of a request but its event.
func (a *Activities) demand(w wireRequest) (preemptapi.Demand, error) {
	tag, crit := strings.TrimSpace(w.Tag), preemption.Criticality(w.Criticality)
	errs := []error{a.checkTag(tag), a.checkCriticality(crit)}
	if w.TaskQueue != "" && w.TaskQueue != a.TaskQueue {
		errs = append(errs, a.otherQueue(w.TaskQueue))
	}
	if len(w.ID) > maxID {
		errs = append(errs, fmt.Errorf("id is %d bytes long: at most %d are taken", len(w.ID), maxID))
	}
	errs = append(errs, preempt.CheckReply(w.ReplyTo))
	p, name, policyErr := a.policy(w.Policy)
	notice, noticeErr := rehearsal(w)
	mode, modeErr := a.mode(w.Mode, p.Mode)
	p.Mode = mode
	scope, roomErr := checkRoom(w)
	if w.Room == nil {
		scope, roomErr = checkCluster(w)
	}
	var headroomErr error
	if w.Headroom && policyErr == nil {
		if p, headroomErr = p.ForHeadroom(); headroomErr != nil {
			headroomErr = fmt.Errorf("policy %q: %w", name, headroomErr)
		}
	}
	errs = append(errs, policyErr, noticeErr, modeErr, checkSilenced(w.Silenced), roomErr, headroomErr)
	return preemptapi.Demand{
		Rooms: roomsOf(w.Room), Scope: scope,
		Tag: tag, Criticality: crit, ReplyTo: w.ReplyTo, Event: w.Event, Policy: p, PolicyName: name, PolicyHash: p.Hash(),
		Person: w.Origin == preemption.OriginPerson, VM: strings.TrimSpace(w.VM), NoticeOnly: w.NoticeOnly, Notice: notice,
		Silenced: w.Silenced, Headroom: w.Headroom,
	}, errors.Join(errs...)
}

func (a *Activities) checkTag(tag string) error {
	switch {
	case tag == "":
		return errors.New("tag is empty: name the tag that marks preemptible VMs")
	case len(tag) > maxTag:
		return fmt.Errorf("tag is %d bytes long: at most %d are taken", len(tag), maxTag)
	case len(a.Settings.AllowedTags) > 0 && !slices.Contains(a.Settings.AllowedTags, tag):
		return fmt.Errorf("tag %q is not among the allowed tags %q of this worker (limits.allowedTags)", tag, a.Settings.AllowedTags)
	}
	return nil
}

func (a *Activities) checkCriticality(c preemption.Criticality) error {
	limit := a.Settings.MaxCriticality
	switch {
	case c.Rank() == 0:
		return fmt.Errorf("unknown criticality %q: use LOW, MEDIUM or HIGH", preempt.Clip(string(c)))
	case limit != "" && c.Rank() > limit.Rank():
		return fmt.Errorf("criticality %s is above %s, the most this worker takes (limits.maxCriticality)", c, limit)
	}
	return nil
}

// policy finds the policy that a request names, or the default.
func (a *Activities) policy(named string) (p policy.Policy, name string, err error) {
	name = cmp.Or(named, "default")
	p, ok := a.Settings.Policies[name]
	if !ok {
		err = fmt.Errorf("unknown policy %q: the worker's file has no such policy", preempt.Clip(name))
	}
	return p, name, err
}

// mode is what a request's mode makes of its policy's: a request may only ask for less.
func (a *Activities) mode(asked, ofPolicy string) (string, error) {
	switch {
	case asked == preemption.ModeObserve, a.Settings.Observe:
		return policy.ModeObserve, nil
	case asked != "" && asked != policy.ModeAct:
		return ofPolicy, fmt.Errorf("unknown mode %q: use observe, or leave it out", preempt.Clip(asked))
	}
	return ofPolicy, nil
}

func checkSilenced(what string) error {
	switch what {
	case "", preemption.WhenSilencedHold, preemption.WhenSilencedAct:
		return nil
	}
	return fmt.Errorf("unknown whenSilenced %q: use hold or act", preempt.Clip(what))
}

// rehearsal checks what a request says of one VM and its notice.
func rehearsal(w wireRequest) (clock.Duration, error) {
	switch {
	case len(w.VM) > maxVM:
		return 0, fmt.Errorf("vm is %d bytes long: at most %d are taken", len(w.VM), maxVM)
	case w.NoticeOnly && w.VM == "":
		return 0, errors.New("noticeOnly rehearses the notice of one VM: name it in vm")
	case !w.NoticeOnly:
		return 0, nil
	case w.Notice == "":
		return clock.Duration(defaultRehearsal), nil
	}
	d, err := time.ParseDuration(w.Notice)
	if err != nil || d <= 0 || d > maxRehearsal {
		return 0, fmt.Errorf("notice %q is no duration of up to %s, such as 30s", preempt.Clip(w.Notice), maxRehearsal)
	}
	return clock.Duration(d), nil
}

func (a *Activities) otherQueue(queue string) error {
	return fmt.Errorf("the request is meant for task queue %q, and workflow and worker are of %q: give it another workflow id, or each vCenter a namespace of its own",
		preempt.Clip(queue), a.TaskQueue)
}

// decodeAlarm reads an AlarmChange. A rise must carry the request to act on.
func (a *Activities) decodeAlarm(raw []byte) (Decoded, error) {
	var c preemption.AlarmChange
	if err := json.Unmarshal(raw, &c); err != nil {
		return Decoded{}, fmt.Errorf("the alarm change is no AlarmChange: %w", err)
	}
	if c.Alarm == "" || c.Entity == "" {
		return Decoded{}, errors.New("the alarm change names no alarm or no entity")
	}
	switch c.To {
	case alarm.Gray, alarm.Green, alarm.Yellow, alarm.Red:
	default:
		return Decoded{}, fmt.Errorf("the change of alarm %q has colour %q: want gray, green, yellow or red", preempt.Clip(c.Alarm), preempt.Clip(c.To))
	}
	if c.TaskQueue != "" && c.TaskQueue != a.TaskQueue {
		return Decoded{}, a.otherQueue(c.TaskQueue)
	}
	change := &preemptapi.Change{
		Alarm: c.Alarm, Entity: c.Entity, Scope: c.Scope, To: c.To, Time: c.Time.UTC(), EventKey: c.EventKey,
		Criticality: c.Criticality, Soften: c.Soften,
	}
	out := Decoded{Change: change, From: c.From, source: c.Source}
	if len(c.Request) == 0 {
		return out, nil
	}
	d, err := a.decodeRequest(c.Request)
	if err != nil {
		return Decoded{}, fmt.Errorf("the change of alarm %q: %w", preempt.Clip(c.Alarm), err)
	}
	d.Demand.Change, d.Demand.Person = change, false
	if ref, ok := vsphere.ParseRef(c.Scope); ok {
		d.Demand.Scope = ref
	}
	if d.Demand.RequestID == "" {
		d.Demand.RequestID = fmt.Sprintf("%s|%s|%s|%s|%d", c.Alarm, c.Scope, c.Entity, c.Time.UTC().Format(time.RFC3339Nano), c.EventKey)
	}
	out.Demand = d.Demand
	return out, nil
}
