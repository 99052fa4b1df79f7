package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

const maxRules = 200

// rules reads the list of rules. Each names a policy of the same file.
func (d *decoder) rules(at string, n *yaml.Node, policies map[string]policy.Policy) []trigger.Rule {
	var all []trigger.Rule
	if n = resolve(n); n == nil || isNull(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		d.add(n.Line, at, "wants a list of rules, not %s", describe(n))
		return nil
	}
	if len(n.Content) > maxRules {
		d.add(n.Line, at, "%d rules; at most %d are taken", len(n.Content), maxRules)
		return nil
	}
	for i, item := range n.Content {
		if rule, ok := d.rule(fmt.Sprintf("%s[%d]", at, i), resolve(item), policies); ok {
			all = append(all, rule)
		}
	}
	return all
}

func (d *decoder) rule(at string, n *yaml.Node, policies map[string]policy.Policy) (rule trigger.Rule, ok bool) {
	before := len(d.problems)
	if n == nil || n.Kind != yaml.MappingNode {
		d.add(lineOf(n), at, "wants a rule: alarm, and what to do")
		return rule, false
	}
	d.mapping(at, n, fields{
		"alarm": func(key string, n *yaml.Node) {
			if !d.text(key, n, &rule.Alarm) {
				return
			}
			if err := trigger.CheckPattern(rule.Alarm); err != nil {
				d.add(n.Line, key, "%w", err)
			}
		},
		"preempt": func(key string, n *yaml.Node) { rule.Action = d.preempt(key, n, policies) },
	}, "event", "resize", "reconfigure", "move")
	if len(d.problems) > before {
		return rule, false
	}
	if rule.Alarm == "" {
		d.add(n.Line, at, "names no alarm; give it alarm: <name, glob or MoRef>")
	}
	if rule.Action == nil {
		d.add(n.Line, at, "says nothing to do; give it preempt: {tag: %s}", preemption.DefaultTag)
	}
	return rule, len(d.problems) == before
}

func lineOf(n *yaml.Node) int {
	if n == nil {
		return 0
	}
	return n.Line
}

func (d *decoder) preempt(at string, n *yaml.Node, policies map[string]policy.Policy) trigger.Preempt {
	p := trigger.Preempt{Tag: preemption.DefaultTag, Policy: DefaultPolicy, OnFall: trigger.OnFallCancel}
	d.mapping(at, n, fields{
		"tag": func(key string, n *yaml.Node) {
			if !d.text(key, n, &p.Tag) {
				return
			}
			if p.Tag = strings.TrimSpace(p.Tag); p.Tag == "" {
				d.add(n.Line, key, "is empty: name the tag that marks preemptible VMs")
			}
		},
		"policy": func(key string, n *yaml.Node) {
			if !d.text(key, n, &p.Policy) {
				return
			}
			if _, ok := policies[p.Policy]; !ok {
				d.add(n.Line, key, "the file has no policy %q", p.Policy)
			}
		},
		"replyTo": func(key string, n *yaml.Node) {
			if d.text(key, n, &p.ReplyTo) {
				if err := checkReplyTo(p.ReplyTo); err != nil {
					d.add(n.Line, key, "%w", err)
				}
			}
		},
		"onFall": func(key string, n *yaml.Node) {
			if d.text(key, n, &p.OnFall) && !slices.Contains([]string{trigger.OnFallCancel, trigger.OnFallSoften}, p.OnFall) {
				d.add(n.Line, key, "%q is not one of %s, %s", p.OnFall, trigger.OnFallCancel, trigger.OnFallSoften)
			}
		},
		"mode": func(key string, n *yaml.Node) { d.mode(key, n, &p.Mode) },
		"criticality": func(key string, n *yaml.Node) {
			d.mapping(key, n, fields{
				"yellow": func(key string, n *yaml.Node) { d.colour(key, n, &p.Yellow) },
				"red":    func(key string, n *yaml.Node) { d.colour(key, n, &p.Red) },
			})
			if yellow, red := p.Criticality("yellow"), p.Criticality("red"); red.Rank() < yellow.Rank() {
				d.add(n.Line, key, "red means %s and yellow %s: an alarm that gets worse cannot ask for less", red, yellow)
			}
		},
	})
	p.Scope = policies[p.Policy].Scope
	return p
}

func (d *decoder) mode(key string, n *yaml.Node, to *string) {
	if d.text(key, n, to) && !slices.Contains([]string{policy.ModeAct, policy.ModeObserve}, *to) {
		d.add(n.Line, key, "%q is not one of %s, %s", *to, policy.ModeAct, policy.ModeObserve)
	}
}

// colour reads what a colour means: a criticality, or none.
func (d *decoder) colour(key string, n *yaml.Node, to *preemption.Criticality) {
	var s string
	if !d.text(key, n, &s) {
		return
	}
	c, err := trigger.ParseColour(s)
	if err != nil {
		d.add(n.Line, key, "%w", err)
		return
	}
	*to = c
}

func checkReplyTo(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("%q is no http or https URL", s)
	}
	return nil
}
