package simulation

import (
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// sessions knows what each SOAP session has made, which the simulator keeps for ever.
type sessions struct {
	mu   sync.Mutex
	made map[string]*simulator.Registry // by the session's key
}

// use remembers the objects of a session that makes a call.
func (s *sessions) use(session *simulator.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made == nil {
		s.made = map[string]*simulator.Registry{}
	}
	s.made[session.Key] = session.Registry
}

// end stops the property collectors of a session from collecting the changes of objects, which nobody reads any more.
func (s *sessions) end(ctx *simulator.Context, key string) {
	s.mu.Lock()
	registry := s.made[key]
	delete(s.made, key)
	s.mu.Unlock()
	if registry == nil {
		return
	}
	for _, object := range registry.AllReference("") {
		own := strings.HasPrefix(object.Reference().Value, "session["+key+"]")
		if listener, ok := object.(simulator.RegisterObject); ok && own {
			ctx.Map.RemoveHandler(listener)
		}
	}
}

// loggedIn lists the SOAP sessions.
func loggedIn(ctx *simulator.Context) []types.UserSession {
	view, ok := ctx.Session.Get(ctx.Map.SessionManager().Self).(*simulator.SessionManager)
	if !ok {
		return nil
	}
	return view.SessionList
}

// Sessions returns how many SOAP sessions are logged in.
func (v *VCenter) Sessions() int { return len(loggedIn(v.context(""))) }

// EndIdleSessions ends the SOAP sessions that have made no call for so long, as vCenter does after 30 minutes.
func (v *VCenter) EndIdleSessions(idle time.Duration) {
	v.endSessions(func(s types.UserSession) bool { return time.Since(s.LastActiveTime) > idle })
}

// TerminateSessions ends every SOAP and REST session: later calls with them answer NotAuthenticated and 401, waits
// for updates under way too. The model lives on.
func (v *VCenter) TerminateSessions() error {
	v.endSessions(func(types.UserSession) bool { return true })
	v.calls.endWaits()
	return v.endRESTSessions()
}

func (v *VCenter) endSessions(which func(types.UserSession) bool) {
	ctx := v.context("")
	manager := ctx.Map.SessionManager()
	for _, s := range loggedIn(ctx) {
		if which(s) {
			manager.TerminateSession(ctx, &types.TerminateSession{This: manager.Self, SessionId: []string{s.Key}}) // NotFound: it logged out meanwhile
			v.sessions.end(ctx, s.Key)
		}
	}
}
