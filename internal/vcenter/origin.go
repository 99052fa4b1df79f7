package vcenter

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Named reports whether an event's source names this vCenter: by the address that we use, its own name or one of its
// addresses, its instance UUID, or a configured alias. Routers write a source as https://host/sdk, https://host:443/sdk
// or host. An unknown source alone does not make an event foreign: see Happened. No call.
func (g *Gateway) Named(source string) bool {
	source = strings.ToLower(strings.TrimSpace(source))
	if source == "" {
		return false
	}
	if uuid := strings.ToLower(g.known().instanceUUID); uuid != "" && strings.Contains(source, uuid) {
		return true
	}
	host, port := sourceHost(source)
	for _, alias := range g.cfg.Aliases {
		name, at := sourceHost(alias)
		if strings.EqualFold(alias, source) || name == host && (at == port || !strings.Contains(alias, ":")) {
			return true
		}
	}
	_, ours := sourceHost(g.url.String())
	return port == ours && slices.ContainsFunc(g.Addresses(), func(name string) bool { return strings.EqualFold(name, host) })
}

// sourceHost returns host and port of a source in any of its forms. A missing port follows from the scheme.
func sourceHost(source string) (host, port string) {
	if !strings.Contains(source, "://") {
		source = "https://" + strings.TrimPrefix(source, "//")
	}
	u, err := url.Parse(source)
	if err != nil || u.Hostname() == "" {
		return source, ""
	}
	if port = u.Port(); port == "" {
		port = map[string]string{"http": "80"}[u.Scheme]
	}
	if port == "" {
		port = "443"
	}
	host = strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if ip := net.ParseIP(host); ip != nil {
		host = ip.String()
	}
	return host, port
}

// AlarmEvent is what identifies the vCenter of an alarm's change.
type AlarmEvent struct {
	Source string // of the event; "": unknown
	Key    int64
	Time   time.Time
	Alarm  vsphere.Ref // zero: known by its name alone
	Name   string      // of the alarm
	Entity vsphere.Ref
	To     string // colour
}

// Foreign returns why a change counts as one of another vCenter, "" if it is this one's: its source names it, its
// history has the change, or the alarm has that colour on that entity now. So events of routers that use another name
// for this vCenter are accepted, and events of a vCenter whose objects only have the same references and names are not.
func (g *Gateway) Foreign(ctx context.Context, e AlarmEvent) (string, error) {
	known, err := g.Knows(ctx, e)
	if err != nil || known {
		return "", err
	}
	return g.Unlike(ctx, e)
}

// Knows reports whether a change is certainly one of this vCenter.
func (g *Gateway) Knows(ctx context.Context, e AlarmEvent) (bool, error) {
	if g.Named(e.Source) {
		return true, nil
	}
	return g.Happened(ctx, e)
}

// Unlike returns why a change that this vCenter does not know counts as one of another; "" if its alarm is in the
// state of the change.
func (g *Gateway) Unlike(ctx context.Context, e AlarmEvent) (string, error) {
	got, err := g.CurrentAlarm(ctx, e.Alarm, e.Name, e.Entity)
	if err != nil || got.Known && got.State.Colour == e.To {
		return "", err
	}
	return fmt.Sprintf("the event of alarm %q is not of this vCenter: its source %q names another one, this vCenter's history does not have it, "+
		"and the alarm is not %s on %s here; send it to the worker of its vCenter, or add its source to vcenter.aliases",
		shown.Clip(e.Name, maxTold), shown.Clip(shown.Redact(e.Source), maxTold), e.To, e.Entity), nil
}

// maxTold is how much of a foreign text is quoted, in bytes.
const maxTold = 80

// Happened reports whether this vCenter's own history has the change: the same key, time, alarm and entity. Three
// calls.
func (g *Gateway) Happened(ctx context.Context, e AlarmEvent) (bool, error) {
	if e.Key == 0 || e.Time.IsZero() {
		return false, nil
	}
	const near = time.Second // producers cut times off at the second or the millisecond
	c := call{op: "look for an event of", object: g.names.describe(e.Entity)}
	h, err := g.openHistoryUntil(ctx, c, []string{"AlarmStatusChangedEvent"}, e.Time.Add(-near), e.Time.Add(2*near))
	if err != nil {
		return false, err
	}
	defer h.destroy(ctx)
	for {
		page, err := h.next(ctx)
		if err != nil || len(page) == 0 {
			return false, err
		}
		if slices.ContainsFunc(page, e.is) {
			return true, nil
		}
	}
}

func (e AlarmEvent) is(event types.BaseEvent) bool {
	had, ok := event.(*types.AlarmStatusChangedEvent)
	return ok && int64(had.Key) == e.Key && had.CreatedTime.Sub(e.Time).Abs() < time.Second+time.Millisecond &&
		unescape(had.Alarm.Name) == unescape(e.Name) && fromMoRef(had.Entity.Entity) == e.Entity
}
