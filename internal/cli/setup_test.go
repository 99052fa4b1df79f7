package cli_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"

	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
)

// setUp is what setup -o json prints.
type setUp struct {
	Parts []struct{ Name, State, Text, Remedy string }
}

func (s setUp) states() string {
	var all []string
	for _, p := range s.Parts {
		all = append(all, p.State)
	}
	return strings.Join(all, " ")
}

func TestSetupMakesWhatIsMissingOnce(t *testing.T) {
	s := newSite(t, false)
	here := []string{"-s", s.address, "-n", "setup-fresh"}
	run := func(args ...string) outcome { return preemptctl(t, cli.Options{}, append(args, here...)...) }

	run("setup", "--dry-run").want(t, 0, "stdout", "namespace setup-fresh", "would be created", "search attribute PreemptionAlarm")
	run("workflow", "list").want(t, 1, "stderr", `namespace "setup-fresh" does not exist`)

	run("setup", "--retention", "48h").want(t, 0, "stdout", "namespace setup-fresh", "created", "retention 48h", "search attribute PreemptionState")
	run("workflow", "list").want(t, 0, "stdout") // usable at once
	d, err := s.client.WorkflowService().DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: "setup-fresh"})
	if kept := d.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration(); err != nil || kept != 48*time.Hour {
		t.Errorf("retention %s, %v", kept, err)
	}
	query := "PreemptionAlarm = 'a' AND PreemptionScope = 's' AND PreemptionState STARTS_WITH 'x'"
	if _, err := s.client.CountWorkflow(t.Context(), &workflowservice.CountWorkflowExecutionsRequest{Namespace: "setup-fresh", Query: query}); err != nil {
		t.Errorf("the search attributes cannot be searched by: %v", err)
	}

	again := run("setup", "--retention", "96h", "-o", "json")
	again.want(t, 0, "stdout", "retention 48h")
	if got := decode[setUp](t, again.stdout); got.states() != "exists exists exists exists" {
		t.Errorf("the second time: %s", again.stdout)
	}
}

func TestSetupRefusesAnAttributeOfAnotherType(t *testing.T) {
	s := newSite(t, false)
	here := []string{"-s", s.address, "-n", "setup-wrong"}
	preemptctl(t, cli.Options{}, append(here, "setup")...).want(t, 0, "stdout", "created")
	operator := s.client.OperatorService()
	if _, err := operator.RemoveSearchAttributes(t.Context(), &operatorservice.RemoveSearchAttributesRequest{
		Namespace: "setup-wrong", SearchAttributes: []string{"PreemptionScope", "PreemptionState"},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := operator.AddSearchAttributes(t.Context(), &operatorservice.AddSearchAttributesRequest{
		Namespace: "setup-wrong", SearchAttributes: map[string]enumspb.IndexedValueType{"PreemptionScope": enumspb.INDEXED_VALUE_TYPE_INT},
	}); err != nil {
		t.Fatal(err)
	}
	got := preemptctl(t, cli.Options{}, append(here, "setup")...)
	got.want(t, 1, "stderr", "Error: namespace setup-wrong on "+s.address+" is not set up: search attribute PreemptionScope is wrong")
	got.want(t, 1, "stdout", "it is of type Int, and must be Keyword",
		"temporal operator search-attribute remove --namespace setup-wrong --name PreemptionScope")
	got = preemptctl(t, cli.Options{}, append(here, "setup", "-o", "json")...)
	if decode[setUp](t, got.stdout).states() != "exists exists wrong exists" {
		t.Errorf("what was missing beside it was not added: %s", got.stdout)
	}
}

// cloud is a frontend as Temporal Cloud's: namespaces and search attributes are not made through it.
type cloud struct {
	workflowservice.UnimplementedWorkflowServiceServer
	namespace bool
	known     string // search attributes
}

func (c *cloud) GetSystemInfo(context.Context, *workflowservice.GetSystemInfoRequest) (*workflowservice.GetSystemInfoResponse, error) {
	return &workflowservice.GetSystemInfoResponse{}, nil
}

func (c *cloud) DescribeNamespace(context.Context, *workflowservice.DescribeNamespaceRequest) (*workflowservice.DescribeNamespaceResponse, error) {
	return nil, grpcError(serviceerror.NewPermissionDenied("Request unauthorized.", ""))
}

func (c *cloud) RegisterNamespace(context.Context, *workflowservice.RegisterNamespaceRequest) (*workflowservice.RegisterNamespaceResponse, error) {
	return nil, grpcError(serviceerror.NewPermissionDenied("Request unauthorized.", ""))
}

func (c *cloud) CountWorkflowExecutions(_ context.Context, r *workflowservice.CountWorkflowExecutionsRequest) (*workflowservice.CountWorkflowExecutionsResponse, error) {
	name, _, _ := strings.Cut(strings.TrimPrefix(r.GetQuery(), "`"), "`")
	switch {
	case !c.namespace:
		return nil, grpcError(serviceerror.NewNamespaceNotFound(r.GetNamespace()))
	case !strings.Contains(c.known, name):
		return nil, grpcError(serviceerror.NewInvalidArgument("invalid query"))
	}
	return &workflowservice.CountWorkflowExecutionsResponse{}, nil
}

func grpcError(err error) error { return serviceerror.ToStatus(err).Err() }

func (c *cloud) serve(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	workflowservice.RegisterWorkflowServiceServer(server, c)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return l.Addr().String()
}

func TestSetupSaysWhatToDoByHandWhereItMayNot(t *testing.T) {
	all := "PreemptionAlarm PreemptionScope PreemptionState"
	for name, tc := range map[string]struct {
		cloud         cloud
		code          int
		states        string
		says, lastErr string
	}{
		"no namespace": {
			cloud{},
			1, "missing missing missing missing",
			"tcld namespace create --namespace prod --region REGION --auth-method api_key --retention-days 3", "namespace prod.a1b2c is missing",
		},
		"no attribute": {
			cloud{namespace: true, known: "PreemptionAlarm PreemptionState"},
			1, "exists exists missing exists",
			"tcld namespace search-attributes add --namespace prod.a1b2c --search-attribute PreemptionScope=Keyword", "search attribute PreemptionScope is missing",
		},
		"all is there": {cloud{namespace: true, known: all}, 0, "exists exists exists exists", "Keyword", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := preemptctl(t, cli.Options{}, "setup", "-s", tc.cloud.serve(t), "-n", "prod.a1b2c", "-o", "json")
			got.want(t, tc.code, "stdout", tc.says)
			got.want(t, tc.code, "stderr", tc.lastErr)
			if states := decode[setUp](t, got.stdout).states(); states != tc.states {
				t.Errorf("%s, want %s", states, tc.states)
			}
		})
	}
}

func TestSetupChecksItsFlagsAndItsServer(t *testing.T) {
	preemptctl(t, cli.Options{}, "setup", "--retention", "5m").want(t, 2, "stderr", "--retention 5m0s is less than an hour")
	preemptctl(t, cli.Options{}, "setup", "now").want(t, 2, "stderr", "takes no arguments")
	preemptctl(t, cli.Options{}, "setup", "-s", "127.0.0.1:1").want(t, 1, "stderr", "Error: cannot reach Temporal at 127.0.0.1:1: connection refused")
}
