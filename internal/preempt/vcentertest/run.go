package vcentertest

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Quiet keeps the log of the SDK out of a test's.
var Quiet = log.NewStructuredLogger(slog.New(slog.DiscardHandler))

// longest is how long an activity of a test may take.
const longest = 10 * time.Second

// Run runs an activity. It ends with ctx: as a cancelled one if the cause is Cancelled, else as when its worker stops.
func Run[T any](ctx context.Context, f, in any) (out T, err error) {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(Quiet)
	env := suite.NewTestActivityEnvironment()
	env.SetTestTimeout(longest)
	env.SetWorkerOptions(worker.Options{BackgroundActivityContext: ctx})
	env.RegisterActivity(f)
	got, err := env.ExecuteActivity(f, in)
	if err == nil {
		err = got.Get(&out)
	}
	return out, err
}

// Cancelled is the cause of the end of an activity that its workflow has cancelled.
func Cancelled() error { return temporal.NewCanceledError() }

// TypeOf is the type of an activity's error.
func TypeOf(err error) string {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return app.Type()
	}
	return ""
}

// Failing fails the calls of a name with a kind, the first n times.
func Failing(call string, kind vcenter.Kind, n int) func(string, vsphere.Ref) error {
	var mu sync.Mutex
	return func(c string, _ vsphere.Ref) error {
		mu.Lock()
		defer mu.Unlock()
		if c != call || n == 0 {
			return nil
		}
		n--
		return Fault(kind)
	}
}
