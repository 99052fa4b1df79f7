// Package receiver takes CloudEvents over HTTP and hands them to the rules. Its one job is to answer a
// sender truthfully, so that a broker sends again only what may still succeed. It decodes with
// alarm; trigger decides.
package receiver

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/bearer"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// The defaults of a Config.
const (
	DefaultMaxConcurrent = 64
	DefaultMaxLarge      = 4
	DefaultMaxWait       = 500 * time.Millisecond // for a place
	DefaultSendTimeout   = 5 * time.Second
)

// coming is how many bodies may be arriving for each slot that handles them.
const coming = 4

// Small is the size of an event that fits every place. A larger event also needs one of the few large places, so
// that memory is bounded and large events do not delay small ones. vSphere's have 2 to 6 KiB.
const Small = 16 << 10

// Engine applies the rules to an event, as trigger.Engine does.
type Engine interface {
	Handle(ctx context.Context, in trigger.Incoming) (trigger.Result, error)
}

// Config is what a Receiver is made of. Zero values take the defaults.
type Config struct {
	Engine  Engine
	Classes []alarm.Class // of events that rules are on: trigger.Classes; all others are ignored unread
	Token   *bearer.Token // what senders must show; nil: nothing

	MaxConcurrent int           // events handled at a time; four times as many may be arriving
	MaxLarge      int           // of those, larger than Small
	MaxWait       time.Duration // for a free place or slot, then 429
	SendTimeout   time.Duration // for Temporal to take an event, then 503

	Pages   http.Handler    // answers GET /healthz, /readyz and /metrics; nil: 405
	Metrics Metrics         // nil: none
	Tracer  *tracing.Tracer // nil: none
	Log     *slog.Logger    // nil: none
}

// Metrics count what happens. A class that a sender made up is never used as a label.
type Metrics interface {
	Receiving(n int) // a request came (1) or was answered (-1)
	Received(class, result string, took time.Duration)
}

// Other is the class of events that no rule is on, or that could not be read.
const Other = "other"

// Receiver is the HTTP handler. Every path takes events by POST.
type Receiver struct {
	cfg     Config
	classes map[string]bool
	slots   chan struct{}
	small   *pool
	large   *pool
	refused throttle
}

// New makes a Receiver.
func New(cfg Config) (*Receiver, error) {
	if cfg.Engine == nil {
		return nil, errors.New("make a receiver: no engine to hand events to")
	}
	cfg.MaxConcurrent = cmp.Or(cfg.MaxConcurrent, DefaultMaxConcurrent)
	cfg.MaxLarge = cmp.Or(cfg.MaxLarge, DefaultMaxLarge)
	cfg.MaxWait = cmp.Or(cfg.MaxWait, DefaultMaxWait)
	cfg.SendTimeout = cmp.Or(cfg.SendTimeout, DefaultSendTimeout)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = unmeasured{}
	}
	r := &Receiver{
		cfg: cfg, classes: map[string]bool{},
		slots: make(chan struct{}, cfg.MaxConcurrent), small: newPool(coming * cfg.MaxConcurrent), large: newPool(cfg.MaxLarge),
		refused: throttle{most: 10, every: time.Second},
	}
	for _, class := range cfg.Classes {
		r.classes[string(class)] = true
	}
	return r, nil
}

// ServeHTTP takes one CloudEvent by POST on any path, and answers GET /healthz, /readyz and /metrics.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method == http.MethodPost {
		r.post(w, req)
		return
	}
	page, allow := r.page(req.URL.Path), "POST"
	if page != nil && (req.Method == http.MethodGet || req.Method == http.MethodHead) {
		page.ServeHTTP(w, req)
		return
	}
	if page != nil {
		allow = "GET, HEAD, POST"
	}
	w.Header().Set("Allow", allow)
	write(w, outcome{status: http.StatusMethodNotAllowed, result: unsupported, reason: "send a CloudEvent by POST"})
}

func (r *Receiver) page(path string) http.Handler {
	switch path {
	case "/healthz", "/readyz", "/metrics":
		return r.cfg.Pages
	}
	return nil
}

type unmeasured struct{}

func (unmeasured) Receiving(int)                          {}
func (unmeasured) Received(string, string, time.Duration) {}

// post takes one event, counts it and answers.
func (r *Receiver) post(w http.ResponseWriter, req *http.Request) {
	start := time.Now()
	r.cfg.Metrics.Receiving(1)
	defer r.cfg.Metrics.Receiving(-1)
	var e event.Event
	out := r.take(w, req, &e)
	class := alarm.Claim(message(e))
	if !r.classes[class] {
		class = Other
	}
	r.cfg.Metrics.Received(class, out.result, time.Since(start))
	r.tell(req, out, e)
	drain(w, req)
	if out.status >= http.StatusMultipleChoices || wantsBody(req.Header) {
		write(w, out)
		return
	}
	w.WriteHeader(out.status)
}

// take handles a request, the cheapest checks first. It leaves what is known about the event in e.
func (r *Receiver) take(w http.ResponseWriter, req *http.Request, e *event.Event) outcome {
	if r.cfg.Token != nil && !r.cfg.Token.Shown(req.Header) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		return outcome{status: http.StatusUnauthorized, result: unauthorized, reason: "show the token: Authorization: Bearer <token>"}
	}
	if req.ContentLength > alarm.MaxBytes {
		return tooLarge()
	}
	mode, err := modeOf(req.Header)
	if err != nil {
		return failed(err)
	}
	if mode == binary {
		if err := readAttributes(req.Header, e); err != nil {
			return failed(err)
		}
		if class := alarm.Claim(message(*e)); !r.classes[class] {
			return passedOver(class)
		}
	}
	var held room
	defer func() { held.release() }()
	body, err := r.read(w, req, &held)
	if err != nil {
		return failed(err)
	}
	return r.handle(req, mode, e, body)
}

// handle reads the event's body and hands the event to the rules.
func (r *Receiver) handle(req *http.Request, mode mode, e *event.Event, body []byte) outcome {
	if mode == binary {
		if len(body) > 0 {
			e.DataEncoded = body
		}
	} else if err := readStructured(mode, body, e); err != nil {
		return failed(err)
	}
	m := message(*e)
	if class := alarm.Claim(m); !r.classes[class] {
		return passedOver(class)
	}
	decoded, err := alarm.Decode(m)
	if errors.Is(err, alarm.ErrOther) {
		return outcome{status: http.StatusOK, result: ignored, reason: err.Error()}
	}
	if err != nil {
		return failed(malform(err))
	}
	raw, err := structured(mode, e, body)
	if err != nil {
		return failed(malform(err))
	}
	return r.traced(req, e, trigger.Incoming{Event: decoded, CloudEvent: raw})
}

// send hands an event to the rules.
func (r *Receiver) send(ctx context.Context, in trigger.Incoming) outcome {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.SendTimeout)
	defer cancel()
	res, err := r.cfg.Engine.Handle(ctx, in)
	out := outcome{rule: res.Rule, workflowID: res.WorkflowID, what: res.What, reason: res.Reason}
	var behind *trigger.BacklogError
	switch {
	case errors.Is(err, trigger.ErrRefused):
		out.status, out.result, out.reason = http.StatusBadRequest, refused, err.Error()
	case errors.As(err, &behind):
		out.status, out.result, out.reason = http.StatusServiceUnavailable, behindhand, behind.Error()
	case err != nil:
		out.status, out.result = http.StatusServiceUnavailable, unavailable
		out.reason, out.detail = "Temporal did not take the event: send it again", err
	case res.Verdict == trigger.Sent:
		out.status, out.result = http.StatusAccepted, sent
	default:
		out.status, out.result = http.StatusOK, ignored
	}
	return out
}
