package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	firstAnswer  = 4500 * time.Millisecond // an address that has not answered by then is unreachable
	quick        = 10 * time.Second        // for commands that wait for nobody
	pollerFresh  = 75 * time.Second        // a worker's poll lasts up to a minute
	pollerRecord = 330 * time.Second       // the server forgets a poller after five minutes
)

// session is the connection of one command.
type session struct {
	client.Client
	app *app
	// unheeded is why the last look-up of names was not answered where no worker has begun it; nil: it was, or one has.
	unheeded error
}

// withSession connects, runs f, and turns an error into one clear line. limit bounds the time; 0: none.
func (a *app) withSession(cmd *cobra.Command, limit time.Duration, f func(context.Context, *session) error) error {
	ctx, giveUp := context.WithCancelCause(cmd.Context())
	defer giveUp(nil)
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("given up after %s", limit))
		defer cancel()
	}
	g := &guard{address: a.target.address, giveUp: giveUp}
	opts := a.target.options
	opts.Logger = sdklog.NewStructuredLogger(a.log)
	opts.ConnectionOptions.DialOptions = append(opts.ConnectionOptions.DialOptions, grpc.WithChainUnaryInterceptor(g.intercept))
	c, err := client.NewLazyClient(opts)
	if err != nil {
		return usagef("the connection to Temporal at %s cannot be set up: %w", a.target.address, err)
	}
	defer c.Close()
	alarm := time.AfterFunc(firstAnswer, g.expire)
	defer alarm.Stop()
	return a.explain(cmd.Context(), ctx, f(ctx, &session{Client: c, app: a}))
}

// unreachableError says that nobody answers at the address.
type unreachableError struct{ address, reason string }

func (e *unreachableError) Error() string {
	return fmt.Sprintf("cannot reach Temporal at %s: %s; check --server or TEMPORAL_URL, and TEMPORAL_TLS_* if it wants TLS", e.address, e.reason)
}

// guard ends the session at the first sign that its address cannot be reached, while the SDK would try
// for a minute. After a first answer it lets the SDK bridge outages.
type guard struct {
	address string
	giveUp  context.CancelCauseFunc
	reached atomic.Bool
}

func (g *guard) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	switch status.Code(err) {
	case codes.Unavailable:
		if !g.reached.Load() {
			g.giveUp(&unreachableError{g.address, lastWords(status.Convert(err).Message())})
		}
	case codes.DeadlineExceeded, codes.Canceled: // caused by us
	default:
		g.reached.Store(true)
	}
	return err
}

func (g *guard) expire() {
	if !g.reached.Load() {
		g.giveUp(&unreachableError{g.address, "no answer within 5 seconds"})
	}
}

// lastWords returns the innermost cause of a gRPC connection error, such as "connection refused".
func lastWords(message string) string {
	parts := strings.Split(strings.TrimRight(message, `"`), ": ")
	return strings.Trim(parts[len(parts)-1], `" `)
}

// polled reports whether a worker polls the task queue.
func (s *session) polled(ctx context.Context) (bool, error) {
	return s.polledAt(ctx, s.app.target.queue)
}

// polledAt reports whether a worker polls a task queue. A poller that was not seen for longer than a poll
// lasts is gone. One that is older than the server remembers means that a clock is wrong, and counts.
func (s *session) polledAt(ctx context.Context, queue string) (bool, error) {
	resp, err := s.WorkflowService().DescribeTaskQueue(ctx, &workflowservice.DescribeTaskQueueRequest{
		Namespace: s.app.target.namespace, TaskQueueType: enumspb.TASK_QUEUE_TYPE_WORKFLOW,
		TaskQueue: &taskqueuepb.TaskQueue{Name: queue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
	})
	if err != nil {
		return false, err
	}
	now := s.app.Now()
	for _, p := range resp.GetPollers() {
		age := now.Sub(p.GetLastAccessTime().AsTime())
		if age < pollerFresh || age > pollerRecord {
			return true, nil
		}
	}
	return false, nil
}

// polledLater asks in the background whether a worker polls the task queue. If that is unknown,
// the answer is yes, because a doubt is no reason for an alarm.
func (s *session) polledLater(ctx context.Context) <-chan bool {
	answer := make(chan bool, 1)
	go func() {
		yes, err := s.polled(ctx)
		if err != nil && !errors.Is(err, context.Canceled) {
			s.app.log.Debug("it is unknown whether a worker polls the task queue", "error", err)
		}
		answer <- yes || err != nil
	}()
	return answer
}

// noWorker returns the error that no worker polls the task queue; what says what happens to the request.
func (a *app) noWorker(what string) error {
	return failedf("no worker polls task queue %s in namespace %s: %s", a.target.queue, a.target.namespace, what)
}
