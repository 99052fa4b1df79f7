package alarm

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Bounds of an event's texts, in bytes.
const (
	maxName   = 255
	maxRef    = 128
	maxSource = 2048

	maxMessage = 4096
)

// errBeforeVEBA03 refuses the payload of VEBA 0.1-0.2 and of the OpenFaaS vcenter-connector by name.
var errBeforeVEBA03 = errors.New("this is the payload of VEBA 0.1-0.2 or of the OpenFaaS vcenter-connector " +
	"(fields topic, category, userName, objectName, managedObjectReference), which carries no alarm data: use VEBA 0.3 or later")

// payload is what is read of an event's data; encoding/json matches PascalCase and camelCase keys alike.
type payload struct {
	Key             eventKey `json:"key" xml:"key"`
	CreatedTime     stamp    `json:"createdTime" xml:"createdTime"`
	UserName        string   `json:"userName" xml:"userName"`
	ComputeResource struct {
		Name            string `json:"name" xml:"name"`
		ComputeResource moref  `json:"computeResource" xml:"computeResource"`
	} `json:"computeResource" xml:"computeResource"`
	Host struct {
		Name string `json:"name" xml:"name"`
		Host moref  `json:"host" xml:"host"`
	} `json:"host" xml:"host"`
	VM struct {
		Name string `json:"name" xml:"name"`
		VM   moref  `json:"vm" xml:"vm"`
	} `json:"vm" xml:"vm"`
	Ds struct {
		Name      string `json:"name" xml:"name"`
		Datastore moref  `json:"datastore" xml:"datastore"`
	} `json:"ds" xml:"ds"`
	Alarm struct {
		Name  string `json:"name" xml:"name"`
		Alarm moref  `json:"alarm" xml:"alarm"`
	} `json:"alarm" xml:"alarm"`
	Source entity `json:"source" xml:"source"`
	Entity entity `json:"entity" xml:"entity"`
	Reason reason `json:"reason" xml:"reason"`
	From   string `json:"from" xml:"from"`
	To     string `json:"to" xml:"to"`

	// What VEBA 0.1-0.2 sent; only its presence counts.
	Topic                  json.RawMessage `json:"topic" xml:"-"`
	ManagedObjectReference json.RawMessage `json:"managedObjectReference" xml:"-"`
}

// reason is why a VM could not be started: a fault with its message in most events, and a text in some.
type reason struct {
	Fault struct {
		Name string `json:"_typeName" xml:"http://www.w3.org/2001/XMLSchema-instance type,attr"` // as vCenter's JSON and XML write it
	} `json:"fault" xml:"fault"`
	Message string `json:"localizedMessage" xml:"localizedMessage"`
}

// fault is the class of the fault, without the prefix that XML gives it.
func (r *reason) fault() string { return r.Fault.Name[strings.LastIndex(r.Fault.Name, ":")+1:] }

// UnmarshalJSON reads an object, or a text as the message.
func (r *reason) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &r.Message)
	}
	type plain reason
	return json.Unmarshal(b, (*plain)(r))
}

type entity struct {
	Name   string `json:"name" xml:"name"`
	Entity moref  `json:"entity" xml:"entity"`
}

// moref is a managed object reference.
type moref struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// UnmarshalXML reads a reference as vim25 writes it, <host type="HostSystem">host-21</host>, and keeps its
// type apart from an xsi:type.
func (r *moref) UnmarshalXML(d *xml.Decoder, start xml.StartElement) error {
	*r = moref{}
	for _, a := range start.Attr {
		if a.Name.Space == "" && a.Name.Local == "type" {
			r.Type = a.Value
		}
	}
	return d.DecodeElement(&r.Value, &start)
}

// eventKey is vCenter's number of an event.
type eventKey int64

// UnmarshalJSON reads 15227, 15227.0 or "15227", as producers write it that make decimals or texts of numbers.
func (k *eventKey) UnmarshalJSON(b []byte) error { return k.read(strings.Trim(string(b), `"`)) }

// UnmarshalXML reads the number; its error names the field, which that of encoding/xml would not.
func (k *eventKey) UnmarshalXML(d *xml.Decoder, start xml.StartElement) error {
	var s string
	if err := d.DecodeElement(&s, &start); err != nil {
		return err
	}
	return k.read(s)
}

func (k *eventKey) read(s string) error {
	s = strings.TrimSpace(s)
	if s == "" || s == "null" {
		return nil
	}
	whole, fraction, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || strings.Trim(fraction, "0") != "" {
		return fmt.Errorf("field key is %q: want a whole number", clip(s))
	}
	*k = eventKey(n)
	return nil
}

// predatesVEBA03 reports whether this is the payload of VEBA 0.1-0.2: a topic and the reference of whatever the
// event was about, and no event.
func (p *payload) predatesVEBA03() bool {
	return len(p.Topic)+len(p.ManagedObjectReference) > 0 && p.Key == 0 && p.Alarm.Name == "" && p.VM.VM.Value == ""
}

func (p *payload) cluster() Object {
	return object(p.ComputeResource.Name, p.ComputeResource.ComputeResource)
}
func (p *payload) host() Object { return object(p.Host.Name, p.Host.Host) }
func (p *payload) vm() Object   { return object(p.VM.Name, p.VM.VM) }

func object(name string, ref moref) Object {
	return Object{Type: ref.Type, Value: ref.Value, Name: name}
}

func (p *payload) alarm(m Message) Alarm {
	return Alarm{
		Name:      p.Alarm.Name,
		Ref:       object(p.Alarm.Name, p.Alarm.Alarm),
		Entity:    object(p.Entity.Name, p.Entity.Entity),
		Source:    object(p.Source.Name, p.Source.Entity),
		Cluster:   p.cluster(),
		Host:      p.host(),
		VM:        p.vm(),
		Datastore: object(p.Ds.Name, p.Ds.Datastore),
		From:      p.From,
		To:        p.To,
		VCenter:   m.Source,
		EventKey:  max(int64(p.Key), 0),
		Time:      p.time(m),
	}
}

func (p *payload) power(m Message, on bool) Power {
	return Power{
		VM:       p.vm(),
		Host:     p.host(),
		Cluster:  p.cluster(),
		On:       on,
		User:     p.UserName,
		VCenter:  m.Source,
		EventKey: max(int64(p.Key), 0),
		Time:     p.time(m),
	}
}

// time returns when it happened, as a value that compares with ==.
func (p *payload) time(m Message) time.Time {
	if p.CreatedTime.at.IsZero() {
		return m.Time.Round(0).UTC()
	}
	return p.CreatedTime.at
}

// check bounds what will reach logs and ids.
func (p *payload) check(class Class, source string) error {
	if len(source) > maxSource || strings.ContainsFunc(source, unicode.IsControl) {
		return fmt.Errorf("the source %q of the %s is longer than %d bytes or holds control characters", clip(source), class, maxSource)
	}
	if len(p.UserName) > maxName {
		return fmt.Errorf("the %s has a UserName of %d bytes: at most %d are taken", class, len(p.UserName), maxName)
	}
	for _, o := range [...]struct {
		name, ref string
		Object
	}{
		{"Alarm.Name", "Alarm.Alarm", object(p.Alarm.Name, p.Alarm.Alarm)},
		{"Entity.Name", "Entity.Entity", object(p.Entity.Name, p.Entity.Entity)},
		{"Source.Name", "Source.Entity", object(p.Source.Name, p.Source.Entity)},
		{"ComputeResource.Name", "ComputeResource.ComputeResource", p.cluster()},
		{"Host.Name", "Host.Host", p.host()},
		{"Vm.Name", "Vm.Vm", p.vm()},
		{"Ds.Name", "Ds.Datastore", object(p.Ds.Name, p.Ds.Datastore)},
	} {
		if len(o.Name) > maxName {
			return fmt.Errorf("the %s has a %s of %d bytes: at most %d are taken", class, o.name, len(o.Name), maxName)
		}
		if strings.ContainsFunc(o.Name, unicode.IsControl) {
			return fmt.Errorf("the %s has a %s that holds control characters: %q", class, o.name, clip(o.Name))
		}
		if err := o.checkRef(); err != nil {
			return fmt.Errorf("the %s has a bad reference %s: %w", class, o.ref, err)
		}
	}
	return nil
}

// checkRef checks the reference of an object that is present.
func (o Object) checkRef() error {
	if o.Zero() {
		return nil
	}
	if o.Type == "" {
		return fmt.Errorf("%q has no type", clip(o.Value))
	}
	for _, s := range [...]string{o.Type, o.Value} {
		if len(s) > maxRef {
			return fmt.Errorf("%q is %d bytes long: at most %d are taken", clip(s), len(s), maxRef)
		}
		if strings.ContainsFunc(s, unicode.IsControl) {
			return fmt.Errorf("%q holds control characters", s)
		}
	}
	return nil
}
