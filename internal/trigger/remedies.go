package trigger

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// maxEventBytes is up to where a request for remediation carries its CloudEvent, which is for the reply alone.
const maxEventBytes = 64 << 10

const typeDatastore = "Datastore"

// Resize is the action that scales up a VM whose alarm turns red.
type Resize struct{ Settings placement.Resize }

// Order asks for a resize of the VM in alarm.
func (a Resize) Order(in Incoming, rule string) (Order, string, bool, error) {
	al := in.Event.Alarm
	if reason, err := atRed(in.Event, a.Kind(), "a resize"); reason != "" || err != nil {
		return Order{}, reason, false, err
	}
	if al.Entity.Type != vsphere.TypeVM {
		return Order{}, "", false, fmt.Errorf("%w: the alarm is on %s, a resize wants an alarm on a VM", ErrRefused, al.Entity.Ref())
	}
	vm := ref(al.Entity)
	return remediate(in, rule, vm, a.Settings.Resource+" resize", placement.Request{Kind: placement.KindResize, VM: vm, Resize: &a.Settings})
}

// Move is the action that moves VMs off a datastore whose alarm turns red, or the VM whose alarm does.
type Move struct{ Settings placement.Move }

// Order asks for moves off the datastore, or of the VM, in alarm.
func (a Move) Order(in Incoming, rule string) (Order, string, bool, error) {
	al := in.Event.Alarm
	if reason, err := atRed(in.Event, a.Kind(), "a move"); reason != "" || err != nil {
		return Order{}, reason, false, err
	}
	r := placement.Request{Kind: placement.KindMove, Move: &a.Settings}
	switch {
	case al.Entity.Type == vsphere.TypeVM:
		r.VM = ref(al.Entity)
		return remediate(in, rule, r.VM, "move of the VM", r)
	case al.Entity.Type == typeDatastore:
		r.Source = ref(al.Entity)
	case !al.Datastore.Zero():
		r.Source = vsphere.Ref{Type: typeDatastore, Value: al.Datastore.Value}
	default:
		return Order{}, "", false, fmt.Errorf("%w: the alarm is on %s, a move wants an alarm on a datastore or a VM", ErrRefused, al.Entity.Ref())
	}
	return remediate(in, rule, r.Source, "move off the datastore", r)
}

// Reconfigure is the action that applies the configuration tags of a VM that was turned off.
type Reconfigure struct{ Settings placement.Reconfigure }

// Order asks for the settings of the VM that the event is about.
func (a Reconfigure) Order(in Incoming, rule string) (Order, string, bool, error) {
	if err := KindReconfigure.accepts(in.Event, "a reconfiguration", "a "+listed(KindReconfigure.On())); err != nil {
		return Order{}, "", false, err
	}
	about, err := in.Event.About()
	if err != nil {
		return Order{}, "", false, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if about.Entity.Zero() {
		return Order{}, "", false, fmt.Errorf("%w: the event names no VM", ErrRefused)
	}
	vm := vsphere.Ref{Type: vsphere.TypeVM, Value: about.Entity.Value}
	return remediate(in, rule, vm, "reconfiguration", placement.Request{Kind: placement.KindReconfigure, VM: vm, Reconfigure: &a.Settings})
}

// atRed says why an event does not start a rule that acts while an alarm is red: never, or not at this colour.
func atRed(e alarm.Event, k Kind, who string) (reason string, err error) {
	if err := k.accepts(e, who, "an alarm"); err != nil {
		return "", err
	}
	al := e.Alarm
	switch {
	case al.Name == "" || al.Entity.Zero():
		return "", fmt.Errorf("%w: the event names no alarm or no entity", ErrRefused)
	case al.To == alarm.Red:
		return "", nil
	case al.To == alarm.Gray:
		return "the alarm's state is unknown, and the rule acts at red", nil
	case alarm.Rank(al.To) < alarm.Rank(al.From):
		return fmt.Sprintf("the alarm fell to %s, and the rule acts at red", al.To), nil
	}
	return fmt.Sprintf("the alarm is %s, and the rule acts at red", al.To), nil
}

// remediate completes a request and addresses it to the workflow of its object.
func remediate(in Incoming, rule string, object vsphere.Ref, what string, r placement.Request) (Order, string, bool, error) {
	about, err := in.Event.About()
	if err != nil {
		return Order{}, "", false, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	r.ID, r.Cause, r.TaskQueue = identify(about), cause(in.Event, about, rule), in.TaskQueue
	if len(in.CloudEvent) <= maxEventBytes && json.Valid(in.CloudEvent) {
		r.Event = in.CloudEvent
	}
	b, err := json.Marshal(r)
	if err == nil && len(b) > preemption.MaxRequestBytes {
		err = fmt.Errorf("the event makes a request of %d bytes: at most %d are taken", len(b), preemption.MaxRequestBytes)
	}
	if err != nil {
		return Order{}, "", false, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return Order{
		WorkflowID: placement.WorkflowID(r.Kind, object, in.TaskQueue), WorkflowType: placement.WorkflowType(r.Kind), Signal: placement.Signal,
		Payload: r, What: what,
	}, "", true, nil
}

func cause(e alarm.Event, about alarm.About, rule string) placement.Cause {
	c := placement.Cause{
		Event: string(e.Class), Entity: ref(about.Entity), Time: about.Time, EventKey: about.EventKey,
		VCenter: alarm.VCenterHost(about.VCenter), Rule: rule,
	}
	if al, ok := e.Change(); ok {
		c.Alarm, c.From, c.To = al.Name, al.From, al.To
	}
	if c.Time.IsZero() {
		c.Time = time.Now()
	}
	c.Time = c.Time.UTC()
	return c
}

// identify names an event by what vCenter says of it, so that it has the same name in every delivery: by its key,
// with the time, for the keys of a vCenter set up anew begin again; else by what changed where and when.
func identify(e alarm.About) string {
	switch key := e.Key(); {
	case key == "" && e.Time.IsZero():
		e.Time = time.Now()
	case key != "" && e.Time.IsZero():
		return key
	case key != "":
		return key + "@" + e.Time.UTC().Format(time.RFC3339)
	}
	return strings.Join([]string{e.Name, e.Entity.Ref(), e.To, e.Time.UTC().Format(time.RFC3339Nano)}, "|")
}

func ref(o alarm.Object) vsphere.Ref { return vsphere.Ref{Type: o.Type, Value: o.Value} }
