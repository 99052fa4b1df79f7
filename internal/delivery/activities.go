package delivery

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tell"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// metric counts deliveries.
const metric = "preemption_notifications"

// maxOwners bounds to how many places the tags of one message's VMs lead.
const maxOwners = 50

// Channels are those of the worker's file, with their addresses.
type Channels interface {
	Settings() tell.Settings
	// Send delivers a text. Its error tells no address; one with Permanent() true is not worth another attempt.
	Send(ctx context.Context, channel, to string, text tell.Text) error
}

// Tags reads which tags of some categories VMs carry. A VM that is gone is left out.
type Tags interface {
	TagsOf(ctx context.Context, vms []vsphere.Ref, categories ...string) (map[vsphere.Ref]map[string][]string, error)
}

// Activities are the steps of a delivery that reach outside.
type Activities struct {
	Channels Channels
	Tags     Tags
	Log      *slog.Logger
}

// RegisterWorkflows adds the workflow, for a worker or a replay.
func RegisterWorkflows(r worker.WorkflowRegistry) {
	r.RegisterWorkflowWithOptions(Notification, workflow.RegisterOptions{Name: tell.WorkflowType})
}

// Register adds the workflow and its activities to a worker.
func Register(r worker.Registry, a *Activities) {
	RegisterWorkflows(r)
	r.RegisterActivityWithOptions(a.SendNotification, activity.RegisterOptions{Name: "SendNotification"})
	r.RegisterActivityWithOptions(a.ReadNotifyTags, activity.RegisterOptions{Name: "ReadNotifyTags"})
	r.RegisterActivityWithOptions(a.ChooseChannels, activity.RegisterOptions{Name: "ChooseChannels"}) // local
}

// Choice is where a message goes.
type Choice struct {
	Deliveries []tell.Delivery `json:"deliveries,omitempty"`
	Look       bool            `json:"look,omitempty"` // the tags of its VMs may lead to more
	Unknown    bool            `json:"unknown,omitempty"`
	Known      []string        `json:"known,omitempty"` // of a test
}

// ChooseChannels returns the channels that want a message, as far as they can be told without vCenter.
func (a *Activities) ChooseChannels(_ context.Context, o tell.Order) (c Choice, _ error) {
	for _, ch := range a.Channels.Settings().Channels {
		if o.Test() {
			c.Known = append(c.Known, ch.Name)
			if o.Channel != "" && o.Channel != ch.Name {
				continue
			}
		}
		switch {
		case !ch.Wants(o.Message):
		case len(ch.Groups) == 0 || o.Test():
			c.Deliveries = append(c.Deliveries, tell.Delivery{Channel: ch.Name})
		case len(o.Message.VMs) > 0:
			c.Look = true
		}
		c.Look = c.Look || ch.Owners && forOwners(o.Message)
	}
	c.Unknown = o.Channel != "" && len(c.Deliveries) == 0
	return c, nil
}

// forOwners reports whether the owners of a message's VMs are told.
func forOwners(m tell.Message) bool { return m.Event != "" && len(m.VMs) > 0 }

// ReadNotifyTags returns where the tags of a message's VMs lead: to the channels for their groups, and to what their owners
// name. What an owner names wrongly is logged, and holds up no other.
func (a *Activities) ReadNotifyTags(ctx context.Context, m tell.Message) ([]tell.Delivery, error) {
	var refs []vsphere.Ref
	for _, vm := range m.VMs {
		if ref, ok := vsphere.ParseRef(vm.Ref); ok {
			refs = append(refs, ref)
		}
	}
	tags, err := a.Tags.TagsOf(ctx, refs, policy.CategoryGroup, tell.CategoryNotify)
	if err != nil {
		return nil, err
	}
	r := routes{channels: a.Channels.Settings().Channels}
	for _, ref := range refs {
		r.groups(m, ref, tags[ref][policy.CategoryGroup])
		for _, tag := range tags[ref][tell.CategoryNotify] {
			if why := r.owner(ref, tag); why != "" {
				a.Log.Warn("an owner is not told", "moref", ref.Value, "category", tell.CategoryNotify, "reason", why)
			}
		}
	}
	return r.found, nil
}

// routes collects where tags lead.
type routes struct {
	channels []tell.Channel
	found    []tell.Delivery
	owners   int
}

// groups adds a VM to the channels that are for one of its groups.
func (r *routes) groups(m tell.Message, ref vsphere.Ref, groups []string) {
	for _, ch := range r.channels {
		if len(ch.Groups) > 0 && ch.Wants(m) && ch.InGroups(groups) {
			r.add(tell.Delivery{Channel: ch.Name}, ref)
		}
	}
}

// owner adds a VM to where its tag leads, or says why it leads nowhere.
func (r *routes) owner(ref vsphere.Ref, tag string) (why string) {
	address, mail := strings.CutPrefix(tag, tell.MailTo)
	for _, ch := range r.channels {
		switch {
		case mail && ch.Mails(address):
			return r.add(tell.Delivery{Channel: ch.Name, To: address, Owner: true}, ref)
		case !mail && ch.Owners && ch.Name == tag:
			return r.add(tell.Delivery{Channel: ch.Name, Owner: true}, ref)
		}
	}
	if mail {
		return "no channel may send to that mail address: see owners and mailDomains of a channel"
	}
	return "it names no channel that owners may name"
}

// add adds a VM to a delivery.
func (r *routes) add(to tell.Delivery, ref vsphere.Ref) (why string) {
	at := slices.IndexFunc(r.found, func(d tell.Delivery) bool { return d.Channel == to.Channel && d.To == to.To && d.Owner == to.Owner })
	if at < 0 {
		if to.Owner {
			if r.owners++; r.owners > maxOwners {
				return "the tags of this message's VMs name more than 50 places"
			}
		}
		r.found, at = append(r.found, to), len(r.found)
	}
	r.found[at].Only = append(r.found[at].Only, ref.String())
	return ""
}

// SendInput is a message for one channel.
type SendInput struct {
	Message  tell.Message  `json:"message"`
	Delivery tell.Delivery `json:"delivery"`
}

// SendNotification sends a message to one channel. Its errors tell no address.
func (a *Activities) SendNotification(ctx context.Context, in SendInput) error {
	name, set := in.Delivery.Channel, a.Channels.Settings()
	at := slices.IndexFunc(set.Channels, func(c tell.Channel) bool { return c.Name == name })
	if at < 0 { // the file has changed since
		return a.outcome(ctx, in, temporal.NewNonRetryableApplicationError("this worker's file has no channel "+name, "NotificationRefused", nil))
	}
	text, err := tell.Render(in.Message, set.ConsoleURL, set.Channels[at].Templates[in.Message.Event])
	if err != nil { // better our own words than none
		a.Log.Error("the template of a channel cannot be used", "channel", name, "event", in.Message.Event, "reason", err)
	}
	err = a.Channels.Send(ctx, name, in.Delivery.To, text)
	var failed interface{ Permanent() bool }
	if errors.As(err, &failed) && failed.Permanent() {
		err = temporal.NewNonRetryableApplicationError(err.Error(), "NotificationRefused", nil)
	} else if err != nil {
		err = temporal.NewApplicationError(err.Error(), "NotificationFailed")
	}
	return a.outcome(ctx, in, err)
}

// outcome counts and logs an attempt, and returns its error.
func (a *Activities) outcome(ctx context.Context, in SendInput, err error) error {
	outcome, level := tell.Sent, slog.LevelInfo
	var app *temporal.ApplicationError
	switch {
	case errors.As(err, &app) && app.NonRetryable():
		outcome, level = tell.Refused, slog.LevelError
	case err != nil:
		outcome, level = tell.Retried, slog.LevelWarn
	}
	activity.GetMetricsHandler(ctx).WithTags(map[string]string{"channel": in.Delivery.Channel, "outcome": string(outcome)}).Counter(metric).Inc(1)
	attrs := []any{"channel", in.Delivery.Channel, "event", in.Message.Event, "outcome", outcome, "vms", in.Message.Count, "workflow_id", in.Message.WorkflowID}
	if err != nil {
		attrs = append(attrs, "reason", err)
	}
	a.Log.Log(ctx, level, "notification", attrs...)
	return err
}
