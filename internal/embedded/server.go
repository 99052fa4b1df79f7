// Package embedded runs a Temporal server, and if wanted its web UI, inside this process: on a SQLite file or in memory,
// reachable on the loopback interface only. That is its one job.
//
// It imports no other package of this module, and only the standalone program and tests import it: a Temporal server
// adds more than 100 MB to a program.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.temporal.io/api/enums/v1"
)

// loopback is the only address anything of this package listens on.
const loopback = "127.0.0.1"

const (
	defaultNamespace = "vsphere-preemption"
	defaultRetention = 30 * 24 * time.Hour // as preemptctl setup sets it
)

// Options describe one embedded server. The zero value needs a Dir or InMemory.
type Options struct {
	// Dir holds the SQLite file and is created, readable by its owner only. Ignored with InMemory.
	Dir string
	// InMemory keeps everything in memory; it is lost when the server stops.
	InMemory bool
	// Namespace is registered when missing; default "vsphere-preemption".
	Namespace string
	// Retention of closed workflows, used when the namespace is registered; default 30 days.
	Retention time.Duration
	// Port of the frontend. 0 means any free port; a taken port is replaced by a free one, see HostPort.
	Port int
	// RequirePort makes a taken Port an error.
	RequirePort bool
	// UI serves the Temporal web UI on UIPort, which is chosen as Port is.
	UI     bool
	UIPort int
	// SearchAttributes are ensured at every start. One that exists with another type is an error.
	SearchAttributes map[string]enums.IndexedValueType
	// RelaxedSync lets the last transactions before a power failure be lost, for demos and tests. Never the whole file.
	RelaxedSync bool
	// RollAfter is the number of events in a history after which the server suggests continue-as-new; 0: the server's
	// default of 4096. Tests lower it to see long-lived workflows continue as new.
	RollAfter int
	// Logger receives the server's warnings and errors; nil discards them.
	Logger *slog.Logger
}

// Server is a running embedded server.
type Server struct {
	namespace string
	hostPort  string
	uiURL     string
	dir       string // of the data; "": memory

	requests atomic.Int64 // to the database
	undo     []func()
	stop     sync.Once
}

// Start runs a server and returns once its frontend answers for the namespace. When it fails, or ctx ends before that,
// whatever was started is stopped again. Later the context has no effect: call Stop.
func Start(ctx context.Context, o Options) (*Server, error) {
	return start(ctx, o, historyShards)
}

func start(ctx context.Context, o Options, shards int32) (_ *Server, err error) {
	if o, err = withDefaults(o); err != nil {
		return nil, err
	}
	s := &Server{namespace: o.Namespace}
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()

	logs := newLogger(o.Logger)
	db, err := openStore(ctx, o)
	if err != nil {
		return nil, err
	}
	s.onStop(db.close)
	if !o.InMemory {
		s.dir = o.Dir
	}
	if err := s.startTemporal(ctx, o, db, shards, logs); err != nil {
		return nil, err
	}
	if err := awaitReady(ctx, s.hostPort, o); err != nil {
		return nil, err
	}
	if err := s.startUI(o); err != nil {
		return nil, err
	}
	return s, nil
}

func withDefaults(o Options) (Options, error) {
	if o.Dir == "" && !o.InMemory {
		return o, errors.New("embedded Temporal: no folder for its data: set Dir, or InMemory to keep nothing")
	}
	if o.Namespace == "" {
		o.Namespace = defaultNamespace
	}
	if o.Retention <= 0 {
		o.Retention = defaultRetention
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// startTemporal runs the four services. Their ports stay reserved until the services listen on them.
func (s *Server) startTemporal(ctx context.Context, o Options, db *store, shards int32, logs *logger) error {
	ports, err := reservePorts(o.Port, o.RequirePort)
	if err != nil {
		return err
	}
	defer ports.release()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("start embedded Temporal: %w", err)
	}
	stop, err := runServices(serverConfig(ports, db.config, shards), tuning(o.RollAfter), ports, logs, newCounting(&s.requests))
	if err != nil {
		return fmt.Errorf("start embedded Temporal on %s: %w", db.name, err)
	}
	s.onStop(func() {
		logs.mute()
		stop()
	})
	s.hostPort = hostPort(ports.frontend.port)
	return nil
}

func (s *Server) startUI(o Options) error {
	if !o.UI {
		return nil
	}
	ui, err := serveUI(s.hostPort, o)
	if err != nil {
		return err
	}
	s.onStop(ui.stop)
	s.uiURL = ui.url
	return nil
}

func (s *Server) onStop(f func()) { s.undo = append(s.undo, f) }

// HostPort is the frontend's address, 127.0.0.1:port.
func (s *Server) HostPort() string { return s.hostPort }

// UIURL is the address of the web UI, empty without one.
func (s *Server) UIURL() string { return s.uiURL }

// Namespace is the namespace that was made ready.
func (s *Server) Namespace() string { return s.namespace }

// DatabaseRequests is how many requests the server has made of its database: transactions, reads and tasks, whatever they
// are about.
func (s *Server) DatabaseRequests() int64 { return s.requests.Load() }

// Stop ends the UI and the server and gives the data file free. Stop workers and close clients first: calls that are
// still open are given a second and then cut. Calling it again does nothing.
func (s *Server) Stop() {
	s.stop.Do(func() {
		for i := len(s.undo) - 1; i >= 0; i-- {
			s.undo[i]()
		}
	})
}

func hostPort(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }
