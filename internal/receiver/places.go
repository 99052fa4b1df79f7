package receiver

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// The time for a body: the grace, and a second more for each leastRate bytes that have arrived, but no
// more than mostTime. A sender in the same data centre needs milliseconds.
const (
	grace     = 2 * time.Second
	leastRate = 16 << 10 // bytes a second
	mostTime  = 15 * time.Second
)

// patience is how long a body may take before it can lose its place to another of the same client.
const patience = 100 * time.Millisecond

// pool is bounded room for bodies. When it is full, a new body takes the place of the body that has been
// arriving for the longest time, of the client that holds the most places. So neither one client nor slow senders
// block others, even if all share one address behind a proxy: a body that arrives at once is not displaced.
type pool struct {
	most int

	mu      sync.Mutex
	held    []*place // the longest held first
	clients map[string]int
}

// place is the room for one body.
type place struct {
	pool   *pool
	client string
	since  time.Time

	mu   sync.Mutex
	stop func(time.Time) // sets the deadline of the body; nil once the body has arrived or lost its place
	lost bool
}

func newPool(most int) *pool { return &pool{most: most, clients: map[string]int{}} }

// take returns a place for a client's body. It waits a little if all places are taken by bodies that are no slower.
func (p *pool) take(ctx context.Context, client string, deadline func(time.Time), wait time.Duration) (*place, error) {
	const again = 20 * time.Millisecond
	for end := time.Now().Add(wait); ; {
		if got := p.try(client, deadline); got != nil {
			return got, nil
		}
		left := time.Until(end)
		if left <= 0 || ctx.Err() != nil {
			return nil, noRoom(p.most)
		}
		select {
		case <-time.After(min(again, left)):
		case <-ctx.Done():
		}
	}
}

func noRoom(places int) error {
	return &problem{outcome{
		status: http.StatusTooManyRequests, result: saturated,
		reason: fmt.Sprintf("all %d places for events of this size are taken: send it again later", places),
	}}
}

func (p *pool) try(client string, deadline func(time.Time)) *place {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if len(p.held) >= p.most && !p.displace(client, now) {
		return nil
	}
	got := &place{pool: p, client: client, since: now, stop: deadline}
	p.held = append(p.held, got)
	p.clients[client]++
	return got
}

// displace takes a place from the slowest body of the client that holds the most.
func (p *pool) displace(newcomer string, now time.Time) bool {
	var victim *place
	for _, held := range p.held {
		if held.coming() && (victim == nil || p.clients[held.client] > p.clients[victim.client]) {
			victim = held
		}
	}
	if victim == nil {
		return false
	}
	greedy := p.clients[victim.client] > p.clients[newcomer]+1
	if !greedy && now.Sub(victim.since) < patience || !victim.lose() {
		return false
	}
	p.drop(victim)
	return true
}

func (p *pool) drop(gone *place) {
	for i, held := range p.held {
		if held != gone {
			continue
		}
		p.held = append(p.held[:i], p.held[i+1:]...)
		if p.clients[gone.client]--; p.clients[gone.client] == 0 {
			delete(p.clients, gone.client)
		}
		return
	}
}

func (p *pool) taken() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.held)
}

// release frees the place.
func (l *place) release() {
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	l.pool.drop(l)
}

func (l *place) coming() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stop != nil
}

// lose ends the reading of the body, unless that is over.
func (l *place) lose() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop == nil {
		return false
	}
	l.stop(time.Unix(1, 0))
	l.stop, l.lost = nil, true
	return true
}

// arrived records that the body has arrived: its place can no longer be lost, and its connection has time for the
// answer. It returns false if the place was lost before.
func (l *place) arrived() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop != nil {
		l.stop(time.Time{})
		l.stop = nil
	}
	return !l.lost
}

// paced reads a body as long as it arrives at the least rate.
type paced struct {
	from  io.Reader
	start time.Time
	read  int64
	held  *place
}

// Read implements io.Reader.
func (r *paced) Read(b []byte) (int, error) {
	allowed := min(grace+time.Duration(r.read)*time.Second/leastRate, mostTime)
	r.held.mu.Lock()
	if r.held.stop != nil {
		r.held.stop(r.start.Add(allowed))
	}
	r.held.mu.Unlock()
	n, err := r.from.Read(b)
	r.read += int64(n)
	return n, err
}

// clientOf names the client that holds places: the remote address of the connection, for IPv6 its network of 64
// bits. Headers such as X-Forwarded-For are ignored, because the sender can write them.
func clientOf(req *http.Request) string {
	host, _, err := net.SplitHostPort(req.RemoteAddr)
	if err != nil {
		return req.RemoteAddr
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if ip = ip.Unmap().WithZone(""); ip.Is4() {
		return ip.String()
	}
	network, _ := ip.Prefix(64) // an IPv6 address has 64 bits and more
	return network.String()
}
