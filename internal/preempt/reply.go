package preempt

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.temporal.io/sdk/temporal"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/action"
	"github.com/vsphere-preemption/vsphere-preemption/internal/notify"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// ReplyInput is a reply to be sent.
type ReplyInput struct {
	Target    string        `json:"target"`
	ID        string        `json:"id"` // the same at each attempt
	Time      time.Time     `json:"time"`
	Attribute Attribute     `json:"attribute"`
	VMs       []vsphere.Ref `json:"virtualMachines"`
	Type      string        `json:"type,omitempty"`    // empty: the documented one, of VMs that were preempted
	Deadline  time.Time     `json:"deadline,omitzero"` // of a notice
	Action    action.Action `json:"action,omitempty"`  // of a notice
	// Names are the names of the VMs, by MoRef such as vm-42; of more than MaxNames VMs there are none.
	Names map[string]string `json:"names,omitempty"`
}

// MaxNames is the number of VMs up to which an event carries their names.
const MaxNames = 1000

// Name notes the name of one of the VMs.
func (in *ReplyInput) Name(vm vsphere.Ref, name string) {
	if name == "" || len(in.VMs) > MaxNames {
		return
	}
	if in.Names == nil {
		in.Names = map[string]string{}
	}
	in.Names[vm.Value] = name
}

// replyData is the data of the documented event: the attribute's fields and the VMs.
type replyData struct {
	Attribute
	VirtualMachines []vsphere.Ref     `json:"virtualMachines"`
	Deadline        time.Time         `json:"deadline,omitzero"`
	Action          action.Action     `json:"action,omitempty"`
	Names           map[string]string `json:"names,omitempty"`
}

// Replies is the activity that sends CloudEvents to reply addresses.
type Replies struct {
	*Env
	Notify *notify.Sender
}

// SendPreemptedEvent sends the documented CloudEvent to a reply address.
func (a *Replies) SendPreemptedEvent(ctx context.Context, in ReplyInput) error {
	e := event.New()
	e.SetID(in.ID)
	e.SetSource(a.Settings.EventSource)
	e.SetType(cmp.Or(in.Type, preemption.PreemptedEventType))
	e.SetTime(in.Time.UTC())
	if err := e.SetData(event.ApplicationJSON, replyData{Attribute: in.Attribute, VirtualMachines: in.VMs, Deadline: in.Deadline, Action: in.Action, Names: in.Names}); err != nil {
		return temporal.NewNonRetryableApplicationError(fmt.Sprintf("build the reply %s: %v", in.ID, err), "Reply", nil)
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return temporal.NewNonRetryableApplicationError(fmt.Sprintf("build the reply %s: %v", in.ID, err), "Reply", nil)
	}
	err = a.Notify.Send(ctx, in.Target, raw)
	var failed *notify.Error
	if errors.As(err, &failed) && failed.Permanent {
		return temporal.NewNonRetryableApplicationError(err.Error(), "ReplyRefused", nil)
	}
	if err == nil {
		a.Logger(ctx).Info("reply sent", "id", in.ID, "target", shown.Redact(in.Target), "vms", len(in.VMs))
	}
	return err
}

const maxReply = 2048

// CheckReply reports what is wrong with a reply address. None is fine.
func CheckReply(reply string) error {
	if reply == "" {
		return nil
	}
	u, err := url.Parse(reply)
	if err != nil || len(reply) > maxReply || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("replyTo %q is no http or https URL", Clip(shown.Redact(reply)))
	}
	return nil
}
