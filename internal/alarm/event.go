package alarm

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// ErrOther says that an event is of a class that no rule acts upon.
var ErrOther = errors.New("not an event of a class that rules act upon")

// Message is an event as it arrived: the attributes of its CloudEvent that matter here, and its data.
type Message struct {
	Type       string
	Subject    string
	Source     string
	EventClass string    // extension eventclass
	Time       time.Time // of the CloudEvent; used where the data has none
	MediaType  string    // of Data; "" counts as JSON
	Data       []byte
}

// Event is a decoded event of one of the classes.
type Event struct {
	Class Class
	Alarm Alarm // of ClassAlarm
	Power Power // of ClassPoweredOff and ClassPoweredOn

	Shortage Shortage // of ClassPowerOnFailed, ClassNoResources and ClassFailoverFailed
}

// Power is a VM's change of power state.
type Power struct {
	VM       Object
	Host     Object
	Cluster  Object // the compute resource
	On       bool
	User     string // who did it; "" for the guest itself
	VCenter  string // the event's source
	EventKey int64  // 0: unknown
	Time     time.Time
}

// routerType is the type that the VMware Event Router gives to every event.
const routerType = "com.vmware.event.router/event"

// Claim returns the vSphere class that an event's envelope claims, whatever class that is, or "" where it claims none. It looks at
// the attributes only, so that ignoring what no rule acts upon costs next to nothing. Names count as
// whole segments between dots: DrsVmPoweredOnEvent is not VmPoweredOnEvent. Producers put the class so:
//
//   - VMware Event Router: the subject, beside the type com.vmware.event.router/event;
//   - VSphereSource and vsphere-event-streaming: a segment of the type, as in com.vmware.vsphere.<Class>.v0
//     (their eventclass is only the kind, as in "event" or "eventex", but may be the class elsewhere);
//   - vsphere-alarm-server: as in the event it enriched, with a suffix of the operator's choice behind the type.
//     It drops the subject, so the router's type with a suffix and no subject claims an alarm event;
//   - hand-made events: the type is the class;
//   - OpenFaaS vcenter-connector and VEBA 0.1-0.2: a topic, as in alarm.status.changed.
func Claim(m Message) string {
	if suffix, ok := strings.CutPrefix(m.Type, routerType); ok && (suffix == "" || suffix[0] == '.') {
		if m.Subject == "" && suffix != "" {
			return string(ClassAlarm)
		}
		return classOfTopic(m.Subject)
	}
	for segment := range strings.SplitSeq(m.Type, ".") {
		if _, ok := rowOf(segment); ok {
			return segment
		}
	}
	if rest, ok := strings.CutPrefix(strings.TrimPrefix(m.Type, "com."), "vmware.vsphere."); ok {
		class, _, _ := strings.Cut(rest, ".v0")
		return class
	}
	for _, name := range [...]string{classOfTopic(m.Type), m.EventClass, classOfTopic(m.Subject)} {
		if _, ok := rowOf(name); ok {
			return name
		}
	}
	if strings.HasSuffix(m.EventClass, "Event") {
		return m.EventClass
	}
	return ""
}

// Decode reads an event of one of the classes from JSON or XML. What the data plainly is decides between the
// two, whatever its media type says; a JSON string that holds either is unwrapped once. The error is
// ErrOther, with the class where that is known, for every other class, whose data is not looked at; for what claims
// to be of a class and is not, it names what is wrong, and the field.
func Decode(m Message) (Event, error) {
	class := Claim(m)
	r, ok := rowOf(class)
	if !ok {
		return Event{}, other(m, class)
	}
	p, err := read(m)
	if err != nil {
		return Event{}, fmt.Errorf("decode %s: %w", r.class, err)
	}
	if err := p.check(r.class, m.Source); err != nil {
		return Event{}, err
	}
	if err := r.family.check(p, m, r.class); err != nil {
		return Event{}, err
	}
	return r.family.event(p, m, r.class), nil
}

// other says that an event is of no class that rules act upon. Without any attribute to go by, it checks
// whether this is a payload of the time before CloudEvents.
func other(m Message, class string) error {
	if class != "" {
		return fmt.Errorf("%w: %s", ErrOther, clip(class))
	}
	if m.Type != "" {
		return fmt.Errorf("%w: type %q", ErrOther, clip(m.Type))
	}
	if m.Subject == "" && m.EventClass == "" {
		if _, err := read(m); errors.Is(err, errBeforeVEBA03) {
			return err
		}
	}
	return fmt.Errorf("%w: the CloudEvent has no type", ErrOther)
}

// clip shortens untrusted text for messages.
func clip(s string) string { return shown.Clip(s, 80) }
