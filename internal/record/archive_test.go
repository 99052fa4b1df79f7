package record

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
)

// fakeTemporal has rounds that have ended, and counts what is read.
type fakeTemporal struct {
	client.Client
	rounds    []*workflowpb.WorkflowExecutionInfo // newest end first
	retention time.Duration
	perPage   int
	away      error
	results   int // read
	lists     int
}

func (f *fakeTemporal) ended(n int, end time.Time) {
	f.rounds = slices.Insert(f.rounds, 0, &workflowpb.WorkflowExecutionInfo{
		Execution: &commonpb.WorkflowExecution{WorkflowId: fmt.Sprintf("round-%d", n), RunId: fmt.Sprintf("run-%d", n)},
		Type:      &commonpb.WorkflowType{Name: preemptapi.RoundType}, Status: enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED,
		StartTime: timestamppb.New(end.Add(-time.Minute)), CloseTime: timestamppb.New(end),
	})
}

func (f *fakeTemporal) ListWorkflow(_ context.Context, req *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	if f.away != nil {
		return nil, f.away
	}
	f.lists++
	out := &workflowservice.ListWorkflowExecutionsResponse{}
	if strings.Contains(req.Query, "ExecutionStatus = 'Running'") {
		return out, nil
	}
	since, until := bound(req.Query, "CloseTime >= '"), bound(req.Query, "CloseTime <= '")
	skip := len(req.NextPageToken)
	for _, info := range f.rounds {
		end := info.CloseTime.AsTime()
		if end.Before(since) || !until.IsZero() && end.After(until) {
			continue
		}
		if skip--; skip >= 0 {
			continue
		}
		if len(out.Executions) == f.perPage {
			out.NextPageToken = make([]byte, len(req.NextPageToken)+f.perPage)
			break
		}
		out.Executions = append(out.Executions, info)
	}
	return out, nil
}

func bound(query, before string) time.Time {
	_, rest, _ := strings.Cut(query, before)
	text, _, _ := strings.Cut(rest, "'")
	at, _ := time.Parse(time.RFC3339Nano, text)
	return at
}

func (f *fakeTemporal) GetWorkflow(_ context.Context, id, _ string) client.WorkflowRun {
	f.results++
	return fakeRun{id: id}
}

type fakeRun struct {
	client.WorkflowRun
	id string
}

func (r fakeRun) GetWithOptions(_ context.Context, to any, _ client.WorkflowRunGetOptions) error {
	*to.(*preemptapi.RoundResult) = preemptapi.RoundResult{RoundID: r.id, State: preemptapi.RoundCompleted}
	return nil
}

func (f *fakeTemporal) DescribeTaskQueue(context.Context, string, enumspb.TaskQueueType) (*workflowservice.DescribeTaskQueueResponse, error) {
	return &workflowservice.DescribeTaskQueueResponse{}, f.away
}

func (f *fakeTemporal) WorkflowService() workflowservice.WorkflowServiceClient {
	return fakeService{of: f}
}

type fakeService struct {
	workflowservice.WorkflowServiceClient
	of *fakeTemporal
}

func (f fakeService) DescribeNamespace(context.Context, *workflowservice.DescribeNamespaceRequest, ...grpc.CallOption) (*workflowservice.DescribeNamespaceResponse, error) {
	return &workflowservice.DescribeNamespaceResponse{
		Config: &namespacepb.NamespaceConfig{WorkflowExecutionRetentionTtl: durationpb.New(f.of.retention)},
	}, f.of.away
}

// hundred are rounds that ended, one an hour.
func hundred() (*fakeTemporal, *Reader, *time.Time) {
	now := day
	f := &fakeTemporal{retention: 30 * 24 * time.Hour, perPage: 7}
	for n := range 100 {
		f.ended(n, now.Add(-time.Duration(100-n)*time.Hour))
	}
	r := &Reader{Client: f, Namespace: "n", TaskQueue: "q", Clock: func() time.Time { return now }, Limits: DefaultLimits()}
	r.Limits.SideBySide = 1
	return f, r, &now
}

func TestWhatHasEndedIsReadOnceAndOnlyAsFarBackAsAsked(t *testing.T) {
	f, r, now := hundred()
	got, reach, err := r.History(t.Context(), Filter{Since: now.Add(-30 * time.Hour)})
	if err != nil || len(got) != 30 || !reach.Complete {
		t.Fatalf("%d entries, %+v, %v", len(got), reach, err)
	}
	if f.results != 30 {
		t.Errorf("%d results were read for 30 rounds", f.results)
	}
	*now = now.Add(time.Minute)
	f.ended(100, *now)
	if got, _, _ = r.History(t.Context(), Filter{Since: now.Add(-24 * time.Hour)}); got[0].ID != "round-100" || f.results != 31 {
		t.Errorf("the newest is %s, after %d results", got[0].ID, f.results)
	}
	got, reach, err = r.History(t.Context(), Filter{Since: now.Add(-30 * 24 * time.Hour)})
	if err != nil || len(got) != 101 || f.results != 101 {
		t.Errorf("%d entries after %d results: %v", len(got), f.results, err)
	}
	if reach.Retention != 30*24*time.Hour || !reach.Complete {
		t.Errorf("its reach is %+v", reach)
	}
}

func TestAllThereIsIsReadOnce(t *testing.T) {
	f, r, now := hundred()
	for range 2 {
		if got, _, err := r.History(t.Context(), Filter{}); err != nil || len(got) != 100 || f.results != 100 {
			t.Fatalf("%d entries after %d results: %v", len(got), f.results, err)
		}
	}
	if _, reach := r.Known(Filter{Since: now.Add(-time.Hour)}); !reach.Complete {
		t.Errorf("its reach is %+v", reach)
	}
}

func TestBeyondRetentionTheRecordSaysThatItDoesNotReach(t *testing.T) {
	f, r, now := hundred()
	f.retention = 72 * time.Hour
	_, reach, err := r.History(t.Context(), Filter{Since: now.Add(-10 * 24 * time.Hour)})
	if err != nil || reach.Complete || !strings.Contains(reach.Cut, "3 days") {
		t.Errorf("its reach is %+v, %v", reach, err)
	}
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	f, r, now := hundred()
	r.Limits.Entries = 20
	got, reach, err := r.History(t.Context(), Filter{})
	if err != nil || len(got) != 20 || reach.Complete || !strings.Contains(reach.Cut, "20") {
		t.Fatalf("%d entries, %+v, %v", len(got), reach, err)
	}
	if got[0].ID != "round-99" {
		t.Errorf("the newest is %s", got[0].ID)
	}
	if f.results > 40 {
		t.Errorf("%d results were read to keep 20", f.results)
	}
	if !reach.Since.After(now.Add(-22 * time.Hour)) {
		t.Errorf("it says that it reaches back to %s", reach.Since)
	}
}

func TestWhileTemporalIsAwayWhatIsKnownIsStillShownWithTheReason(t *testing.T) {
	f, r, now := hundred()
	if _, _, err := r.History(t.Context(), Filter{Since: now.Add(-10 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	f.away = serviceerror.NewUnavailable("connection refused")
	*now = now.Add(time.Minute)
	got, reach, err := r.History(t.Context(), Filter{Since: now.Add(-10 * time.Hour)})
	if err == nil || len(got) != 9 || !reach.At.Equal(day) {
		t.Errorf("%d entries as of %s: %v", len(got), reach.At, err)
	}
	st, err := r.Now(t.Context())
	if !errors.As(err, new(*serviceerror.Unavailable)) || len(st.Troubles) == 0 || !strings.Contains(st.Troubles[0].Error, "connection refused") {
		t.Errorf("the state says %+v, %v", st.Troubles, err)
	}
	f.away = nil
	*now = now.Add(time.Minute)
	if st, err = r.Now(t.Context()); err != nil || len(st.Troubles) > 2 { // nobody can answer for ledger and watch
		t.Errorf("after it is back: %+v, %v", st.Troubles, err)
	}
}
