package vcenter

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// transport carries both APIs over shared connections. It turns refusals below the APIs (401, 503, an
// HTML page) into typed errors, and lets reads survive a connection that vCenter closed while idle.
type transport struct {
	base *http.Transport
	host string // host:port of vCenter

	observe func(ctx context.Context, method string, began time.Time, err error) // called for each REST call

	mu    sync.Mutex
	addrs map[string]bool   // vCenter's addresses as dialled
	cert  *x509.Certificate // that it presented last
}

func newTransport(u *url.URL, conf *tls.Config, calls int) *transport {
	t := &transport{host: hostPort(u), addrs: make(map[string]bool)}
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	t.base = &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		TLSClientConfig:       conf,
		TLSHandshakeTimeout:   10 * time.Second,
		MaxIdleConns:          2 * calls,
		MaxIdleConnsPerHost:   2 * calls, // Go's default of 2 would reconnect all the time
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			if err == nil && addr == t.host { // not a proxy
				t.dialled(conn.RemoteAddr())
			}
			return conn, err
		},
	}
	return t
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func (t *transport) dialled(addr net.Addr) {
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addrs[host] = true
}

func (t *transport) addresses() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Sorted(maps.Keys(t.addrs))
}

// presented records the certificate of a connection.
func (t *transport) presented(state *tls.ConnectionState) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cert = state.PeerCertificates[0]
}

func (t *transport) certificate() *x509.Certificate {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cert
}

type replayKey struct{}

// withReplay allows the transport to send a request again when the idle connection it was sent on
// turns out to be closed.
func withReplay(ctx context.Context) context.Context {
	return context.WithValue(ctx, replayKey{}, true)
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	began := time.Now()
	res, err := t.roundTrip(req)
	if isREST(req) {
		t.observe(req.Context(), restMethod(req), began, err)
	}
	return res, err
}

func (t *transport) roundTrip(req *http.Request) (*http.Response, error) {
	req, err := rewindable(req)
	if err != nil {
		return nil, err
	}
	res, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	t.presented(res.TLS)
	if !refused(req, res) {
		return res, nil
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(res.Body, 8<<10))
	return nil, &statusError{code: res.StatusCode, path: req.URL.Path, kind: vapiType(body), text: vapiMessage(body), after: retryAfter(res.Header)}
}

// rewindable gives the request a body that can be sent again.
func rewindable(req *http.Request) (*http.Request, error) {
	req = req.Clone(req.Context())
	if req.Body != nil && req.GetBody == nil {
		body, err := io.ReadAll(req.Body)
		_ = req.Body.Close()
		if err != nil {
			return nil, err
		}
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		req.Body, _ = req.GetBody()
		req.ContentLength = int64(len(body))
	}
	if req.Context().Value(replayKey{}) != nil {
		req.Header["Idempotency-Key"] = []string{} // known to net/http, not sent
	}
	return req, nil
}

// refused reports whether the answer is not the API's own. SOAP faults come as 500 with XML.
func refused(req *http.Request, res *http.Response) bool {
	if res.StatusCode == http.StatusInternalServerError && !isREST(req) {
		return !strings.Contains(res.Header.Get("Content-Type"), "xml")
	}
	return res.StatusCode < 200 || res.StatusCode > 299
}

func isREST(req *http.Request) bool {
	return strings.HasPrefix(req.URL.Path, "/rest") || strings.HasPrefix(req.URL.Path, "/api")
}

// restMethod names a call of REST without the ids in its path: "POST tagging/tag-association?list-attached-tags".
func restMethod(req *http.Request) string {
	parts := strings.Split(strings.TrimPrefix(req.URL.Path, "/rest/com/vmware/cis/"), "/")
	for i, part := range parts {
		if strings.HasPrefix(part, "id:") || strings.HasPrefix(part, "urn:") {
			parts[i] = "id"
		}
	}
	name := req.Method + " " + strings.Join(parts, "/")
	if action := req.URL.Query().Get("~action"); action != "" {
		name += "?" + action
	}
	return name
}

// statusError is an HTTP status instead of an answer.
type statusError struct {
	code int
	path string
	kind string // the error's type, if the REST API gives one
	text string
	// after is how long to wait, if the answer says so.
	after time.Duration
}

func (e *statusError) Error() string {
	s := fmt.Sprintf("%s answers %d %s", e.path, e.code, http.StatusText(e.code))
	if e.text != "" {
		s += ": " + e.text
	}
	return s
}

// vapiMessage reads the message of a REST error; "" if there is none.
func vapiMessage(body []byte) string {
	var e struct {
		Type  string `json:"type"`
		Value struct {
			Messages []struct {
				Text string `json:"default_message"`
			} `json:"messages"`
		} `json:"value"`
	}
	if json.Unmarshal(body, &e) != nil {
		return ""
	}
	for _, m := range e.Value.Messages {
		if m.Text != "" {
			return m.Text
		}
	}
	return e.Type
}

// vapiType reads the type of a REST error; "" if there is none.
func vapiType(body []byte) string {
	var e struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(body, &e) != nil {
		return ""
	}
	return e.Type
}
