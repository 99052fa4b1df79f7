// Package alarm decodes vSphere events, in whatever form they arrive: an alarm's change into one Alarm value, and the other
// events that rules act upon. It acts on nothing.
package alarm

import (
	"net/url"
	"strings"
	"time"
)

// The colours of an alarm, as vSphere names them.
const (
	Gray   = "gray"
	Green  = "green"
	Yellow = "yellow"
	Red    = "red"
)

// MaxBytes bounds an event: nothing larger is read.
const MaxBytes = 1 << 20

// Object is a vSphere object as an event names it.
type Object struct {
	Type  string
	Value string
	Name  string
}

// Zero reports whether the object is absent.
func (o Object) Zero() bool { return o.Value == "" }

// Ref returns the object as Type:Value, or "" when absent.
func (o Object) Ref() string {
	if o.Zero() {
		return ""
	}
	return o.Type + ":" + o.Value
}

// Alarm is one change of one alarm's state on one entity.
type Alarm struct {
	Name      string
	Ref       Object // the alarm itself
	Entity    Object // the object in alarm
	Source    Object // where the alarm is defined
	Cluster   Object // the compute resource
	Host      Object
	VM        Object
	Datastore Object
	From, To  string
	VCenter   string // the event's source
	EventKey  int64  // 0: unknown
	Time      time.Time
}

// Rising reports whether the alarm turned yellow or red from something milder.
func (a Alarm) Rising() bool { return rank(a.To) > rank(a.From) && rank(a.To) >= rank(Yellow) }

// Up reports whether the alarm is yellow or red now.
func (a Alarm) Up() bool { return rank(a.To) >= rank(Yellow) }

// Rank orders colours: red 3, yellow 2, green 1, gray and unknown 0.
func Rank(colour string) int { return rank(colour) }

func rank(colour string) int {
	switch colour {
	case Green:
		return 1
	case Yellow:
		return 2
	case Red:
		return 3
	}
	return 0
}

// After reports whether one of two changes in one vCenter, each with its event's key and time, came after the other. The
// higher key is the newer one, for vCenter's clock may be set back. A lower key with a later time is newer all the same,
// as from a vCenter that was restored or set up anew, unless that time lies in the future. Without both keys the times
// decide, of which one in the future means nothing beside one that is not.
func After(key int64, at time.Time, otherKey int64, other, now time.Time) bool {
	future := func(t time.Time) bool { return t.After(now.Add(aheadOfUs)) }
	switch {
	case key > 0 && otherKey > 0 && key >= otherKey:
		return key > otherKey
	case future(at) != future(other):
		return future(other)
	}
	if d := at.Compare(other); d != 0 {
		return d > 0
	}
	return key > otherKey
}

// aheadOfUs is how far vCenter's clock may be ahead of ours before a time counts as one of the future.
const aheadOfUs = time.Minute

// Key identifies the change for deduplication, as About.Key does.
func (a Alarm) Key() string { return About{VCenter: a.VCenter, EventKey: a.EventKey}.Key() }

// VCenterHost reduces the source of an event to the vCenter's host, in lower case and with its port unless that
// is the default, since routers write the same vCenter as https://host/sdk, https://host:443/sdk and host.
func VCenterHost(source string) string {
	s := source
	if !strings.Contains(s, "://") {
		s = "https://" + strings.TrimPrefix(s, "//")
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" {
		return source
	}
	host, port := strings.ToLower(u.Host), u.Port()
	if port == "443" && u.Scheme == "https" || port == "80" && u.Scheme == "http" {
		host = strings.TrimSuffix(host, ":"+port)
	}
	return host
}

// Scope is the contended object: the cluster, or the host where there is no cluster; zero for neither.
func (a Alarm) Scope() Object {
	if !a.Cluster.Zero() {
		return a.Cluster
	}
	if a.Entity.Type == "ClusterComputeResource" || a.Entity.Type == "HostSystem" {
		return a.Entity
	}
	return a.Host
}
