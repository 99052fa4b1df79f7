package remediate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	"go.temporal.io/sdk/temporal"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/remediateapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/notify"
	"github.com/vsphere-preemption/vsphere-preemption/internal/step"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// TellInput is a decision to be written to the VM and sent.
type TellInput struct {
	Decision   remediateapi.Decision `json:"decision"`
	WorkflowID string                `json:"workflowID"`
	EventID    string                `json:"eventID"` // the same at each attempt
	Event      json.RawMessage       `json:"event,omitempty"`
	Annotate   bool                  `json:"annotate"`
	ReplyTo    string                `json:"replyTo,omitempty"`
}

// Told is how that went.
type Told struct {
	Annotated       bool   `json:"annotated,omitempty"`
	AnnotationError string `json:"annotationError,omitempty"`
	Reply           string `json:"reply,omitempty"` // sent, or why not; "": there is no address
}

// TellRemediation writes the decision into the VM's attribute and sends it as a CloudEvent. A failing address does
// not keep the attribute from being written.
func (a *Activities) TellRemediation(ctx context.Context, in TellInput) (told Told, err error) {
	defer a.beat(ctx)()
	if in.Annotate {
		if err := a.annotate(ctx, in); vcenter.KindOf(err).Outage() {
			return told, step.Typed(err)
		} else if err != nil {
			told.AnnotationError = err.Error()
		} else {
			told.Annotated = true
		}
	}
	target := in.ReplyTo
	if target == "" {
		return told, nil
	}
	raw, err := a.cloudEvent(in)
	if err != nil {
		return told, err
	}
	var failed *notify.Error
	if err := a.Notify.Send(ctx, target, raw); errors.As(err, &failed) && failed.Permanent {
		told.Reply = err.Error()
	} else if err != nil {
		return told, err
	} else {
		told.Reply = "sent"
	}
	return told, nil
}

func (a *Activities) annotate(ctx context.Context, in TellInput) error {
	d := in.Decision
	d.Plan, d.Stay = nil, nil
	d.Cluster.Type, d.Cluster.Value = "", ""
	value, err := json.Marshal(remediateapi.Attribution{Decision: d, WorkflowID: in.WorkflowID, Event: in.Event})
	if err != nil {
		return err
	}
	return a.attempt(ctx, func() error { return a.VCenter.Annotate(ctx, in.Decision.VM, remediateapi.Attribute, string(value)) })
}

// cloudEvent is the decision as a CloudEvent of the type of its state.
func (a *Activities) cloudEvent(in TellInput) (json.RawMessage, error) {
	e := event.New()
	e.SetID(in.EventID)
	e.SetSource(a.Settings.EventSource)
	e.SetType(in.Decision.State.EventType())
	e.SetTime(in.Decision.EndedAt.UTC())
	if subject := strings.TrimSpace(in.Decision.VM.Value); subject != "" {
		e.SetSubject(subject)
	}
	err := e.SetData(event.ApplicationJSON, remediateapi.Attribution{Decision: in.Decision, WorkflowID: in.WorkflowID, Event: in.Event})
	var raw []byte
	if err == nil {
		raw, err = json.Marshal(e)
	}
	if err != nil {
		return nil, temporal.NewNonRetryableApplicationError(fmt.Sprintf("build the event %s: %v", in.EventID, err), "Reply", err)
	}
	return raw, nil
}
