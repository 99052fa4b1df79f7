package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
)

const (
	setupLimit = 2 * time.Minute // a new namespace reaches all of Temporal within seconds
	setupPause = 200 * time.Millisecond
)

// The states of one part.
const (
	partExists  = "exists"
	partCreated = "created" // or, in a dry run, to be created
	partMissing = "missing"
	partWrong   = "wrong"
)

// part is one thing that is set up.
type part struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Text   string `json:"text,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

// setUp is what setup prints.
type setUp struct {
	Address   string `json:"address"`
	Namespace string `json:"namespace"`
	DryRun    bool   `json:"dryRun,omitempty"`
	Parts     []part `json:"parts"`
}

func (a *app) setupCommand() *cobra.Command {
	var retention time.Duration
	var dryRun bool
	cmd := &cobra.Command{
		Use: "setup", Args: noArgs,
		Short: "Create the namespace and the search attributes in Temporal",
		Long: "Create the Temporal namespace and its search attributes, which are used to find preemptions, and check the types\n" +
			"of those that exist. Whatever exists stays as it is, so you can run this again. If Temporal refuses, as Temporal\n" +
			"Cloud does, the command says what to do by hand. It needs neither worker nor vCenter.\n\n" +
			exitCodes(", also when something is still missing or has another type", "", ""),
		Example: "  # what is missing?\n  preemptctl setup --dry-run\n  preemptctl setup -s temporal.example.com:7233 --retention 720h",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if retention < time.Hour {
				return usagef("--retention %s is less than an hour", retention)
			}
			return a.withSession(cmd, setupLimit, func(ctx context.Context, s *session) error { return a.setUp(ctx, s, retention, dryRun) })
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.DurationVar(&retention, "retention", 30*24*time.Hour, "how long a new namespace keeps ended workflows")
	flags.BoolVar(&dryRun, "dry-run", false, "only show what would be created")
	return cmd
}

func (a *app) setUp(ctx context.Context, s *session, retention time.Duration, dryRun bool) error {
	out := setUp{Address: a.target.address, Namespace: a.target.namespace, DryRun: dryRun}
	space, err := s.ensureNamespace(ctx, retention, dryRun)
	if err != nil {
		return err
	}
	out.Parts = append(out.Parts, space)
	attributes, err := s.ensureAttributes(ctx, space.State, dryRun)
	if err != nil {
		return err
	}
	out.Parts = append(out.Parts, attributes...)
	err = a.show(view{
		value: out, msg: "set up", attrs: []any{"namespace", out.Namespace, "dryRun", out.DryRun, "parts", out.Parts},
		table: func(t *table) { setupTable(t, out) },
	})
	if err != nil {
		return err
	}
	for _, p := range out.Parts {
		if p.State == partMissing || p.State == partWrong {
			return failedf("namespace %s on %s is not set up: %s is %s", out.Namespace, out.Address, p.Name, p.State)
		}
	}
	return nil
}

func setupTable(t *table, out setUp) {
	for _, p := range out.Parts {
		state := p.State
		if out.DryRun && state == partCreated {
			state = "would be created"
		}
		t.row(p.Name, state, withRemedy(p.Text, p.Remedy))
	}
}

// withRemedy describes the problem and the remedy.
func withRemedy(text, remedy string) string {
	switch {
	case remedy == "":
		return text
	case text == "":
		return remedy
	}
	return text + "; " + remedy
}

// forbidden reports whether the server denies the call, or does not offer it. Temporal Cloud does either.
func forbidden(err error) bool {
	var denied *serviceerror.PermissionDenied
	var without *serviceerror.Unimplemented
	return errors.As(err, &denied) || errors.As(err, &without)
}

// lookAtNamespace reports whether the namespace exists and returns its retention; 0: unknown.
func (s *session) lookAtNamespace(ctx context.Context) (found bool, retention time.Duration, err error) {
	d, err := s.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: s.app.target.namespace})
	var none *serviceerror.NamespaceNotFound
	switch {
	case errors.As(err, &none):
		return false, 0, nil
	case forbidden(err): // everybody who may use it can see it
		_, err = s.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Namespace: s.app.target.namespace})
		if namespaceMissing(err) {
			return false, 0, nil
		}
		return err == nil, 0, err
	case err != nil:
		return false, 0, err
	}
	if state := d.GetNamespaceInfo().GetState(); state == enumspb.NAMESPACE_STATE_DELETED {
		return false, 0, failedf("namespace %s on %s is being deleted: wait until it is deleted, or use another name", s.app.target.namespace, s.app.target.address)
	}
	return true, d.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration(), nil
}

func (s *session) ensureNamespace(ctx context.Context, retention time.Duration, dryRun bool) (part, error) {
	p := part{Name: "namespace " + s.app.target.namespace, State: partExists}
	found, kept, err := s.lookAtNamespace(ctx)
	switch {
	case err != nil:
		return p, err
	case found && kept > 0:
		p.Text = "retention " + hours(kept)
		return p, nil
	case found:
		return p, nil
	}
	p.State, p.Text = partCreated, "retention "+hours(retention)
	if dryRun {
		return p, nil
	}
	_, err = s.WorkflowService().RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: s.app.target.namespace, Description: "Preemption of vSphere VMs",
		WorkflowExecutionRetentionPeriod: durationpb.New(retention),
	})
	var faster *serviceerror.NamespaceAlreadyExists
	switch {
	case errors.As(err, &faster):
		p.State, p.Text = partExists, ""
	case forbidden(err):
		p.State, p.Text, p.Remedy = partMissing, "Temporal does not let us create it", s.namespaceByHand(retention)
		return p, nil
	case err != nil:
		return p, fmt.Errorf("create namespace %s: %w", s.app.target.namespace, err)
	}
	return p, s.awaitUsable(ctx, "")
}

// namespaceByHand returns how to create the namespace by hand.
func (s *session) namespaceByHand(retention time.Duration) string {
	name, _, _ := strings.Cut(s.app.target.namespace, ".") // Temporal Cloud appends the account
	days := (retention + 24*time.Hour - 1) / (24 * time.Hour)
	return fmt.Sprintf("on Temporal Cloud create it at https://cloud.temporal.io under Namespaces, or: tcld namespace create --namespace %s --region REGION --auth-method api_key --retention-days %d; "+
		"elsewhere an administrator of Temporal does: temporal operator namespace create --namespace %s --retention %s", name, days, s.app.target.namespace, hours(retention))
}

// ensureAttributes adds the search attributes that are missing. Types are compared first: the server silently takes
// an attribute that exists with another type. namespace is the state of the namespace.
func (s *session) ensureAttributes(ctx context.Context, namespace string, dryRun bool) (parts []part, err error) {
	if namespace == partMissing || dryRun && namespace == partCreated {
		for _, name := range preemptapi.SearchAttributes() {
			parts = append(parts, part{Name: "search attribute " + name, State: namespace})
		}
		return parts, nil
	}
	have, err := s.attributeTypes(ctx)
	if err != nil {
		return nil, err
	}
	parts, missing := s.compareAttributes(have)
	if dryRun || len(missing) == 0 {
		return parts, nil
	}
	_, err = s.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{
		Namespace: s.app.target.namespace, SearchAttributes: missing,
	})
	if forbidden(err) {
		for i, p := range parts {
			if p.State == partCreated {
				parts[i] = s.attributePart(strings.TrimPrefix(p.Name, "search attribute "), "")
			}
		}
		return parts, nil
	}
	if err != nil {
		return nil, fmt.Errorf("add search attributes to namespace %s: %w", s.app.target.namespace, err)
	}
	for name := range missing {
		if err := s.awaitUsable(ctx, "`"+name+"` IS NOT NULL"); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// compareAttributes returns the part of each search attribute as it will be, and the types of those that are missing.
func (s *session) compareAttributes(have map[string]string) (parts []part, missing map[string]enumspb.IndexedValueType) {
	missing = map[string]enumspb.IndexedValueType{}
	for _, name := range preemptapi.SearchAttributes() {
		p := s.attributePart(name, have[name])
		if p.State == partMissing {
			p.State, p.Text, p.Remedy = partCreated, keyword, ""
			missing[name] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
		}
		parts = append(parts, p)
	}
	return parts, missing
}

// keyword is the type of our search attributes, as Temporal writes it.
const keyword = "Keyword"

// attributeTypes are the types of the search attributes. If we may not list them, we search by ours: a search
// that only a Keyword accepts shows the type.
func (s *session) attributeTypes(ctx context.Context) (map[string]string, error) {
	types := map[string]string{}
	list, err := s.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: s.app.target.namespace})
	if err == nil {
		for name, kind := range list.GetCustomAttributes() {
			types[name] = kind.String()
		}
		return types, nil
	}
	if !forbidden(err) {
		return nil, err
	}
	for _, name := range preemptapi.SearchAttributes() {
		err := s.search(ctx, "`"+name+"` STARTS_WITH 'x'")
		var invalid *serviceerror.InvalidArgument
		switch {
		case err == nil:
			types[name] = keyword
		case !errors.As(err, &invalid):
			return nil, err
		}
	}
	return types, nil
}

func (s *session) search(ctx context.Context, query string) error {
	_, err := s.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Namespace: s.app.target.namespace, Query: query})
	return err
}

// attributePart returns the state of a search attribute of this type; "": there is none.
func (s *session) attributePart(name, kind string) part {
	p := part{Name: "search attribute " + name, State: partExists, Text: keyword}
	namespace := s.app.target.namespace
	switch kind {
	case keyword:
	case "":
		p.State, p.Text = partMissing, "it is not there, or is no "+keyword
		p.Remedy = fmt.Sprintf("on Temporal Cloud add it to the namespace as %s at https://cloud.temporal.io, or: tcld namespace search-attributes add --namespace %s --search-attribute %s=%s; "+
			"elsewhere an administrator of Temporal does: temporal operator search-attribute create --namespace %s --name %s --type %s",
			keyword, namespace, name, keyword, namespace, name, keyword)
	default:
		p.State, p.Text = partWrong, fmt.Sprintf("it is of type %s, and must be %s", kind, keyword)
		p.Remedy = fmt.Sprintf("if nobody else needs it, remove it and run setup again: temporal operator search-attribute remove --namespace %s --name %s; "+
			"else take another namespace; until then workflows run without search attributes", namespace, name)
	}
	return p
}

// awaitUsable waits until the namespace answers a search, as a new one and a new attribute take a moment.
func (s *session) awaitUsable(ctx context.Context, query string) error {
	for {
		err := s.search(ctx, query)
		switch {
		case forbidden(err): // a user that may create it need not be allowed to read
			return nil
		case err == nil || !clock.Sleep(ctx, setupPause):
			return err
		}
	}
}

// hours writes a retention without minutes and seconds, which are always 0.
func hours(d time.Duration) string {
	text := strings.TrimSuffix(d.String(), "0s")
	if h, zero := strings.CutSuffix(text, "h0m"); zero {
		return h + "h"
	}
	return text
}
