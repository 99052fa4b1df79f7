package chaos

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
)

// sink takes CloudEvents, and remembers how often each id came.
type sink struct {
	mu   sync.Mutex
	seen map[string]string // what was preempted, by the event's id
	bad  []string
	down bool // refuses everything
	*httptest.Server
}

func newSink(t *testing.T) *sink {
	s := &sink{seen: map[string]string{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if s.refuses() {
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if r.Header.Get("Ce-Type") != preemption.PreemptedEventType {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		id := r.Header.Get("Ce-Id")
		if was, again := s.seen[id]; again && was != string(body) {
			s.bad = append(s.bad, fmt.Sprintf("event %s came with two contents: %s and %s", id, was, body))
		}
		s.seen[id] = string(body)
	}))
	t.Cleanup(s.Close)
	return s
}

// goDown lets the sink refuse everything, or take it again.
func (s *sink) goDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

func (s *sink) refuses() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}
