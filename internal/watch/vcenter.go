package watch

import (
	"context"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// VCenter is what the watch reads of vCenter.
type VCenter interface {
	// ServerTime is the present by vCenter's clock.
	ServerTime(ctx context.Context) (time.Time, error)
	// User is the account that the worker logs in with.
	User() string
	// Events reads the events of these classes since then.
	Events(ctx context.Context, since time.Time, classes []string) EventReader
	// TriggeredAlarms lists the alarms that are yellow or red; of those that are unseen vCenter shows too little.
	TriggeredAlarms(ctx context.Context) (states, unseen []vcenter.AlarmState, err error)
	// AlarmStatus is the state of one alarm on one entity; found is false where either is gone.
	AlarmStatus(ctx context.Context, alarm vsphere.Ref, name string, entity vsphere.Ref) (state vcenter.AlarmState, found bool, err error)
}

// EventReader reads vCenter's event history.
type EventReader interface {
	// Next returns the events since the last call; none where there is no news.
	Next(ctx context.Context) ([]vcenter.StreamEvent, error)
	// Await returns as soon as there may be news, or after d; news says that there is some. Next reads it.
	Await(ctx context.Context, d time.Duration) (news bool)
	// Reopened counts how often reading was interrupted, so that changes may have been missed.
	Reopened() int
	// Close frees what vCenter holds for the reader.
	Close(ctx context.Context)
}

// gateway is vCenter itself.
type gateway struct{ *vcenter.Gateway }

// Events implements VCenter.
func (g gateway) Events(ctx context.Context, since time.Time, classes []string) EventReader {
	return g.Gateway.Events(ctx, since, classes)
}
