package config

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
)

// maxChannels bounds the channels of a file.
const maxChannels = 20

var (
	channelName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)
	variable    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	mailDomain  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
)

// notifications reads where people are told what happens.
func (d *decoder) notifications(at string, n *yaml.Node, s *tell.Settings) {
	d.mapping(at, n, fields{
		"consoleURL": func(key string, n *yaml.Node) {
			if !d.text(key, n, &s.ConsoleURL) {
				return
			}
			if u, err := url.Parse(s.ConsoleURL); err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Scheme != "http" && u.Scheme != "https" {
				d.add(n.Line, key, "is no http or https URL, without password and query")
			}
		},
		"channels": func(key string, n *yaml.Node) { s.Channels = d.channels(key, n) },
	})
}

func (d *decoder) channels(at string, n *yaml.Node) []tell.Channel {
	if n = resolve(n); n == nil || isNull(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		d.add(n.Line, at, "wants a list of channels, not %s", describe(n))
		return nil
	}
	if len(n.Content) > maxChannels {
		d.add(n.Line, at, "%d channels; at most %d are taken", len(n.Content), maxChannels)
		return nil
	}
	var all []tell.Channel
	for i, item := range n.Content {
		where := fmt.Sprintf("%s[%d]", at, i)
		d.lines[where] = item.Line
		c := d.channel(where, resolve(item))
		if twin := slices.IndexFunc(all, func(o tell.Channel) bool { return o.Name == c.Name && c.Name != "" }); twin >= 0 {
			d.add(item.Line, where+".name", "%q is also the name of channel %d of the list", c.Name, twin+1)
		}
		all = append(all, c)
	}
	return all
}

// channel reads one channel.
func (d *decoder) channel(at string, n *yaml.Node) (c tell.Channel) {
	if n == nil || n.Kind != yaml.MappingNode {
		d.add(lineOf(n), at, "wants a channel: name, urlFrom, on")
		return c
	}
	d.mapping(at, n, fields{
		"name": func(key string, n *yaml.Node) {
			if d.text(key, n, &c.Name) && !channelName.MatchString(c.Name) {
				d.add(n.Line, key, "%q is no name of a channel: up to 40 of a-z, 0-9 and -", c.Name)
			}
		},
		"urlFrom":  func(key string, n *yaml.Node) { d.urlFrom(key, n, &c.URLFrom) },
		"on":       func(key string, n *yaml.Node) { d.occasions(key, n, &c.On) },
		"alarms":   func(key string, n *yaml.Node) { d.texts(key, n, &c.Alarms, checkGlob) },
		"clusters": func(key string, n *yaml.Node) { d.texts(key, n, &c.Clusters, nil) },
		"groups":   func(key string, n *yaml.Node) { d.texts(key, n, &c.Groups, nil) },
		"templates": func(key string, n *yaml.Node) {
			c.Templates = map[tell.Event]string{}
			d.templates(key, n, c.Templates)
		},
		"owners":      func(key string, n *yaml.Node) { d.boolean(key, n, &c.Owners) },
		"mailDomains": func(key string, n *yaml.Node) { d.texts(key, n, &c.MailDomains, checkMailDomain) },
	})
	d.complete(at, c)
	return c
}

// complete notes what a channel lacks, where it was not read wrongly.
func (d *decoder) complete(at string, c tell.Channel) {
	wrong := func(key string) bool {
		return slices.ContainsFunc(d.problems, func(p problem) bool { return p.key == at+"."+key || path.Dir(p.key) == at+"."+key })
	}
	_, source := d.lines[at+".urlFrom"]
	line := d.lines[at]
	if c.Name == "" && !wrong("name") {
		d.add(line, at+".name", "is missing: name the channel, as doctor and preemptctl notify test show it")
	}
	if !source {
		d.add(line, at+".urlFrom", "is missing: say where its address is read: {env: NAME} or {file: PATH}")
	}
	if len(c.On) == 0 && !c.Owners && !wrong("on") {
		d.add(line, at+".on", "is missing: name at least one of %s", listed(tell.Events()))
	}
	if len(c.MailDomains) > 0 && !c.Owners {
		d.add(line, at+".mailDomains", "is for owners: set owners to true")
	}
}

// urlFrom reads where the address of a channel is read. The address itself has no place in the file, and is not repeated.
func (d *decoder) urlFrom(at string, n *yaml.Node, s *tell.Source) {
	if n.Kind == yaml.ScalarNode && !isNull(n) {
		d.add(n.Line, at, "the address is a secret, and stands in no file of settings: write {env: NAME} or {file: PATH}")
		return
	}
	before := len(d.problems)
	d.mapping(at, n, fields{
		"env": func(key string, n *yaml.Node) {
			if d.text(key, n, &s.Env) && !variable.MatchString(s.Env) {
				d.add(n.Line, key, "is no name of a variable")
				s.Env = ""
			}
		},
		"file": func(key string, n *yaml.Node) {
			if d.text(key, n, &s.File) && !path.IsAbs(s.File) {
				d.add(n.Line, key, "is no absolute path")
				s.File = ""
			}
		},
	})
	if (s.Env == "") == (s.File == "") && len(d.problems) == before {
		d.add(n.Line, at, "wants one of {env: NAME} and {file: PATH}")
	}
}

// occasions reads a list of events.
func (d *decoder) occasions(key string, n *yaml.Node, to *[]tell.Event) {
	var list []string
	d.texts(key, n, &list, func(s string) error {
		if !tell.Event(s).Known() {
			return fmt.Errorf("%q is not one of %s", s, listed(tell.Events()))
		}
		return nil
	})
	for _, s := range list {
		*to = append(*to, tell.Event(s))
	}
}

// templates reads the templates of a channel, and tries each.
func (d *decoder) templates(at string, n *yaml.Node, to map[tell.Event]string) {
	known := fields{}
	for _, e := range tell.Events() {
		known[string(e)] = func(key string, n *yaml.Node) {
			var s string
			if !d.text(key, n, &s) {
				return
			}
			if err := tell.CheckTemplate(e, s); err != nil {
				d.add(n.Line, key, "cannot be used: %w", err)
			}
			to[e] = s
		}
	}
	d.mapping(at, n, known)
}

func checkMailDomain(s string) error {
	if !mailDomain.MatchString(s) {
		return fmt.Errorf("%q is no domain such as example.com", s)
	}
	return nil
}
