package console

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/health"
	"github.com/vsphere-preemption/vsphere-preemption/internal/judge"
	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
)

// Config is what a console needs.
type Config struct {
	Record  *record.Reader
	Server  string // of Temporal, as the commands name it
	Guard   Guard
	Version string           // of the program
	Rules   func() Rules     // what the program itself runs with; nil: it is not a worker
	Clock   func() time.Time // nil: the clock
	Log     *slog.Logger     // nil: none
}

// Console shows the record. It may serve many requests at a time.
type Console struct {
	cfg     Config
	handler http.Handler
	health  *health.Looker

	questions *questions

	mu      sync.Mutex
	now     record.Now // as it was read last
	err     error      // why it could not be read since
	seen    time.Time  // when somebody last looked
	looked  healthView
	reading sync.Mutex // held while Temporal is asked for now
	// examining is held while workflows are examined.
	examining sync.Mutex
	first     chan struct{}
	once      sync.Once
	readAt    time.Time     // when reading ended last, whether Temporal answered or not
	readAnew  chan struct{} // closed when reading ends the next time
	wake      chan struct{} // somebody looks after a while
}

// How often the record is read while somebody looks, and how long that may take.
const (
	readEvery  = time.Second
	readLimit  = 8 * time.Second
	firstLimit = 4 * time.Second
	watchedFor = 20 * time.Second
	// oldAfter is how old what was read may be before who looks waits for it to be read again, wakeLimit at most.
	oldAfter  = 5 * time.Second
	wakeLimit = 2 * time.Second
)

// New makes a console. An error says what is wrong with the configuration.
func New(cfg Config) (*Console, error) {
	if err := errors.Join(cfg.Guard.Check(), CheckHeader(cfg.Guard.Header)); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	r := cfg.Record
	c := &Console{cfg: cfg, first: make(chan struct{}), readAnew: make(chan struct{}), wake: make(chan struct{}, 1)}
	c.health = &health.Looker{Client: r.Client, Namespace: r.Namespace, TaskQueue: r.TaskQueue}
	c.questions = &questions{
		asker: judge.Asker{Client: r.Client, TaskQueue: r.TaskQueue, Limit: answerLimit}, clock: cfg.Clock, kept: map[string]*question{},
	}
	c.handler = cfg.Guard.protect(c.routes())
	return c, nil
}

// ServeHTTP implements http.Handler.
func (c *Console) ServeHTTP(w http.ResponseWriter, req *http.Request) { c.handler.ServeHTTP(w, req) }

// Run reads the record while somebody looks, and once what Temporal keeps. It ends with ctx.
func (c *Console) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { c.readBack(ctx) })
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	for {
		if c.watched() {
			c.read(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-c.wake:
		}
	}
}

// watched reports whether somebody has looked lately. The first look is before anybody asks.
func (c *Console) watched() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen.IsZero() && c.now.At.IsZero() || c.cfg.Clock().Sub(c.seen) < watchedFor
}

// read asks Temporal how everything stands.
func (c *Console) read(ctx context.Context) {
	c.reading.Lock()
	defer c.reading.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	now, err := c.cfg.Record.Now(ctx)
	c.mu.Lock()
	c.now, c.err, c.readAt = now, err, c.cfg.Clock()
	close(c.readAnew)
	c.readAnew = make(chan struct{})
	c.mu.Unlock()
	c.once.Do(func() { close(c.first) })
}

// catchUp lets the record be read again if nobody has looked for a while, and waits a moment for that. Without it, who
// looks first would see how everything stood when somebody looked before.
func (c *Console) catchUp(ctx context.Context) {
	c.mu.Lock()
	now, anew := c.cfg.Clock(), c.readAnew
	c.seen = now
	old := !c.readAt.IsZero() && now.Sub(c.readAt) > oldAfter
	c.mu.Unlock()
	if !old {
		return
	}
	select {
	case c.wake <- struct{}{}:
	default: // it is awake
	}
	ctx, cancel := context.WithTimeout(ctx, wakeLimit)
	defer cancel()
	select {
	case <-anew:
	case <-ctx.Done():
	}
}

// state returns how everything stood when it was read last. Whoever comes first waits a moment for it.
func (c *Console) state(ctx context.Context) (record.Now, error) {
	c.mu.Lock()
	c.seen = c.cfg.Clock()
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, firstLimit)
	defer cancel()
	select {
	case <-c.first:
	case <-ctx.Done():
		return record.Now{At: c.cfg.Clock().UTC()}, errors.New("no answer yet")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now, c.err
}

// readBack reads what has ended, a day at a time, as far back as Temporal keeps it.
func (c *Console) readBack(ctx context.Context) {
	const day = 24 * time.Hour
	pause := time.Second
	for back := day; ; {
		reach, err := c.cfg.Record.Extend(ctx, c.cfg.Clock().Add(-back))
		switch {
		case err != nil:
			pause = min(2*pause, time.Minute)
			c.cfg.Log.Debug("what has ended cannot be read", "reason", err)
		case reach.Retention > 0 && back > reach.Retention, back > mostBack, reach.Full:
			return
		default:
			back, pause = back+day, 10*time.Millisecond
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// mostBack bounds how far back is read where the retention is unknown.
const mostBack = 90 * 24 * time.Hour

// Serve serves the console on a listener until ctx ends.
func (c *Console) Serve(ctx context.Context, l net.Listener) error {
	s := &http.Server{
		Handler: c, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(c.cfg.Log.Handler(), slog.LevelDebug),
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	wg.Go(func() { c.Run(ctx) })
	stop := context.AfterFunc(ctx, func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = s.Shutdown(late) // what it waits for is a browser that keeps its connection
		_ = s.Close()
	})
	err := s.Serve(l)
	stop()
	cancel()
	wg.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
