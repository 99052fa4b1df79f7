package remediate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// Setup is what a workflow pins of the worker's settings for one request.
type Setup struct {
	Observe bool   `json:"observe,omitempty"`
	PerHour int    `json:"perHour"`
	Moves   Bounds `json:"moves"`
	Timing  Timing `json:"timing"`
}

// AcceptInput is a request as it came: decoded, or a signal's payload.
type AcceptInput struct {
	Kind    string             `json:"kind"`
	Request *placement.Request `json:"request,omitempty"`
	Raw     []byte             `json:"raw,omitempty"`
}

// Accepted is a request that may be worked on, with its settings filled in, or the problem with it.
type Accepted struct {
	Request placement.Request `json:"request"`
	Setup   Setup             `json:"setup"`
	Problem string            `json:"problem,omitempty"`
}

// Bounds of a request.
const (
	maxRequest = 256 << 10 // bytes
	maxName    = 1024      // bytes
)

// AcceptRemediation checks a request from outside. It reaches nothing.
func (a *Activities) AcceptRemediation(_ context.Context, in AcceptInput) (Accepted, error) {
	s := a.Settings
	out := Accepted{Setup: Setup{Observe: s.Observe, PerHour: s.PerHour, Moves: s.Moves, Timing: s.Timing}}
	req, err := in.decode()
	if err == nil {
		err = a.check(in.Kind, &req)
	}
	if out.Request = req; err != nil {
		out.Problem = err.Error()
		out.Request.Event = nil
	}
	return out, nil
}

func (in AcceptInput) decode() (req placement.Request, err error) {
	switch {
	case in.Request != nil:
		return *in.Request, nil
	case len(in.Raw) > maxRequest:
		return req, fmt.Errorf("it is %d bytes long: at most %d are taken", len(in.Raw), maxRequest)
	}
	if err := json.Unmarshal(in.Raw, &req); err != nil {
		return placement.Request{}, fmt.Errorf("it is no remediation request: %w", err)
	}
	return req, nil
}

// check completes the settings of a request, and tells what is wrong with it.
func (a *Activities) check(kind string, req *placement.Request) error {
	if req.Kind == "" {
		req.Kind = kind
	}
	errs := a.wrong(kind, req)
	if err := settle(kind, req); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// wrong returns what is wrong with what a request asks for, of whom, and on what.
func (a *Activities) wrong(kind string, req *placement.Request) (errs []error) {
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if req.Kind != kind {
		add("it asks for a %.20q; this workflow does a %s", req.Kind, kind)
	}
	if req.TaskQueue != "" && req.TaskQueue != a.TaskQueue {
		add("it is for the workers of task queue %.100q, this one works for %q", req.TaskQueue, a.TaskQueue)
	}
	if max(len(req.ID), len(req.Target)) > maxName {
		add("its id or target is longer than %d bytes", maxName)
	}
	if !req.VM.Zero() && req.VM.Type != vsphere.TypeVM {
		add("%.100q is no VM", req.VM.String())
	}
	if !req.Source.Zero() && req.Source.Type != vsphere.TypeDatastore {
		add("%.100q is no datastore", req.Source.String())
	}
	switch {
	case req.VM.Zero() && req.Source.Zero() && req.Target == "":
		add("it names no VM and no datastore")
	case kind != placement.KindMove && req.VM.Zero() && req.Target == "":
		add("it names no VM")
	}
	return errs
}

// settle fills in the defaults of a request's settings and checks them.
func settle(kind string, req *placement.Request) error {
	switch kind {
	case placement.KindResize:
		if req.Resize == nil {
			req.Resize = &placement.Resize{}
		}
		s := req.Resize.WithDefaults(req.Cause.Alarm)
		req.Resize = &s
		return s.Check()
	case placement.KindReconfigure:
		if req.Reconfigure == nil {
			req.Reconfigure = &placement.Reconfigure{}
		}
		return req.Reconfigure.Check()
	case placement.KindMove:
		if req.Move == nil {
			req.Move = &placement.Move{}
		}
		s := req.Move.WithDefaults()
		req.Move = &s
		return s.Check()
	}
	return fmt.Errorf("%.20q is no kind of remediation", kind)
}

// WindowInput asks for the next window of a resize.
type WindowInput struct {
	Resize placement.Resize `json:"resize"`
	Now    time.Time        `json:"now"`
}

// WindowResult is when a window begins and ends.
type WindowResult struct {
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
}

// FindWindow finds the window that is open, or the next. It is an activity because time zones are the worker's.
func (a *Activities) FindWindow(_ context.Context, in WindowInput) (WindowResult, error) {
	w := in.Resize.PowerCycle()
	if until, ok := w.Open(in.Now); ok {
		return WindowResult{From: in.Now, Until: until}, nil
	}
	from, until, err := w.Next(in.Now)
	if err != nil {
		return WindowResult{}, temporal.NewNonRetryableApplicationError(err.Error(), "Window", err)
	}
	return WindowResult{From: from, Until: until}, nil
}
