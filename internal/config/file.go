package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// Bounds of the file.
const (
	maxFileBytes = 1 << 20
	maxPolicies  = 100
	maxEntries   = 1000 // of one list
)

// DefaultPolicy is the name of the policy that holds where nothing names another.
const DefaultPolicy = "default"

// Limits are what the operator allows, whoever asks.
type Limits struct {
	VCenterCalls int           // at once, per worker
	Outage       time.Duration // how long vCenter or Temporal may be away before work is given up
	AllowedTags  []string      // empty: any
	// WithoutCategories are the tag categories of owners that the site does not have.
	WithoutCategories []string
	MaxCriticality    preemption.Criticality
	ReplyAllow        []string // hosts and CIDRs; empty: any but loopback, link-local, metadata
	NeverTouch        []string // name globs
	TrustedUsers      []string // service users whose changes to a VM that is off do not make it its owner's

	RemediationsPerHour int // above which remediation only recommends; 0: any number
	Moves               Moves
}

// Moves are how many moves of VMs may be under way at once.
type Moves struct {
	PerDatastore int // off one
	PerHost      int // to one
	AtOnce       int // in all
}

// File is what the YAML file says, with the defaults where it is silent.
type File struct {
	Mode     string // act, or observe: touch no VM, whatever the policies say
	Limits   Limits
	MakeRoom MakeRoom
	Policies map[string]policy.Policy // holds at least the policy named default
	Rules    []trigger.Rule
	Warnings []string // what is possible and hardly meant, each with its line
	// Notifications say where people are told what happens.
	Notifications tell.Settings
	Aliases       []string // by which event routers call the worker's vCenter, beside its own names
}

// DefaultFile returns what holds without a file.
func DefaultFile() File {
	return File{
		Mode: policy.ModeAct,
		Limits: Limits{
			VCenterCalls: 5, Outage: 24 * time.Hour, MaxCriticality: preemption.CriticalityHigh,
			RemediationsPerHour: 20, Moves: Moves{PerDatastore: 1, PerHost: 2, AtOnce: 4},
		},
		MakeRoom: DefaultMakeRoom(),
		Policies: map[string]policy.Policy{DefaultPolicy: policy.Default()},
	}
}

// Remediation is the configuration of remediation; SelfUUIDs has the worker's own VMs.
type Remediation struct {
	Observe    bool // decide and tell, change nothing, whatever rules and tags say
	PerHour    int
	Moves      Moves
	NeverTouch []string
}

// Remediation returns what the file says for remediation.
func (f File) Remediation() Remediation {
	return Remediation{
		Observe: f.Mode == policy.ModeObserve, PerHour: f.Limits.RemediationsPerHour, Moves: f.Limits.Moves,
		NeverTouch: slices.Clone(f.Limits.NeverTouch),
	}
}

// Tags are the tags that the file names: those that may be asked for and those of rules, sorted.
func (f File) Tags() []string {
	all := slices.Clone(f.Limits.AllowedTags)
	for _, r := range f.Rules {
		if tag := r.Action.VMTag(); tag != "" {
			all = append(all, tag)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// ReadFile reads the YAML file. Its error joins one error per problem.
func ReadFile(name string) (File, error) {
	f, err := os.Open(name)
	if err != nil {
		return DefaultFile(), fmt.Errorf("configuration file: %w; name an existing file with --config or PREEMPTION_CONFIG", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return DefaultFile(), fmt.Errorf("configuration file: %w", err)
	}
	return ParseFile(name, data)
}

// ParseFile reads the text of a YAML file; name is for the errors, which also tell line and key.
func ParseFile(name string, data []byte) (File, error) {
	if len(data) > maxFileBytes {
		return DefaultFile(), fmt.Errorf("%s: the file is larger than %d bytes", name, maxFileBytes)
	}
	d := decoder{name: name, lines: map[string]int{}}
	root := d.document(data)
	f := DefaultFile()
	var policies, rules *yaml.Node
	d.mapping("", root, fields{
		"limits":        func(key string, n *yaml.Node) { d.limits(key, n, &f.Limits) },
		"makeRoom":      func(key string, n *yaml.Node) { d.rooms(key, n, &f.MakeRoom) },
		"mode":          func(key string, n *yaml.Node) { d.mode(key, n, &f.Mode) },
		"notifications": func(key string, n *yaml.Node) { d.notifications(key, n, &f.Notifications) },
		"policies":      func(_ string, n *yaml.Node) { policies = n },
		"rules":         func(_ string, n *yaml.Node) { rules = n },
		"vcenter": func(key string, n *yaml.Node) {
			d.mapping(key, n, fields{
				"aliases": func(key string, n *yaml.Node) { d.texts(key, n, &f.Aliases, checkAlias) },
			})
		},
	})
	f.Policies = d.policies("policies", policies, f.Limits.NeverTouch)
	if f.Mode == policy.ModeObserve {
		for name, p := range f.Policies {
			p.Mode = f.Mode
			f.Policies[name] = p
		}
	}
	d.limited = f.Limits
	f.Rules = d.rules("rules", rules, f.Policies)
	f.Warnings = d.warnings
	return f, d.err()
}

// document returns the one mapping that the text holds, nil where it is empty.
func (d *decoder) document(data []byte) *yaml.Node {
	var doc, more yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		d.add(0, "", "%w", err)
		return nil
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		d.add(more.Line, "", "a second document; the file holds one")
	}
	if len(doc.Content) == 0 {
		return nil
	}
	return doc.Content[0]
}

func (d *decoder) limits(at string, n *yaml.Node, l *Limits) {
	d.mapping(at, n, fields{
		"vcenterCalls": func(key string, n *yaml.Node) { d.within(key, n, &l.VCenterCalls, 1, 50) },
		"outage": func(key string, n *yaml.Node) {
			outage := clock.Duration(l.Outage)
			d.duration(key, n, &outage)
			if l.Outage = outage.D(); l.Outage < time.Second || l.Outage > 30*24*time.Hour {
				d.add(n.Line, key, "%s is not within 1s to 720h", l.Outage)
			}
		},
		"allowedTags":       func(key string, n *yaml.Node) { d.texts(key, n, &l.AllowedTags, nil) },
		"withoutCategories": func(key string, n *yaml.Node) { d.texts(key, n, &l.WithoutCategories, checkOwnerCategory) },
		"maxCriticality":    func(key string, n *yaml.Node) { d.criticality(key, n, &l.MaxCriticality) },
		"replyAllow":        func(key string, n *yaml.Node) { d.texts(key, n, &l.ReplyAllow, checkReplyAllow) },
		"neverTouch":        func(key string, n *yaml.Node) { d.texts(key, n, &l.NeverTouch, checkGlob) },
		"trustedUsers":      func(key string, n *yaml.Node) { d.texts(key, n, &l.TrustedUsers, checkUser) },

		"remediationsPerHour": func(key string, n *yaml.Node) { d.within(key, n, &l.RemediationsPerHour, 0, 1000) },
		"moves": func(key string, n *yaml.Node) {
			d.mapping(key, n, fields{
				"perDatastore": func(key string, n *yaml.Node) { d.within(key, n, &l.Moves.PerDatastore, 1, 100) },
				"perHost":      func(key string, n *yaml.Node) { d.within(key, n, &l.Moves.PerHost, 1, 100) },
				"atOnce":       func(key string, n *yaml.Node) { d.within(key, n, &l.Moves.AtOnce, 1, 100) },
			})
		},
	})
}

func (d *decoder) within(key string, n *yaml.Node, to *int, low, high int) {
	d.integer(key, n, to)
	if *to < low || *to > high {
		d.add(n.Line, key, "%d is not within %d to %d", *to, low, high)
	}
}

func (d *decoder) criticality(key string, n *yaml.Node, to *preemption.Criticality) {
	var s string
	if !d.text(key, n, &s) {
		return
	}
	c, err := preemption.ParseCriticality(s)
	if err != nil {
		d.add(n.Line, key, "%q is not one of HIGH, MEDIUM, LOW", s)
		return
	}
	*to = c
}

// checkAlias checks a name of vCenter: a host, a host and port, or the whole source of an event.
func checkAlias(s string) error {
	if strings.TrimSpace(s) == "" || len(s) > 2048 {
		return errors.New("is no name of a vCenter: write its host, or the source that the router's events have")
	}
	return nil
}

// checkOwnerCategory takes the categories of which the policy knows.
func checkOwnerCategory(s string) error {
	if all := []string{policy.CategoryPriority, policy.CategoryGroup, policy.CategoryProtect}; !slices.Contains(all, s) {
		return fmt.Errorf("%q is not one of %s", s, strings.Join(all, ", "))
	}
	return nil
}

func checkGlob(s string) error {
	if _, err := path.Match(s, ""); err != nil {
		return fmt.Errorf("%q is no name pattern; use * ? and [a-z], with \\ before a literal one", s)
	}
	return nil
}

// checkUser takes a user as vCenter writes it in events, or as one logs in.
func checkUser(s string) error {
	domain, name, ok := strings.Cut(s, `\`)
	if !ok {
		name, domain, ok = strings.Cut(s, "@")
	}
	if !ok || name == "" || domain == "" || strings.ContainsAny(s, "*?") {
		return fmt.Errorf(`%q is no user such as VSPHERE.LOCAL\k8s-csi or backup@vsphere.local`, s)
	}
	return nil
}
