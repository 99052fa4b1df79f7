package console

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
)

// Token is what a caller must show, such as a bearer.Token.
type Token interface{ Shown(http.Header) bool }

// contentPolicy is the Content-Security-Policy: files of ours, and nothing written into a page.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Guard says who may read the console.
type Guard struct {
	Addr   string // that it listens on
	Token  Token  // nil: none is asked for
	Header string // that a reverse proxy sets for whom it has let in, such as X-Forwarded-User; "": there is none
}

// Check returns what is wrong with a guard: an address that others reach needs a token or a proxy's header.
func (g Guard) Check() error {
	if Loopback(g.Addr) || g.Token != nil || g.Header != "" {
		return nil
	}
	return fmt.Errorf("the console would be open to everybody who reaches %s: require a token, or the header of a reverse proxy that "+
		"lets only your people in; or listen on 127.0.0.1", g.Addr)
}

// CheckHeader reports what is wrong with the name of a proxy's header.
func CheckHeader(name string) error {
	for _, r := range name {
		if r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') {
			return fmt.Errorf("%q is no name of an HTTP header, such as X-Forwarded-User", name)
		}
	}
	return nil
}

// Loopback reports whether an address to listen on is reached from this machine alone.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	return local(host)
}

func local(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// errors of a request that is not let in.
var (
	errHost  = errors.New("this console is for this machine alone, and is asked for under another name")
	errToken = errors.New("show the token: as a bearer token, or as the password where your browser asks for one")
	errProxy = errors.New("this console is reached through its reverse proxy alone")
)

// admit decides about a request, and returns the status with which it is refused.
func (g Guard) admit(req *http.Request) (int, error) {
	if Loopback(g.Addr) && !local(hostOf(req.Host)) && g.Header == "" {
		return http.StatusMisdirectedRequest, errHost // a page elsewhere has its own name resolve to this machine
	}
	if g.Token == nil && g.Header == "" {
		return 0, nil
	}
	if g.Token != nil && g.Token.Shown(asBearer(req)) {
		return 0, nil
	}
	if g.Header != "" && strings.TrimSpace(req.Header.Get(g.Header)) != "" {
		return 0, nil
	}
	if g.Token == nil {
		return http.StatusForbidden, errProxy
	}
	return http.StatusUnauthorized, errToken
}

// asBearer writes a password, which browsers ask for, as the token that it is.
func asBearer(req *http.Request) http.Header {
	_, password, ok := req.BasicAuth()
	if !ok {
		return req.Header
	}
	return http.Header{"Authorization": {"Bearer " + password}}
}

func hostOf(hostPort string) string {
	if host, _, err := net.SplitHostPort(hostPort); err == nil {
		return host
	}
	return strings.Trim(hostPort, "[]")
}

// protect sets the headers that each answer has, and refuses whoever may not read or wants to write.
func (g Guard) protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "the console only shows: GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		code, err := g.admit(req)
		if err != nil {
			if code == http.StatusUnauthorized {
				h.Set("WWW-Authenticate", `Basic realm="vsphere-preemption console", charset="UTF-8"`)
			}
			http.Error(w, err.Error(), code)
			return
		}
		next.ServeHTTP(w, req)
	})
}
