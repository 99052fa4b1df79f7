package receiver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/binding/format"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
)

// mode is how a request carries its event.
type mode int

const (
	binary         mode = iota // attributes in the headers, data in the body
	structuredMode             // everything in the body
	unstated                   // in the body, if that is a CloudEvent
)

const (
	jsonEvent  = event.ApplicationCloudEventsJSON
	anyEvent   = "application/cloudevents"
	anyBatch   = "application/cloudevents-batch"
	headPrefix = "Ce-"
)

// modeOf returns how a request carries its event, by its headers.
func modeOf(h http.Header) (mode, error) {
	media := h.Get("Content-Type")
	name, _, _ := strings.Cut(media, ";")
	name = strings.ToLower(strings.TrimSpace(name))
	switch {
	case name == jsonEvent:
		return structuredMode, nil
	case strings.HasPrefix(name, anyBatch):
		return 0, unsupport("batches of CloudEvents are not taken: send one event per request")
	case strings.HasPrefix(name, anyEvent):
		return 0, unsupport("CloudEvents in the format %q are not read: send %s or binary mode", clip(name), jsonEvent)
	case hasAttributes(h):
		return binary, nil
	case name == "" || name == "application/json":
		return unstated, nil
	}
	return 0, unsupport("content type %q without ce- headers is no CloudEvent: send ce- headers, or %s", clip(media), jsonEvent)
}

func hasAttributes(h http.Header) bool {
	if _, ok := h["Ce-Specversion"]; ok {
		return true
	}
	for name := range h {
		if strings.HasPrefix(name, headPrefix) {
			return true
		}
	}
	return false
}

// readAttributes reads an event in binary mode without its data.
func readAttributes(h http.Header, e *event.Event) error {
	if at, ok := alarm.RFC3339(h.Get("Ce-Time")); ok {
		h = h.Clone()
		h.Set("Ce-Time", at)
	}
	m := cehttp.NewMessage(h, nil)
	if m.ReadEncoding() != binding.EncodingBinary {
		if v := h.Get("Ce-Specversion"); v != "" {
			return malform(fmt.Errorf("specversion %q is not known: 1.0 and 0.3 are", clip(v)))
		}
		return malform(errors.New("the header ce-specversion is missing: set it to 1.0"))
	}
	read, err := binding.ToEvent(context.Background(), m)
	if err != nil {
		return malform(fmt.Errorf("read the ce- headers: %w", err))
	}
	*e = *read
	return validate(e)
}

// readStructured reads an event in structured mode.
func readStructured(mode mode, body []byte, e *event.Event) (err error) {
	body = trim(body)
	if mode == unstated && !claimsToBe(body) {
		return unsupport("neither ce- headers nor a JSON object with specversion: this is no CloudEvent")
	}
	// The SDK indexes without a check, as in {"data_base64":1,"specversion":"1.0"}.
	defer func() {
		if r := recover(); r != nil {
			*e = event.Event{}
			err = malform(errors.New("read the structured CloudEvent: its attributes are not what their names promise"))
		}
	}()
	if err := format.JSON.Unmarshal(alarm.WithTime(body), e); err != nil {
		*e = event.Event{}
		return malform(fmt.Errorf("read the structured CloudEvent: %w", err))
	}
	return validate(e)
}

// trim removes white space and a byte order mark around JSON.
func trim(body []byte) []byte {
	return bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\uFEFF")))
}

// claimsToBe reports whether a body is a JSON object with a specversion.
func claimsToBe(body []byte) bool {
	var probe struct {
		SpecVersion json.RawMessage `json:"specversion"`
	}
	return len(body) > 0 && body[0] == '{' && json.Unmarshal(body, &probe) == nil && probe.SpecVersion != nil
}

// validate returns one line, always in the same order, that says what an event lacks.
func validate(e *event.Event) error {
	err := e.Validate()
	if err == nil {
		return nil
	}
	lines := slices.DeleteFunc(strings.Split(err.Error(), "\n"), func(s string) bool { return s == "" })
	slices.Sort(lines)
	return malform(fmt.Errorf("no valid CloudEvent: %s", strings.Join(lines, "; ")))
}

// message is what alarm needs of an event.
func message(e event.Event) alarm.Message {
	class, _ := e.Extensions()["eventclass"].(string)
	return alarm.Message{
		Type: e.Type(), Subject: e.Subject(), Source: e.Source(), EventClass: class, Time: e.Time(),
		MediaType: e.DataContentType(), Data: e.Data(),
	}
}

// structured returns the event in structured JSON 1.0: the body if it is that already. Data that JSON cannot
// hold as it is, such as XML that claims to be JSON, is encoded as base64.
func structured(mode mode, e *event.Event, body []byte) (json.RawMessage, error) {
	if mode != binary && e.SpecVersion() == event.CloudEventsVersionV1 {
		return trim(body), nil
	}
	out := *e
	out.Context = e.Context.AsV1()
	if err := out.Context.SetExtension(event.DataContentEncodingKey, nil); err != nil { // 0.3's; the data is decoded
		return nil, fmt.Errorf("write the event as structured JSON: %w", err)
	}
	out.DataBase64 = len(out.DataEncoded) > 0 && !plain(out)
	raw, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("write the event as structured JSON: %w", err)
	}
	return raw, nil
}

// plain reports whether JSON can hold an event's data as a value or, where its media type is not JSON, as a string.
func plain(e event.Event) bool {
	name, _, err := mime.ParseMediaType(e.DataContentType())
	if e.DataContentType() == "" || err == nil && (strings.HasSuffix(name, "/json") || strings.HasSuffix(name, "+json")) {
		return json.Valid(e.DataEncoded)
	}
	return utf8.Valid(e.DataEncoded)
}

// errOutrun ends the reading of a body whose place another body got.
var errOutrun = errors.New("the body was slower than others, and lost its place to them")

// room is what a request holds of the bounded room for events, until it is answered.
type room struct {
	bodies []*place
	slots  chan struct{} // nil: none is held
}

func (h *room) release() {
	for _, held := range h.bodies {
		held.release()
	}
	if h.slots != nil {
		<-h.slots
	}
}

// read takes a place, reads the body, and takes a slot to handle it in. A body that is still arriving holds no
// slot, so that slow senders do not delay others.
func (r *Receiver) read(w http.ResponseWriter, req *http.Request, held *room) ([]byte, error) {
	control := http.NewResponseController(w)
	deadline := func(t time.Time) { _ = control.SetReadDeadline(t) } // a recorder in a test has none
	body, err := r.body(w, req, held, deadline)
	for _, place := range held.bodies {
		if !place.arrived() && err == nil {
			err = errOutrun
		}
	}
	var told *problem
	switch {
	case errors.As(err, &told):
		return nil, err
	case err != nil:
		w.Header().Set("Connection", "close")
		return nil, unread(err)
	}
	return body, r.slot(req.Context(), held)
}

// body reads the body in its place; a large body also needs one of the large places.
func (r *Receiver) body(w http.ResponseWriter, req *http.Request, held *room, deadline func(time.Time)) ([]byte, error) {
	client := clientOf(req)
	small, err := r.small.take(req.Context(), client, deadline, r.cfg.MaxWait)
	if err != nil {
		return nil, err
	}
	held.bodies = append(held.bodies, small)
	in := &paced{from: http.MaxBytesReader(w, req.Body, alarm.MaxBytes), start: time.Now(), held: small}
	if n := req.ContentLength; n >= 0 && n < Small {
		body := make([]byte, n)
		_, err := io.ReadFull(in, body)
		return body, err
	}
	var buf bytes.Buffer
	if _, err := io.CopyN(&buf, in, Small); errors.Is(err, io.EOF) {
		return buf.Bytes(), nil
	} else if err != nil {
		return nil, err
	}
	large, err := r.large.take(req.Context(), client, deadline, r.cfg.MaxWait) // its small place may be lost in the meantime
	if err != nil {
		return nil, err
	}
	held.bodies = append(held.bodies, large)
	if !small.arrived() {
		return nil, errOutrun
	}
	in.held = large
	if req.ContentLength > 0 {
		buf.Grow(int(req.ContentLength) - Small + bytes.MinRead)
	}
	_, err = buf.ReadFrom(in)
	return buf.Bytes(), err
}

// slot waits a little for a slot to handle the event.
func (r *Receiver) slot(ctx context.Context, held *room) error {
	t := time.NewTimer(r.cfg.MaxWait)
	defer t.Stop()
	select {
	case r.slots <- struct{}{}:
		held.slots = r.slots
		return nil
	case <-t.C:
	case <-ctx.Done():
	}
	return noRoom(cap(r.slots))
}
