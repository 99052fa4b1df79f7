package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// MakeRoom limits who may ask for room on a host, and for how much.
type MakeRoom struct {
	Beneficiaries string        // category of the tag that a VM needs so that a person may ask for it
	MaxCPUs       int           // of a room; 0: any
	MaxMemoryMB   int           // of a room; 0: any
	PerHour       int           // rooms that are made in an hour; 0: any
	Hold          time.Duration // of a room, where a request does not say
}

// DefaultMakeRoom returns what holds without a file.
func DefaultMakeRoom() MakeRoom {
	return MakeRoom{Beneficiaries: preemption.BeneficiaryCategory, PerHour: 100, Hold: 30 * time.Minute}
}

// longestHold bounds how long room may be held.
const longestHold = 24 * time.Hour

// rooms reads the limits of room.
func (d *decoder) rooms(at string, n *yaml.Node, m *MakeRoom) {
	d.mapping(at, n, fields{
		"beneficiaries": func(key string, n *yaml.Node) {
			if d.text(key, n, &m.Beneficiaries) && strings.TrimSpace(m.Beneficiaries) == "" {
				d.add(n.Line, key, "is empty: name the category whose tag a VM needs so that somebody may ask for it")
			}
		},
		"maxCPUs":     func(key string, n *yaml.Node) { d.within(key, n, &m.MaxCPUs, 0, 1024) },
		"maxMemoryMB": func(key string, n *yaml.Node) { d.within(key, n, &m.MaxMemoryMB, 0, 64<<20) },
		"perHour":     func(key string, n *yaml.Node) { d.within(key, n, &m.PerHour, 0, 1000) },
		"hold": func(key string, n *yaml.Node) {
			hold := clock.Duration(m.Hold)
			d.duration(key, n, &hold)
			m.Hold = d.holds(key, n, hold)
		},
	})
}

// holds checks how long room is held.
func (d *decoder) holds(key string, n *yaml.Node, hold clock.Duration) time.Duration {
	if hold < 0 || hold.D() > longestHold {
		d.add(n.Line, key, "%s is not within 0 to %s", hold, longestHold)
	}
	return hold.D()
}

// makeRoom reads a rule that makes room.
func (d *decoder) makeRoom(at string, n *yaml.Node, w *written) {
	r := trigger.MakeRoom{Tag: preemption.DefaultTag, Policy: DefaultPolicy, Criticality: preemption.CriticalityHigh}
	var hold clock.Duration
	d.mapping(at, n, fields{
		"for": func(key string, n *yaml.Node) {
			d.mapping(key, n, fields{"tag": func(key string, n *yaml.Node) { d.text(key, n, &r.For) }})
		},
		"tag": func(key string, n *yaml.Node) { d.text(key, n, &r.Tag) },
		"policy": func(key string, n *yaml.Node) {
			if !d.text(key, n, &r.Policy) {
				return
			}
			if _, ok := w.policies[r.Policy]; !ok {
				d.add(n.Line, key, "the file has no policy %q", r.Policy)
			}
		},
		"powerOn":     func(key string, n *yaml.Node) { d.boolean(key, n, &r.PowerOn) },
		"criticality": func(key string, n *yaml.Node) { d.criticality(key, n, &r.Criticality) },
		"hold": func(key string, n *yaml.Node) {
			d.duration(key, n, &hold)
			d.holds(key, n, hold)
		},
		"mode":    func(key string, n *yaml.Node) { d.mode(key, n, &r.Mode) },
		"replyTo": func(key string, n *yaml.Node) { d.replyTo(key, n, &r.ReplyTo) },
	})
	if hold > 0 {
		r.Hold = hold.D().String()
	}
	w.makeRoom = r
}

// roomsOf makes a rule of the event.
func (d *decoder) roomsOf(at string, w written) []trigger.Rule {
	r, line := w.makeRoom, d.lines[at]
	switch {
	case strings.TrimSpace(r.For) == "":
		d.add(line, at+".for.tag", "is missing: name the tag of the VMs for which room is made")
	case strings.TrimSpace(r.Tag) == "":
		d.add(line, at+".tag", "is empty: name the tag that marks preemptible VMs")
	case r.For == r.Tag:
		d.add(line, at+".for.tag", "%q is also the tag of those who go: nobody makes room for himself", r.For)
	}
	if err := d.limited.allows(r.Tag, r.Criticality); err != nil {
		d.add(line, at, "%w", err)
	}
	events := trigger.KindMakeRoom.Events()
	if w.event == "" {
		d.add(w.line, w.at, "names no event; give it event: one of %s", listed(events))
		return nil
	}
	on := events[max(0, slices.Index(texts(events), w.event))]
	return []trigger.Rule{{Class: on, Action: r}}
}

// allows says why a request for the tag, at the criticality, would be refused; nil: it is not.
func (l Limits) allows(tag string, c preemption.Criticality) error {
	switch {
	case len(l.AllowedTags) > 0 && !slices.Contains(l.AllowedTags, tag):
		return fmt.Errorf("tag %q is not among limits.allowedTags", tag)
	case l.MaxCriticality != "" && c.Rank() > l.MaxCriticality.Rank():
		return fmt.Errorf("criticality %s is above limits.maxCriticality", c)
	}
	return nil
}
