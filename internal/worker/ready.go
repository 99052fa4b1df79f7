package worker

import (
	"context"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// How vCenter is sought, and how fresh its last answer must be to count as ready.
const (
	firstPause   = 2 * time.Second
	longestPause = 10 * time.Second
	tellEvery    = time.Minute
	fresh        = 2 * time.Minute
)

// Connector is a gateway's connection to vCenter. A *vcenter.Gateway is one.
type Connector interface {
	Connect(ctx context.Context) error
	LastContact() (at time.Time, err error)
}

var _ Connector = (*vcenter.Gateway)(nil)

// SeekVCenter logs in ahead of need, so that the first request finds a session, until that works or ctx ends. failed is
// told each new reason why it does not work, and the same one once a minute. Work does not wait for it: each call logs in
// by itself.
func SeekVCenter(ctx context.Context, c Connector, failed func(reason string, again time.Duration)) (connected bool) {
	var (
		told string
		at   time.Time
	)
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := c.Connect(ctx)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if text := err.Error(); text != told || time.Since(at) >= tellEvery {
			told, at = text, time.Now()
			failed(text, pause)
		}
		if !clock.Sleep(ctx, pause) {
			return false
		}
	}
}

// VCenterReady returns a check that says why vCenter cannot be used. It asks vCenter where nothing else did lately.
func VCenterReady(c Connector) func(context.Context) error {
	return func(ctx context.Context) error {
		if at, err := c.LastContact(); err == nil && time.Since(at) < fresh {
			return nil
		}
		return c.Connect(ctx)
	}
}

// Polling says why no work is taken from the task queue, nil when it is.
func Polling(ctx context.Context, c client.Client, queue string) error {
	d, err := c.DescribeTaskQueue(ctx, queue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		return fmt.Errorf("look for pollers of task queue %s: %w", queue, err)
	}
	if len(d.GetPollers()) == 0 {
		return fmt.Errorf("task queue %s has no poller", queue)
	}
	return nil
}
