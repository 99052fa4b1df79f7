// Package vcenter is the one gateway to vCenter: it keeps a SOAP and a REST session, reads candidates
// and their state, powers VMs off and on, waits for them, writes attributes and guest keys, looks up who
// did what to a VM, and follows events and alarms. vim25 types are used only here: parameters and results are the nouns of
// package vsphere and the types below. Callers retry over minutes, plan and report.
package vcenter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Defaults of Config.
const (
	DefaultMaxConcurrentCalls = 5
	DefaultCallTimeout        = 60 * time.Second
	DefaultKeepAlive          = 5 * time.Minute
	DefaultSecretPath         = "/var/bindings/vsphere"
)

// Config says which vCenter to talk to and how. It holds no secret.
type Config struct {
	URL        string // scheme and path may be missing; credentials in it are ignored
	SecretPath string // folder with the files username and password

	// At most one of the three; without any, the system's certificate authorities are trusted.
	Insecure   bool
	CAFile     string // PEM
	Thumbprint string // SHA-1 or SHA-256 of vCenter's certificate, in hex, colons or not

	// Tags are the tags that rounds use; empty: any. They are looked up in advance.
	Tags []string

	// WithoutCategories are those of the owners' tag categories that this site does not have. The others must be visible,
	// or there are no candidates.
	WithoutCategories []string
	// TrustedUsers are service users, as DOMAIN\\user or user@domain: what they change on a VM that is off does not prevent
	// its restore.
	TrustedUsers []string

	MaxConcurrentCalls int           // at once, over the whole gateway; fewer while vCenter is overloaded
	CallTimeout        time.Duration // bound of each call, including a login it may need
	KeepAlive          time.Duration // how often an idle session is used
	EventLag           time.Duration // how long after a change its event may come; zero: 15 s

	// Aliases are names by which event routers call this vCenter, beside those that it has itself: a host, a host and
	// port, or a whole source.
	Aliases []string

	Observe func(method, code string, took time.Duration) // is told of each call; nil: nobody is
	Renewed func(api string)                              // is told of each login that replaces a lost session; nil: nobody is
	Limited func(calls int)                               // is told how many calls may be made at once, at each change; nil: nobody is
	Logger  *slog.Logger
}

// Gateway is the connection to one vCenter. It is safe for concurrent use; make one per process.
type Gateway struct {
	cfg       Config
	url       *url.URL // without userinfo
	log       *slog.Logger
	transport *transport
	creds     *credentials

	soapSlot *slot[*soapSession]
	restSlot *slot[*rest.Client]
	limit    *callLimit // of the calls in flight

	contact contact
	pace    pace
	names   names
	tags    *tagCache
	fields  *fieldCache

	collectors collectors
	waits      atomic.Int32    // under way
	counters   sync.Map        // performance counters by number
	trusted    map[string]bool // accounts of TrustedUsers

	mu       sync.Mutex
	identity identity

	lifetime context.Context // ends with Close
	stop     context.CancelFunc
	started  sync.Once
	warmed   sync.Once
	workers  sync.WaitGroup
}

// New checks the configuration and makes a gateway. It does not connect: the first call does.
func New(cfg Config) (*Gateway, error) {
	u, err := endpoint(cfg.URL)
	if err != nil {
		return nil, err
	}
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	tlsConfig, err := tlsConfig(cfg, u.Hostname())
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		cfg:       cfg,
		url:       u,
		log:       cfg.Logger.With("vcenter", u.Host),
		transport: newTransport(u, tlsConfig, cfg.MaxConcurrentCalls),
		creds:     newCredentials(cfg.SecretPath),
		limit:     newCallLimit(cfg.MaxConcurrentCalls, cfg.Limited),
		tags:      newTagCache(),
		fields:    newFieldCache(),
		trusted:   make(map[string]bool, len(cfg.TrustedUsers)),
	}
	for _, user := range cfg.TrustedUsers {
		g.trusted[account(user)] = true
	}
	g.lifetime, g.stop = context.WithCancel(context.Background())
	g.transport.observe = func(ctx context.Context, method string, began time.Time, err error) {
		g.observe(ctx, method, "", began, err)
	}
	g.soapSlot = newSlot(g.loginSOAP, func() { g.cfg.Renewed("soap") })
	g.restSlot = newSlot(g.loginREST, func() { g.cfg.Renewed("rest") })
	if u.Scheme == "http" {
		g.log.Warn("the connection to vCenter is not encrypted", "reason", "VCENTER_URL starts with http://")
	}
	return g, nil
}

// endpoint completes and checks the URL, and drops credentials from it.
func endpoint(raw string) (*url.URL, error) {
	if strings.TrimSpace(raw) == "" {
		return nil, errors.New("vCenter URL is empty; set VCENTER_URL to https://<host>/sdk")
	}
	u, err := soap.ParseURL(strings.TrimSpace(raw))
	if err != nil {
		var parse *url.Error
		if errors.As(err, &parse) { // its text repeats the URL, which may hold a password
			err = parse.Err
		}
		return nil, fmt.Errorf("vCenter URL cannot be read: %w; expected https://<host>/sdk", err)
	}
	u.User = nil
	if u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("vCenter URL has scheme %q; expected https", u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, errors.New("vCenter URL names no host; expected https://<host>/sdk")
	}
	u.RawQuery, u.Fragment = "", ""
	return u, nil
}

// complete fills in defaults and refuses impossible values.
func (c *Config) complete() error {
	if c.MaxConcurrentCalls < 0 || c.CallTimeout < 0 || c.KeepAlive < 0 || c.EventLag < 0 {
		return errors.New("vCenter limits must not be negative")
	}
	if c.EventLag == 0 {
		c.EventLag = defaultEventLag
	}
	if c.MaxConcurrentCalls == 0 {
		c.MaxConcurrentCalls = DefaultMaxConcurrentCalls
	}
	if c.CallTimeout == 0 {
		c.CallTimeout = DefaultCallTimeout
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = DefaultKeepAlive
	}
	if c.SecretPath == "" {
		c.SecretPath = DefaultSecretPath
	}
	if c.Observe == nil {
		c.Observe = func(string, string, time.Duration) {}
	}
	if c.Renewed == nil {
		c.Renewed = func(string) {}
	}
	if c.Limited == nil {
		c.Limited = func(int) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Connect logs in to both APIs, or proves that the sessions still work. It serves as a health probe.
// The first success warms the tag cache in the background.
func (g *Gateway) Connect(ctx context.Context) error {
	if _, err := g.ServerTime(ctx); err != nil {
		return err
	}
	c := call{op: "connect to", object: g.url.Host}
	if err := g.rest(ctx, c, func(context.Context, *rest.Client) error { return nil }); err != nil {
		return err
	}
	g.warmed.Do(func() {
		g.background(func(ctx context.Context) {
			g.warm(ctx)
		})
	})
	return nil
}

// warm reads the tags in advance, first those of owners. It logs an error if those cannot be seen.
func (g *Gateway) warm(ctx context.Context) {
	err := g.CheckOwnerCategories(ctx)
	switch KindOf(err) {
	case "":
	case CategoriesUnseen:
		g.log.Error("no round plans while the tags of owners cannot be seen", "reason", err)
	default:
		g.log.Warn("could not read the tags of owners ahead of need", "reason", err)
	}
	if err := g.findTags(ctx); err != nil {
		g.log.Warn("could not read the tags ahead of need", "reason", err)
	}
}

// findTags looks up the tags that rounds use. A name without its category requires the names of all tags.
func (g *Gateway) findTags(ctx context.Context) error {
	if len(g.cfg.Tags) == 0 {
		return g.loadTags(ctx)
	}
	for _, name := range g.cfg.Tags {
		_, err := g.resolveTag(ctx, "look ahead for", name)
		if kind := KindOf(err); err != nil && kind != TagNotFound && kind != TagAmbiguous { // a round and doctor report it
			return err
		}
	}
	return nil
}

// Close stops background work and logs out of both APIs. Later calls fail.
func (g *Gateway) Close(ctx context.Context) {
	g.mu.Lock() // nothing starts in the background after this
	g.stop()
	g.mu.Unlock()
	done := make(chan struct{})
	go func() { g.workers.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
	if s, ok := g.soapSlot.take(); ok {
		req := types.Logout{This: *s.client.ServiceContent.SessionManager}
		if _, err := methods.Logout(ctx, s.client, &req); err != nil {
			g.log.Debug("could not log out of vCenter's SOAP API", "reason", err)
		}
	}
	if c, ok := g.restSlot.take(); ok {
		if err := c.Logout(ctx); err != nil {
			g.log.Debug("could not log out of vCenter's REST API", "reason", err)
		}
	}
	g.transport.base.CloseIdleConnections()
}

// LastContact returns when vCenter last answered a call (zero: never), and the last error since then that
// made it unusable, nil if there was none.
func (g *Gateway) LastContact() (time.Time, error) { return g.contact.last() }

// User is our session's user as vCenter writes it in events (VSPHERE.LOCAL\preemption), or "" before
// the first login.
func (g *Gateway) User() string { return g.known().user }

// InstanceUUID identifies this vCenter; "" before the first login.
func (g *Gateway) InstanceUUID() string { return g.known().instanceUUID }

// Version is vCenter's version and build, "" before the first login.
func (g *Gateway) Version() string { return g.known().version }

// ServerTime is vCenter's clock. One call.
func (g *Gateway) ServerTime(ctx context.Context) (time.Time, error) {
	var now time.Time
	err := g.soap(ctx, call{op: "connect to", object: g.url.Host}, func(ctx context.Context, s *soapSession) error {
		t, err := methods.GetCurrentTime(ctx, s.client)
		if err == nil {
			now = *t
		}
		return err
	})
	return now, err
}

// identity is what a login shows about vCenter and our user.
type identity struct {
	user, instanceUUID, fqdn, version string
	api                               string // the version of the SOAP API that was agreed upon
}

func (g *Gateway) known() identity {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.identity
}

// Addresses are the names and addresses of vCenter itself, as far as they are known. A VM that has one of them is vCenter.
func (g *Gateway) Addresses() []string {
	addrs := append([]string{g.url.Hostname()}, g.transport.addresses()...)
	if fqdn := g.known().fqdn; fqdn != "" {
		addrs = append(addrs, fqdn)
	}
	return unique(addrs)
}

// background runs f until Close at the latest, which waits for it. After Close it does nothing.
func (g *Gateway) background(f func(ctx context.Context)) (started bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lifetime.Err() != nil {
		return false
	}
	g.workers.Go(func() { f(g.lifetime) })
	return true
}

// soapClient makes a client without cookies over the shared connections.
func (g *Gateway) soapClient() *soap.Client {
	c := soap.NewClient(g.url, g.cfg.Insecure)
	c.Client.Transport = g.transport
	c.UserAgent = "vsphere-preemption"
	return c
}

var _ http.RoundTripper = (*transport)(nil)

func unique[T comparable](list []T) []T {
	seen := make(map[T]bool, len(list))
	out := list[:0]
	for _, v := range list {
		if !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	return out
}
