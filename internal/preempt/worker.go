package preempt

import (
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
)

// WorkerOptions tune a worker.
type WorkerOptions struct {
	StopTimeout time.Duration // how long a stopping worker lets running activities finish; default 20s
	OnFatal     func(error)
}

// NewWorker returns a Temporal worker for the task queue of the activities, not yet started.
func NewWorker(c client.Client, a *Activities, o WorkerOptions) worker.Worker {
	if o.StopTimeout <= 0 {
		o.StopTimeout = 20 * time.Second
	}
	w := worker.New(c, a.TaskQueue, worker.Options{
		WorkerStopTimeout:                      o.StopTimeout,
		MaxHeartbeatThrottleInterval:           time.Second,
		MaxConcurrentActivityExecutionSize:     200,
		MaxConcurrentActivityTaskPollers:       4,
		MaxConcurrentWorkflowTaskPollers:       4,
		MaxConcurrentWorkflowTaskExecutionSize: 200,
		StickyScheduleToStartTimeout:           2 * time.Second, // how long a killed worker holds up each workflow it had cached
		OnFatalError:                           o.OnFatal,
	})
	Register(w, a)
	return w
}
