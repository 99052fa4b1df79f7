package receiver

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// The results of a request, as answers, metrics and logs name them.
const (
	sent         = "sent"         // 202: Temporal has it
	ignored      = "ignored"      // 200: there is nothing to do
	malformed    = "malformed"    // 400: no valid CloudEvent, or its data is not what its class says
	refused      = "refused"      // 400: a rule matches it but can never act on it
	unauthorized = "unauthorized" // 401
	aborted      = "aborted"      // 408: the sender did not send the whole body
	tooLong      = "too_large"    // 413
	unsupported  = "unsupported"  // 415: not a CloudEvent, or an unsupported format
	saturated    = "saturated"    // 429
	unavailable  = "unavailable"  // 503: Temporal did not take it
	behindhand   = "backlog"      // 503: too many events wait for a worker
)

// outcome is the result of a request.
type outcome struct {
	status     int
	result     string
	reason     string
	rule       string
	workflowID string
	what       string
	trace      string // id of its trace; "" for none
	detail     error  // for the log alone
}

// problem is an outcome as an error.
type problem struct{ outcome }

// Error implements error.
func (p *problem) Error() string { return p.reason }

func malform(err error) error {
	return &problem{outcome{status: http.StatusBadRequest, result: malformed, reason: err.Error()}}
}

func unsupport(format string, args ...any) error {
	return &problem{outcome{status: http.StatusUnsupportedMediaType, result: unsupported, reason: fmt.Sprintf(format, args...)}}
}

// unread returns why a body could not be read.
func unread(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return &problem{tooLarge()}
	}
	return &problem{outcome{status: http.StatusRequestTimeout, result: aborted, reason: "the body did not arrive in full: send it again", detail: err}}
}

func tooLarge() outcome {
	return outcome{
		status: http.StatusRequestEntityTooLarge, result: tooLong,
		reason: fmt.Sprintf("an event has at most %d bytes", alarm.MaxBytes),
	}
}

func passedOver(class string) outcome {
	reason := "the event is of no class that rules are on"
	if class != "" {
		reason = "no rule is on events of class " + clip(class)
	}
	return outcome{status: http.StatusOK, result: ignored, reason: reason}
}

func failed(err error) outcome {
	var p *problem
	if errors.As(err, &p) {
		return p.outcome
	}
	return outcome{status: http.StatusBadRequest, result: malformed, reason: err.Error()}
}

// answer is the body of an answer.
type answer struct {
	Verdict    string `json:"verdict"`
	Rule       string `json:"rule,omitempty"`
	WorkflowID string `json:"workflowID,omitempty"`
	What       string `json:"what,omitempty"`
	Reason     string `json:"reason,omitempty"`
}

// wantsBody reports whether a sender can read the body of a success. Knative's brokers treat any body that is
// not a CloudEvent as a failed delivery (502) and send the event again; they name nothing that they accept,
// and prefer a reply.
func wantsBody(h http.Header) bool {
	return h.Get("Accept") != "" && !strings.Contains(strings.ToLower(h.Get("Prefer")), "reply")
}

func write(w http.ResponseWriter, out outcome) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	switch out.status {
	case http.StatusTooManyRequests:
		h.Set("Retry-After", "1")
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "5")
		if out.result == behindhand {
			h.Set("Retry-After", "30")
		}
	}
	body, err := json.Marshal(answer{Verdict: out.result, Rule: out.rule, WorkflowID: out.workflowID, What: out.what, Reason: out.reason})
	if err != nil { // strings always marshal
		body = []byte("{}")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(out.status)
	_, _ = w.Write(append(body, '\n')) // a sender that went away needs no answer
}

// tell logs the result of an event. In a storm not every refusal is logged. Ignored events are logged at debug
// level.
func (r *Receiver) tell(req *http.Request, out outcome, e event.Event) {
	ctx := req.Context()
	level, text := slog.LevelWarn, "event refused"
	switch out.result {
	case sent:
		level, text = slog.LevelInfo, "event acted upon"
	case ignored:
		level, text = slog.LevelDebug, "event ignored"
	}
	if !r.cfg.Log.Enabled(ctx, level) {
		return
	}
	fields := []slog.Attr{slog.String("result", out.result)}
	if level == slog.LevelWarn {
		passed, untold := r.refused.pass(time.Now())
		if !passed {
			return
		}
		fields = append(fields, slog.Int("status", out.status))
		if untold > 0 {
			fields = append(fields, slog.Int("untold", untold))
		}
	}
	add := func(key, value string) {
		if value != "" {
			fields = append(fields, slog.String(key, clip(value)))
		}
	}
	add("rule", out.rule)
	add("workflow_id", out.workflowID)
	add("what", out.what)
	add("trace_id", out.trace)
	add("reason", out.reason)
	if out.detail != nil {
		add("detail", out.detail.Error())
	}
	if e.Context != nil {
		add("event", e.ID())
		add("type", e.Type())
		add("subject", e.Subject())
		add("source", e.Source())
	}
	if level == slog.LevelWarn {
		add("from", req.RemoteAddr)
	}
	r.cfg.Log.LogAttrs(ctx, level, text, fields...)
}

// clip shortens untrusted text.
func clip(s string) string { return shown.Clip(s, 300) }

// throttle passes a few calls in each span of time and counts the rest.
type throttle struct {
	most  int
	every time.Duration

	mu     sync.Mutex
	since  time.Time
	passed int
	untold int
}

// pass reports whether to log, and how many calls before were not logged.
func (t *throttle) pass(now time.Time) (ok bool, untold int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.since) >= t.every {
		t.since, t.passed = now, 0
	}
	if t.passed >= t.most {
		t.untold++
		return false, 0
	}
	t.passed++
	untold, t.untold = t.untold, 0
	return true, untold
}
