package standalone

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/demoapi"
)

const (
	orderLimit = 64 << 10 // bytes
	orderTime  = 10 * time.Second
)

// control takes the orders of preemptctl demo over HTTP, on the loopback address. It refuses whatever a page in a browser
// could send: such a page sends an Origin, cannot set the header, and under a name of its own does not ask for loopback.
type control struct {
	addr string // that it listens on
	demo atomic.Pointer[knobs]
}

// refusal is why an order is not carried out.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// startControl listens for orders, which are refused until the demo lives.
func (s *stack) startControl(ports Ports) error {
	if !s.lives() {
		return nil
	}
	listener, err := net.Listen("tcp", loopback(ports.Control))
	if err != nil && s.controlPort.fixed() {
		return takenPort("control-port", err)
	}
	if err != nil {
		listener, err = net.Listen("tcp", loopback(0))
	}
	if err != nil {
		return fmt.Errorf("serve the knobs of the demo: %w", err)
	}
	c := &control{addr: listener.Addr().String()}
	server := &http.Server{Handler: c, ReadTimeout: orderTime, WriteTimeout: orderTime}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("the knobs of the demo are no longer served", "reason", err)
		}
	}()
	s.onStop(func() { _ = server.Close() }) // an order that is cut short is known to be
	s.knobs = c
	return nil
}

// flag is what preemptctl demo needs to find the demo, with a space before it; "" where it looks by itself.
func (c *control) flag() string {
	if c.addr == loopback(demoapi.DefaultPort) {
		return ""
	}
	return " --demo " + c.addr
}

// takes carries orders out from now on.
func (c *control) takes(k *knobs) { c.demo.Store(k) }

// ServeHTTP answers one order.
func (c *control) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", demoapi.ContentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	answer, err := c.order(w, r)
	var refused *refusal
	switch {
	case err == nil:
		_ = json.NewEncoder(w).Encode(answer) // who went away reads nothing
		return
	case !errors.As(err, &refused):
		refused = &refusal{http.StatusInternalServerError, err.Error()}
	}
	w.WriteHeader(refused.status)
	_ = json.NewEncoder(w).Encode(demoapi.Refusal{Error: refused.text})
}

// order reads an order and has it carried out.
func (c *control) order(w http.ResponseWriter, r *http.Request) (demoapi.Answer, error) {
	if err := fromHere(r); err != nil {
		return demoapi.Answer{}, err
	}
	var o demoapi.Order
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, orderLimit))
	d.DisallowUnknownFields()
	err := d.Decode(&o)
	if err == nil && d.Decode(new(any)) != io.EOF {
		err = errors.New("something follows it")
	}
	if err != nil {
		return demoapi.Answer{}, refuse(http.StatusBadRequest, "this is no order: %s", err)
	}
	k := c.demo.Load()
	if k == nil {
		return demoapi.Answer{}, refuse(http.StatusConflict, "the demo still shows its scenario: try again when it says \"serving\"")
	}
	return k.turn(o)
}

// fromHere refuses a request that may come from a page in a browser, or to another name than this machine's.
func fromHere(r *http.Request) error {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case !loopbackName(r.Host):
		return refuse(http.StatusForbidden, "the demo is for this machine alone, and is asked for under another name")
	case len(r.Header.Values("Origin")) > 0 || len(r.Header.Values("Referer")) > 0 || len(r.Header.Values("Sec-Fetch-Site")) > 0:
		return refuse(http.StatusForbidden, "a browser sent this: the demo takes orders of preemptctl alone")
	case r.Header.Get(demoapi.Header) != demoapi.HeaderValue:
		return refuse(http.StatusForbidden, "the header %s: %s is missing: use preemptctl demo", demoapi.Header, demoapi.HeaderValue)
	case r.URL.Path != demoapi.Path:
		return refuse(http.StatusNotFound, "orders are posted to %s", demoapi.Path)
	case r.Method != http.MethodPost:
		return refuse(http.StatusMethodNotAllowed, "orders are posted")
	case err != nil || kind != demoapi.ContentType:
		return refuse(http.StatusUnsupportedMediaType, "an order is %s", demoapi.ContentType)
	}
	return nil
}

// loopbackName reports whether a request's host is this machine, by a name that no other site can have.
func loopbackName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}
