package tell

import (
	"path"
	"slices"
	"strings"
)

// CategoryNotify is the category of the tags by which owners of VMs say where they are told: a channel's name, or mailto:
// with an address.
const CategoryNotify = "preemption-notify"

// MailTo begins a tag that names a mail address.
const MailTo = "mailto:"

// Source says where the address of a channel is read, for it is a secret. One of the two is set.
type Source struct {
	Env  string // a variable
	File string // a path
}

// Channel is somewhere to tell people something.
type Channel struct {
	Name      string
	URLFrom   Source
	On        []Event
	Alarms    []string         // names, with * and ?; empty: any
	Clusters  []string         // names or MoRefs; empty: any
	Groups    []string         // of VMs; empty: any
	Templates map[Event]string // of bodies; ours where there is none
	Owners    bool             // owners of VMs may name it in a tag
	// MailDomains are those of the addresses to which owners may have mail sent; empty: none.
	MailDomains []string
}

// Settings are what the file says about notifications.
type Settings struct {
	ConsoleURL string // for links; "": no links
	Channels   []Channel
}

// Wants reports whether a message is for the channel, whatever the groups of its VMs.
func (c Channel) Wants(m Message) bool {
	if m.Event == "" {
		return true
	}
	return slices.Contains(c.On, m.Event) && fits(c.Alarms, m.Alarm) && c.inClusters(m)
}

func (c Channel) inClusters(m Message) bool {
	_, value, _ := strings.Cut(m.ClusterRef, ":")
	return len(c.Clusters) == 0 || slices.Contains(c.Clusters, value) || slices.ContainsFunc(c.Clusters, func(s string) bool { return m.Cluster != "" && strings.EqualFold(s, m.Cluster) })
}

func fits(patterns []string, name string) bool {
	if len(patterns) == 0 {
		return true
	}
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		return err == nil && ok
	})
}

// InGroups reports whether one of a VM's groups is among the channel's.
func (c Channel) InGroups(groups []string) bool {
	return slices.ContainsFunc(groups, func(g string) bool {
		return slices.ContainsFunc(c.Groups, func(s string) bool { return strings.EqualFold(s, g) })
	})
}

// Mails reports whether owners may have mail sent to an address through the channel.
func (c Channel) Mails(address string) bool {
	at := strings.LastIndexByte(address, '@')
	if !c.Owners || at <= 0 || len(address) > maxAddress || strings.ContainsFunc(address, unfit) {
		return false
	}
	domain := address[at+1:]
	return slices.ContainsFunc(c.MailDomains, func(d string) bool { return strings.EqualFold(d, domain) })
}

// maxAddress is how long a mail address may be.
const maxAddress = 254

// unfit reports characters that a mail address of a tag must not have: it goes into a header, and into a list.
func unfit(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".@_+-", r)
}
