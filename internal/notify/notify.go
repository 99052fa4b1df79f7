// Package notify sends CloudEvents to reply addresses. It dials nothing that the operator has not allowed.
package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cloudevents/sdk-go/v2/client"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/protocol"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// Error is a failed delivery. A permanent one is not worth another attempt.
type Error struct {
	Target    string
	Permanent bool
	Err       error
}

// Error returns what failed and where.
func (e *Error) Error() string {
	return shown.Redact(fmt.Sprintf("send CloudEvent to %s: %v", e.Target, e.Err))
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// errRefused means that an address is not allowed.
var errRefused = errors.New("the address is not allowed: loopback, link-local and metadata addresses are refused unless limits.replyAllow names them")

// Sender delivers CloudEvents by HTTP.
type Sender struct {
	allow   []string
	nets    []netip.Prefix
	timeout time.Duration
}

// New returns a sender. allow holds host names and CIDRs: empty allows every address but loopback,
// link-local, unspecified, multicast and metadata ones; otherwise only what it names. timeout bounds one
// delivery; zero means ten seconds.
func New(allow []string, timeout time.Duration) (*Sender, error) {
	s := &Sender{timeout: timeout}
	if s.timeout <= 0 {
		s.timeout = 10 * time.Second
	}
	for _, a := range allow {
		if !strings.Contains(a, "/") {
			s.allow = append(s.allow, strings.ToLower(a))
			continue
		}
		p, err := netip.ParsePrefix(a)
		if err != nil {
			return nil, fmt.Errorf("limits.replyAllow: %q is neither a host name nor a CIDR: %w", a, err)
		}
		s.nets = append(s.nets, p)
	}
	return s, nil
}

// Send delivers one event, given as structured JSON, to the target URL in binary mode. Its error is an
// *Error; redirects are not followed, and only status and headers of the answer are read.
func (s *Sender) Send(ctx context.Context, target string, raw json.RawMessage) error {
	visible := shown.Redact(target)
	var e event.Event
	if err := json.Unmarshal(raw, &e); err != nil {
		return &Error{Target: visible, Permanent: true, Err: fmt.Errorf("the event is no CloudEvent: %w", err)}
	}
	u, err := url.Parse(target)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return &Error{Target: visible, Permanent: true, Err: errors.New("no http or https URL")}
	}
	transport := &http.Transport{
		DialContext: s.dialer(u.Hostname()).DialContext, DisableKeepAlives: true, DisableCompression: true,
		TLSHandshakeTimeout: s.timeout, ResponseHeaderTimeout: s.timeout, MaxResponseHeaderBytes: maxAnswer,
	}
	defer transport.CloseIdleConnections()
	p, err := cehttp.New(cehttp.WithClient(http.Client{
		Transport: statusOnly{transport}, Timeout: s.timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}), cehttp.WithTarget(target))
	if err != nil {
		return &Error{Target: visible, Permanent: true, Err: shown.Error(err)}
	}
	c, err := client.New(p)
	if err != nil {
		return &Error{Target: visible, Permanent: true, Err: shown.Error(err)}
	}
	return classify(visible, c.Send(ctx, e))
}

// maxAnswer limits the status and headers of an answer.
const maxAnswer = 64 << 10

// statusOnly drops the body of every answer unread. The status alone decides about a delivery. Otherwise an
// endless answer would fill the memory, because the CloudEvents SDK reads all of it.
type statusOnly struct{ base http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (s statusOnly) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := s.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close() // the body is not used
	resp.Body, resp.ContentLength = http.NoBody, 0
	return resp, nil
}

// classify turns the protocol's result into an *Error, or nil if the receiver took the event.
func classify(target string, result protocol.Result) error {
	if protocol.IsACK(result) {
		return nil
	}
	var status *cehttp.Result
	if errors.As(result, &status) {
		code := status.StatusCode
		if code >= 200 && code < 300 {
			return nil
		}
		permanent := code >= 300 && code < 500 && code != http.StatusRequestTimeout && code != http.StatusTooManyRequests
		return &Error{Target: target, Permanent: permanent, Err: fmt.Errorf("the receiver answered %d %s", code, http.StatusText(code))}
	}
	return &Error{Target: target, Permanent: errors.Is(result, errRefused), Err: shown.Error(result)} // it names the whole URL
}

// dialer checks each address when it is dialled, after the name was resolved, so that no name can lead
// to an address that is not allowed.
func (s *Sender) dialer(host string) *net.Dialer {
	named := slices.Contains(s.allow, strings.ToLower(host))
	return &net.Dialer{
		Timeout: s.timeout,
		Control: func(_, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			if !s.allowed(ap.Addr().Unmap(), named) {
				return fmt.Errorf("dial %s: %w", address, errRefused)
			}
			return nil
		},
	}
}

// Client returns a client for others that call the same kind of addresses: it dials what Send may dial, after the name was
// resolved, and the hosts that are fixed, and follows no redirect. What goes through a proxy of the environment is not checked: the proxy resolves it.
func (s *Sender) Client(timeout time.Duration, fixed ...string) http.Client {
	direct := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			if slices.Contains(fixed, host) {
				return (&net.Dialer{Timeout: s.timeout}).DialContext(ctx, network, address)
			}
			return s.dialer(host).DialContext(ctx, network, address)
		},
		ForceAttemptHTTP2: true, MaxIdleConns: 10, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: s.timeout, MaxResponseHeaderBytes: maxAnswer,
	}
	return http.Client{
		Transport: unlessProxied{direct, http.DefaultTransport}, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// unlessProxied dials by itself what goes through no proxy.
type unlessProxied struct{ direct, proxied http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (u unlessProxied) RoundTrip(req *http.Request) (*http.Response, error) {
	if proxy, err := http.ProxyFromEnvironment(req); err == nil && proxy != nil {
		return u.proxied.RoundTrip(req)
	}
	return u.direct.RoundTrip(req)
}

// CheckHost looks a host up and says whether it may be dialled: the same addresses are allowed as for Send.
func (s *Sender) CheckHost(ctx context.Context, host string) error {
	if slices.Contains(s.allow, strings.ToLower(host)) {
		return nil
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return fmt.Errorf("look up its host: %w", err)
	}
	for _, ip := range found {
		if !s.allowed(ip.Unmap(), false) {
			return errRefused
		}
	}
	return nil
}

func (s *Sender) allowed(ip netip.Addr, named bool) bool {
	if named || slices.ContainsFunc(s.nets, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		return true
	}
	if len(s.allow)+len(s.nets) > 0 {
		return false
	}
	metadata := ip == netip.MustParseAddr("fd00:ec2::254") || ip == netip.MustParseAddr("100.100.100.200")
	return !ip.IsLoopback() && !ip.IsLinkLocalUnicast() && !ip.IsUnspecified() && !ip.IsMulticast() && !metadata
}

// Source returns the source of our events: Temporal's address and namespace, as documented. Where the
// address is an IP and port, which is no valid URI reference by itself, it is written as //IP:port/namespace.
func Source(address, namespace string) string {
	source := address + "/" + namespace
	if _, err := url.Parse(source); err != nil {
		return "//" + source
	}
	return source
}
