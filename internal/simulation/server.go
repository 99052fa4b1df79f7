package simulation

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// server is an HTTP server that can be made to fail in the ways a vCenter fails: it answers 503, drops its
// connections, or goes away and comes back on the same port.
type server struct {
	mu      sync.Mutex
	http    *http.Server
	addr    string
	tls     *tls.Config
	handler http.Handler

	outage bool
	drop   bool
	conns  map[net.Conn]struct{}
}

// start listens on addr; with the port 0 the one chosen is kept for every later start.
func (s *server) start(addr string, config *tls.Config, handler http.Handler) error {
	listener, err := listen(addr)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addr, s.tls, s.handler = listener.Addr().String(), config, handler
	s.conns = map[net.Conn]struct{}{}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	s.http = &http.Server{
		Handler: handler, Protocols: protocols, ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: log.New(quiet{}, "", 0),
	}
	var l net.Listener = &gate{Listener: listener, server: s}
	if config != nil {
		l = tls.NewListener(l, config)
	}
	go func(h *http.Server) {
		if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Printf("simulated vCenter at %s stopped serving: %v", s.addr, err)
		}
	}(s.http)
	return nil
}

// listen tries for a moment: at a restart the last connections may still hold the port.
func listen(addr string) (net.Listener, error) {
	var config net.ListenConfig
	for try := 0; ; try++ {
		l, err := config.Listen(context.Background(), "tcp", addr)
		if err == nil {
			return l, nil
		}
		if try == 40 || strings.HasSuffix(addr, ":0") {
			return nil, fmt.Errorf("simulated vCenter: listen on %s: %w; choose another Addr", addr, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (s *server) stop() {
	s.mu.Lock()
	h := s.http
	s.http = nil
	s.mu.Unlock()
	if h != nil {
		_ = h.Close()
	}
}

func (s *server) restart() error {
	s.stop()
	return s.start(s.address(), s.tls, s.handler)
}

func (s *server) address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

func (s *server) unavailable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outage
}

func (s *server) set(outage, drop bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outage, s.drop = outage, drop
	if drop {
		for c := range s.conns {
			_ = c.Close()
		}
		clear(s.conns)
	}
}

// admit keeps a new connection, or refuses it while connections are dropped.
func (s *server) admit(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drop {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *server) forget(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// gate is the listener that lets the server drop connections.
type gate struct {
	net.Listener
	server *server
}

func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		conn := &tracked{Conn: c, server: g.server}
		if g.server.admit(conn) {
			return conn, nil
		}
		_ = c.Close()
	}
}

type tracked struct {
	net.Conn
	server *server
}

func (t *tracked) Close() error {
	go t.server.forget(t) // the server may hold its lock: it closes connections itself
	return t.Conn.Close()
}

// quiet drops the complaints of the HTTP server about clients that go away or do not trust the certificate.
type quiet struct{}

func (quiet) Write(p []byte) (int, error) {
	if !strings.Contains(string(p), "TLS handshake error") {
		log.Printf("simulated vCenter: %s", strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// Outage makes every request answer 503 until Recover. Waits for updates that are under way end with 503 too.
func (v *VCenter) Outage() {
	v.server.set(true, false)
	v.calls.endWaits()
}

// DropConnections closes every connection, and each new one as soon as it is made, until Recover. What was already
// being served goes on in the model; its answer is lost.
func (v *VCenter) DropConnections() { v.server.set(false, true) }

// Recover ends Outage and DropConnections.
func (v *VCenter) Recover() { v.server.set(false, false) }

// Stop closes the listener and all connections and ends all sessions; the model lives on. Restart undoes it.
func (v *VCenter) Stop() error {
	v.server.stop()
	return v.TerminateSessions()
}

// Restart serves again on the same port, with all sessions gone.
func (v *VCenter) Restart() error {
	v.server.set(false, false)
	if err := v.TerminateSessions(); err != nil {
		return err
	}
	return v.server.restart()
}
