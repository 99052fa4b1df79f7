package simulation

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"log"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// serve is every request's way in: outage, counting, latency, then the simulator.
func (v *VCenter) serve(w http.ResponseWriter, r *http.Request) {
	if !v.begin() {
		return
	}
	defer v.work.Done()
	if v.server.unavailable() {
		v.calls.count(unavailableKey)
		http.Error(w, "503 Service Unavailable", http.StatusServiceUnavailable)
		return
	}
	defer v.recovered(w, r)
	switch {
	case r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/sdk"):
		v.serveDisguised(w, r)
	case strings.HasPrefix(r.URL.Path, "/rest/") || strings.HasPrefix(r.URL.Path, "/api"):
		v.serveREST(w, r)
	default:
		v.service.ServeMux.ServeHTTP(w, r)
	}
}

// recovered turns a panic of the simulator into a 500 and a loud log line: the object's lock may stay held.
func (v *VCenter) recovered(w http.ResponseWriter, r *http.Request) {
	if p := recover(); p != nil {
		log.Printf("simulated vCenter: %s %s panicked, an object may stay locked: %v\n%s", r.Method, r.URL.Path, p, debug.Stack())
		http.Error(w, fmt.Sprint("the simulator panicked: ", p), http.StatusInternalServerError)
	}
}

func (v *VCenter) serveREST(w http.ResponseWriter, r *http.Request) {
	key := restKey(r)
	v.calls.count(key)
	defer v.calls.enter()()
	if !v.delay(r) {
		return
	}
	for _, hook := range v.rules.hooksOf(key) {
		hook(types.ManagedObjectReference{})
	}
	if status := v.rules.restStatus(key); status != 0 {
		http.Error(w, http.StatusText(status), status)
		return
	}
	if v.refuseRate(w, r) || v.serveAttach(w, r) || v.serveHiding(w, r) {
		return
	}
	v.service.ServeMux.ServeHTTP(w, r)
}

func (v *VCenter) serveSOAP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	call := parseCall(body)
	v.calls.count(call.method)
	r.Body = io.NopCloser(bytes.NewReader(body))
	if strings.HasPrefix(call.method, "WaitForUpdates") {
		v.serveWait(w, r, call)
		return
	}
	defer v.calls.enter()()
	if !v.delay(r) {
		return
	}
	if v.refuseVersion(w, r) {
		return
	}
	if call.method == "DestroyCollector" {
		// The simulator walks its collectors under the event manager's lock, but removes them without it.
		ctx := v.context("")
		defer ctx.Map.AcquireLock(ctx, ctx.Map.EventManager())()
	}
	if v.rules.losesAnswer(call) {
		v.service.ServeMux.ServeHTTP(&recorder{header: http.Header{}}, r)
		hangUp(w)
		return
	}
	if strings.HasPrefix(call.method, "RetrieveProperties") {
		v.tellPools()
	}
	if v.serveTime(w, r, call.method) {
		return
	}
	v.service.ServeMux.ServeHTTP(w, r)
}

// hangUp closes the connection in place of an answer.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// delay adds the latency and that of the load, and reports whether to go on.
func (v *VCenter) delay(r *http.Request) bool {
	return v.sleep(v.calls.delayNow()) && r.Context().Err() == nil
}

// serveWait serves a wait for updates, which the simulator would go on serving for a client that is gone or a
// session that has ended.
func (v *VCenter) serveWait(w http.ResponseWriter, r *http.Request, call soapCall) {
	if !v.sleep(time.Duration(v.calls.latency.Load())) || r.Context().Err() != nil {
		return
	}
	end, served := v.calls.waitsEnd(), make(chan struct{})
	ended := make(chan bool, 1)
	key := waitKey{session: cookie(r), collector: call.this}
	go func() { ended <- v.watchWait(r, key, end, served) }()
	answer := &recorder{header: w.Header(), status: http.StatusOK}
	func() {
		defer close(served)
		v.service.ServeMux.ServeHTTP(answer, r)
	}()
	if <-ended {
		v.refuseWait(w)
		return
	}
	w.WriteHeader(answer.status)
	_, _ = w.Write(answer.body.Bytes())
}

// watchWait ends the wait when its client, its session or the whole vCenter is gone; true means that the session is.
func (v *VCenter) watchWait(r *http.Request, key waitKey, end <-chan struct{}, served <-chan struct{}) bool {
	defer v.rules.forgetWait(key)
	ended := false
	select {
	case <-served:
		return false
	case <-end:
		ended = true
	case <-r.Context().Done():
	case <-v.done:
	}
	for { // until it takes: the wait may be just about to begin
		v.rules.cancelWait(key)
		select {
		case <-served:
			return ended
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (v *VCenter) refuseWait(w http.ResponseWriter) {
	if v.server.unavailable() {
		http.Error(w, "503 Service Unavailable", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusInternalServerError)
	_, _ = io.WriteString(w, notAuthenticatedEnvelope)
}

const notAuthenticatedEnvelope = xml.Header + `<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" ` +
	`xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><soapenv:Fault><faultcode>ServerFaultCode</faultcode>` +
	`<faultstring>The session is not authenticated.</faultstring><detail><NotAuthenticatedFault xmlns="urn:vim25" xsi:type="NotAuthenticated">` +
	`<privilegeId>System.View</privilegeId></NotAuthenticatedFault></detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>`

func cookie(r *http.Request) string {
	if c, err := r.Cookie(soap.SessionCookieName); err == nil {
		return c.Value
	}
	return ""
}

// recorder keeps an answer until it is known whether it may be sent.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }

// soapCall is what the handler needs to know of a call before the simulator decodes it.
type soapCall struct {
	method string
	this   types.ManagedObjectReference
}

// parseCall reads the method's name and object from a SOAP envelope; an unreadable one is the method "invalid".
func parseCall(body []byte) soapCall {
	call := soapCall{method: "invalid"}
	decoder := xml.NewDecoder(bytes.NewReader(body))
	inBody := false
	for {
		token, err := decoder.Token()
		if err != nil {
			return call
		}
		start, ok := token.(xml.StartElement)
		switch {
		case !ok:
		case !inBody:
			inBody = start.Name.Local == "Body"
		case call.method == "invalid":
			call.method = start.Name.Local
		default:
			if start.Name.Local == "_this" {
				call.this = parseThis(decoder, start)
			}
			return call
		}
	}
}

func parseThis(decoder *xml.Decoder, start xml.StartElement) types.ManagedObjectReference {
	var this struct {
		Type  string `xml:"type,attr"`
		Value string `xml:",chardata"`
	}
	if err := decoder.DecodeElement(&this, &start); err != nil {
		return types.ManagedObjectReference{}
	}
	return types.ManagedObjectReference{Type: this.Type, Value: this.Value}
}

// context is a fresh simulator context of a user; each goroutine needs its own, it stands for who holds a lock.
func (v *VCenter) context(user string) *simulator.Context {
	c := *v.service.Context
	c.Session = &simulator.Session{
		UserSession: types.UserSession{Key: "simulation", UserName: user},
		Registry:    simulator.NewRegistry(),
		Map:         c.Map,
	}
	return &c
}
