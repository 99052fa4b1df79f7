package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
)

// fields are the keys of a mapping, each with what reads its value.
type fields map[string]func(key string, n *yaml.Node)

// decoder walks the nodes of a YAML file and collects every problem with its line and key. A value that
// cannot be read leaves what it was to change as it is.
type decoder struct {
	name     string
	lines    map[string]int // of each key read, by its path
	problems []problem
	warnings []string
	limited  Limits // of the file, for its rules
}

type problem struct {
	line int
	key  string
	err  error
}

// add notes a problem; line 0 and an empty key are left out.
func (d *decoder) add(line int, key, format string, args ...any) {
	where := d.name
	if line > 0 {
		where = fmt.Sprintf("%s:%d", where, line)
	}
	if key != "" {
		where += ": " + quoteKey(key)
	}
	d.problems = append(d.problems, problem{line, key, fmt.Errorf("%s: %w", where, fmt.Errorf(format, args...))})
}

// quoteKey keeps a key on its line, whatever the file holds.
func quoteKey(key string) string {
	q := fmt.Sprintf("%q", key)
	if q == `"`+key+`"` && !strings.ContainsAny(key, " :") {
		return key
	}
	return q
}

// impossible notes what policy.Validate says, "key: what is wrong", at the line of that key.
func (d *decoder) impossible(at string, err error) {
	key, text, _ := strings.Cut(err.Error(), ": ")
	d.add(cmp.Or(d.lines[at+"."+key], d.lines[at]), at+"."+key, "%s", text)
}

// err joins the problems in the order of their lines.
func (d *decoder) err() error {
	slices.SortStableFunc(d.problems, func(a, b problem) int { return cmp.Compare(a.line, b.line) })
	var errs []error
	for _, p := range d.problems {
		errs = append(errs, p.err)
	}
	return errors.Join(errs...)
}

// entries calls f for each entry of a mapping; nothing at all counts as an empty one.
func (d *decoder) entries(at string, n *yaml.Node, f func(name string, key, value *yaml.Node)) {
	if n = resolve(n); n == nil || isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.add(n.Line, at, "wants keys with values, not %s", describe(n))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], resolve(n.Content[i+1])
		name := key.Value
		if key.Kind != yaml.ScalarNode || value == nil {
			d.add(key.Line, at, "a key must be plain text")
			continue
		}
		if first, ok := seen[name]; ok {
			d.add(key.Line, join(at, name), "given twice, first in line %d", first)
			continue
		}
		seen[name] = key.Line
		d.lines[join(at, name)] = key.Line
		f(name, key, value)
	}
}

// mapping reads a mapping whose keys are known.
func (d *decoder) mapping(at string, n *yaml.Node, known fields) {
	d.entries(at, n, func(name string, key, value *yaml.Node) {
		path := join(at, name)
		read, ok := known[name]
		if !ok {
			d.add(key.Line, path, "unknown key; allowed are %s", strings.Join(slices.Sorted(maps.Keys(known)), ", "))
			return
		}
		read(path, value)
	})
}

// scalar reports whether the node is one value; kind says what is wanted.
func (d *decoder) scalar(key string, n *yaml.Node, kind string) bool {
	switch {
	case n.Kind != yaml.ScalarNode:
		d.add(n.Line, key, "wants %s, not %s", kind, describe(n))
	case isNull(n):
		d.add(n.Line, key, "has no value; give it %s or remove it", kind)
	default:
		return true
	}
	return false
}

func (d *decoder) text(key string, n *yaml.Node, to *string) bool {
	if !d.scalar(key, n, "text") {
		return false
	}
	*to = n.Value
	return true
}

func (d *decoder) integer(key string, n *yaml.Node, to *int) {
	if !d.scalar(key, n, "a whole number") {
		return
	}
	var v int
	if n.ShortTag() != "!!int" || n.Decode(&v) != nil {
		d.add(n.Line, key, "%q is no whole number", n.Value)
		return
	}
	*to = v
}

func (d *decoder) boolean(key string, n *yaml.Node, to *bool) {
	if !d.scalar(key, n, "true or false") {
		return
	}
	var v bool
	if n.ShortTag() != "!!bool" || n.Decode(&v) != nil {
		d.add(n.Line, key, "%q is neither true nor false", n.Value)
		return
	}
	*to = v
}

func (d *decoder) duration(key string, n *yaml.Node, to *clock.Duration) {
	if !d.scalar(key, n, "a duration such as 90s or 5m") {
		return
	}
	v, err := time.ParseDuration(n.Value)
	if err != nil {
		d.add(n.Line, key, "%q is no duration; write it with its unit, such as 90s or 5m", n.Value)
		return
	}
	*to = clock.Duration(v)
}

// texts reads a list of texts, each of which check accepts.
func (d *decoder) texts(key string, n *yaml.Node, to *[]string, check func(string) error) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.add(n.Line, key, "wants a list such as [a, b], not %s", describe(n))
		return
	}
	if len(n.Content) > maxEntries {
		d.add(n.Line, key, "has %d entries; at most %d are taken", len(n.Content), maxEntries)
		return
	}
	list := make([]string, 0, len(n.Content))
	for _, entry := range n.Content {
		var s string
		if entry = resolve(entry); entry == nil || !d.text(key, entry, &s) {
			continue
		}
		if s = strings.TrimSpace(s); s == "" {
			d.add(entry.Line, key, "an entry is empty")
			continue
		}
		if check != nil {
			if err := check(s); err != nil {
				d.add(entry.Line, key, "%w", err)
				continue
			}
		}
		list = append(list, s)
	}
	*to = list
}

func checkReplyAllow(s string) error {
	_, addr := netip.ParseAddr(s)
	_, prefix := netip.ParsePrefix(s)
	switch {
	case addr == nil, prefix == nil:
		return nil
	case strings.ContainsAny(s, "/:@* "):
		return fmt.Errorf("%q is neither a host name, such as sink.example.com, nor a CIDR, such as 10.0.0.0/8", s)
	}
	return nil
}

// resolve returns the node that an alias refers to.
func resolve(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	}
	return fmt.Sprintf("%q", n.Value)
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}
