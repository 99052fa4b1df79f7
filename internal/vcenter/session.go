package vcenter

import (
	"context"
	"net/url"
	"sync"
	"time"

	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
)

// slot holds the one session of an API and makes a new one when it is missing. Each session has a
// generation, so that of many callers that find it lost only the first replaces it.
type slot[T any] struct {
	login   func(context.Context) (T, error)
	renewed func()        // called for each login but the first
	turn    chan struct{} // held while logging in; a channel, so that waiting ends with the context

	mu         sync.Mutex
	current    T
	present    bool
	generation uint64
}

func newSlot[T any](login func(context.Context) (T, error), renewed func()) *slot[T] {
	return &slot[T]{login: login, renewed: renewed, turn: make(chan struct{}, 1)}
}

// get returns the session, logging in if there is none.
func (s *slot[T]) get(ctx context.Context) (T, uint64, error) {
	if session, generation, ok := s.peek(); ok {
		return session, generation, nil
	}
	var none T
	if err := enter(ctx, s.turn); err != nil {
		return none, 0, err
	}
	defer func() { <-s.turn }()
	if session, generation, ok := s.peek(); ok { // another caller was faster
		return session, generation, nil
	}
	session, err := s.login(ctx)
	if err != nil {
		return none, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.present = session, true
	if s.generation++; s.generation > 1 {
		s.renewed()
	}
	return session, s.generation, nil
}

func (s *slot[T]) peek() (T, uint64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current, s.generation, s.present
}

// drop forgets the session of that generation; a newer one stays.
func (s *slot[T]) drop(generation uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.generation == generation {
		s.present = false
	}
}

// take removes and returns the session.
func (s *slot[T]) take() (T, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ok := s.present
	s.present = false
	return s.current, ok
}

// soapSession is a logged-in SOAP client. Each login has a client of its own: logging in over a live
// session is refused by vCenter, and a restarted vCenter may describe itself anew.
type soapSession struct {
	client *vim25.Client
}

func (g *Gateway) loginSOAP(ctx context.Context) (*soapSession, error) {
	began := time.Now()
	speaker := g.soapClient()
	g.negotiate(ctx, speaker)
	client, err := vim25.NewClient(ctx, speaker)
	g.observe(ctx, "RetrieveServiceContent", "", began, err)
	if err != nil {
		return nil, err
	}
	client.RoundTripper = observed{client.RoundTripper, g}
	var session types.UserSession
	err = g.creds.use(func(user *url.Userinfo) error {
		password, _ := user.Password()
		res, err := methods.Login(ctx, client, &types.Login{
			This:     *client.ServiceContent.SessionManager,
			UserName: user.Username(),
			Password: password,
			Locale:   "en_US",
		})
		if err == nil {
			session = res.Returnval
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	g.introduce(ctx, client, session)
	g.started.Do(func() { g.background(g.keepAlive) })
	return &soapSession{client: client}, nil
}

// introduce records our user and vCenter's identity.
func (g *Gateway) introduce(ctx context.Context, client *vim25.Client, session types.UserSession) {
	about := client.ServiceContent.About
	id := identity{user: session.UserName, instanceUUID: about.InstanceUuid, fqdn: g.known().fqdn, version: about.Version + " build " + about.Build, api: client.Version}
	if id.fqdn == "" {
		id.fqdn = vcenterFQDN(ctx, client)
	}
	g.mu.Lock()
	g.identity = id
	g.mu.Unlock()
	g.log.Info("logged in to vCenter", "api", "SOAP", "user", id.user, "version", client.ServiceContent.About.Version, "apiVersion", id.api)
}

// vcenterFQDN asks vCenter for its own name; "" if unknown.
func vcenterFQDN(ctx context.Context, client *vim25.Client) string {
	setting := client.ServiceContent.Setting
	if setting == nil {
		return ""
	}
	res, err := methods.QueryOptions(ctx, client, &types.QueryOptions{This: *setting, Name: "VirtualCenter.FQDN"})
	if err != nil {
		return ""
	}
	for _, option := range res.Returnval {
		if name, ok := option.GetOptionValue().Value.(string); ok {
			return name
		}
	}
	return ""
}

func (g *Gateway) loginREST(ctx context.Context) (*rest.Client, error) {
	client := rest.NewClient(&vim25.Client{Client: g.soapClient()})
	client.Client.Client.Transport = g.transport
	err := g.creds.use(func(user *url.Userinfo) error { return client.Login(ctx, user) })
	if err != nil {
		return nil, err
	}
	g.log.Debug("logged in to vCenter", "api", "REST")
	return client, nil
}

// keepAlive uses both sessions regularly, so that they do not expire, and keeps the tag cache
// up to date. A failure is tried again at the next tick: calls log in again by themselves.
func (g *Gateway) keepAlive(ctx context.Context) {
	tick := time.NewTicker(g.cfg.KeepAlive)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := g.ServerTime(ctx); err != nil {
			g.log.Debug("vCenter's SOAP session could not be kept alive", "reason", err)
			continue
		}
		if _, _, ok := g.restSlot.peek(); !ok {
			continue
		}
		if err := g.revalidateTags(ctx); err != nil {
			g.log.Debug("vCenter's REST session could not be kept alive", "reason", err)
		}
	}
}

const cleanUpTime = 5 * time.Second

// cleanUp removes something from vCenter in the background, a while later, even if the caller's context
// has ended. It waits during an outage, until Close. What remains then ends with its session.
func (g *Gateway) cleanUp(ctx context.Context, later time.Duration, f func(context.Context) error) {
	g.background(func(lifetime context.Context) {
		for wait := later; ; wait = min(max(2*wait, firstBackoff), longestBackoff) {
			clock.Sleep(lifetime, wait)
			err := g.cleanUpOnce(ctx, f)
			if err == nil {
				return
			}
			g.log.Debug("could not clean up in vCenter", "reason", err)
			if lifetime.Err() != nil || sessionLost(err) || !KindOf(err).Outage() {
				return
			}
		}
	})
}

func (g *Gateway) cleanUpOnce(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	release, err := g.limit.enter(ctx, false)
	if err != nil {
		return err
	}
	defer release()
	return f(ctx)
}
