// Package delivery hands messages to the channels of the worker's file: at least once each, with a deadline, and apart from
// the workflows that have something to tell.
package delivery

import (
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/tally"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
)

// How long a delivery is tried, and one attempt may take.
const (
	tryFor    = 15 * time.Minute
	testFor   = 20 * time.Second
	oneTry    = 45 * time.Second
	firstWait = time.Second
	lastWait  = time.Minute
)

// Notification is the workflow that delivers one message. Each channel has its own attempts, so that one which fails holds
// up no other.
func Notification(ctx workflow.Context, o tell.Order) (tell.Report, error) {
	ctx = tally.With(ctx)
	var a *Activities
	var choice Choice
	local := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: 10 * time.Second, ScheduleToCloseTimeout: time.Minute})
	if err := workflow.ExecuteLocalActivity(local, a.ChooseChannels, o).Get(ctx, &choice); err != nil {
		return tell.Report{}, err
	}
	d := &delivering{order: o, report: tell.Report{Deliveries: []tell.Delivered{}, Unknown: choice.Unknown, Known: choice.Known}}
	for _, to := range choice.Deliveries {
		d.start(ctx, to)
	}
	if choice.Look {
		d.startOwners(ctx)
	}
	err := workflow.Await(ctx, func() bool { return d.underWay == 0 })
	return d.report, err
}

// delivering is one message on its way.
type delivering struct {
	order    tell.Order
	report   tell.Report
	underWay int
}

// start sends the message to one channel, and does not wait.
func (d *delivering) start(ctx workflow.Context, to tell.Delivery) {
	m := d.order.Message
	if len(to.Only) > 0 {
		m = m.Only(to.Only)
	}
	to.Only = nil
	in := SendInput{Message: m.Short(), Delivery: to}
	d.underWay++
	workflow.Go(ctx, func(ctx workflow.Context) {
		defer func() { d.underWay-- }()
		var a *Activities
		err := workflow.ExecuteActivity(d.options(ctx, "tell "+to.Channel), a.SendNotification, in).Get(ctx, nil)
		done := tell.Delivered{Channel: to.Channel, Owner: to.Owner, Outcome: tell.Sent}
		if err != nil {
			done.Outcome, done.Reason = failure(err)
			if done.Outcome == tell.GivenUp {
				tally.Add(ctx, metric, map[string]string{"channel": to.Channel, "outcome": string(done.Outcome)})
			}
		}
		d.report.Deliveries = append(d.report.Deliveries, done)
	})
}

// startOwners reads the tags of the VMs, which waits while vCenter is away, and sends to whom they name.
func (d *delivering) startOwners(ctx workflow.Context) {
	d.underWay++
	workflow.Go(ctx, func(ctx workflow.Context) {
		defer func() { d.underWay-- }()
		var a *Activities
		var found []tell.Delivery
		if err := workflow.ExecuteActivity(d.options(ctx, "read whom the VMs' tags name"), a.ReadNotifyTags, d.order.Message).Get(ctx, &found); err != nil {
			_, d.report.Owners = failure(err)
			workflow.GetLogger(ctx).Error("owners and groups are not told: the tags of the VMs could not be read", "reason", d.report.Owners)
			return
		}
		for _, to := range found {
			d.start(ctx, to)
		}
	})
}

// options bound one activity by time, not by attempts. A test is tried once.
func (d *delivering) options(ctx workflow.Context, summary string) workflow.Context {
	o := workflow.ActivityOptions{
		StartToCloseTimeout: oneTry, ScheduleToCloseTimeout: tryFor, Summary: summary,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: firstWait, BackoffCoefficient: 2, MaximumInterval: lastWait},
	}
	if d.order.Test() {
		o.ScheduleToCloseTimeout, o.RetryPolicy.MaximumAttempts = testFor, 1
	}
	return workflow.WithActivityOptions(ctx, o)
}

// failure says how a delivery ended that was not made, and why.
func failure(err error) (tell.Outcome, string) {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		if app.NonRetryable() {
			return tell.Refused, app.Message()
		}
		return tell.GivenUp, app.Message()
	}
	var timeout *temporal.TimeoutError
	if errors.As(err, &timeout) {
		return tell.GivenUp, "it did not answer in time"
	}
	return tell.GivenUp, err.Error()
}
