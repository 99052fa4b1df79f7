package sitetest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// Mailbox receives replies over HTTP.
type Mailbox struct {
	*httptest.Server

	Mu       sync.Mutex
	Refuse   []int // statuses to answer first
	Always   int   // status to answer every request with; 0: take it
	attempts []string
	taken    []reply
}

type reply struct {
	Header http.Header
	Body   []byte
}

// NewMailbox starts a mailbox on a port of its own.
func NewMailbox(t *testing.T) *Mailbox {
	m := &Mailbox{}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

// ServeHTTP takes an event, or refuses it where the test asks for that.
func (m *Mailbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	m.Mu.Lock()
	defer m.Mu.Unlock()
	m.attempts = append(m.attempts, r.Header.Get("Ce-Id"))
	switch {
	case m.Always != 0:
		w.WriteHeader(m.Always)
	case len(m.Refuse) > 0:
		w.WriteHeader(m.Refuse[0])
		m.Refuse = m.Refuse[1:]
	default:
		m.taken = append(m.taken, reply{Header: r.Header, Body: body})
		w.WriteHeader(http.StatusAccepted)
	}
}

// Got returns the ids of all attempts, and what was taken.
func (m *Mailbox) Got() (attempts []string, taken []reply) {
	m.Mu.Lock()
	defer m.Mu.Unlock()
	return m.attempts, m.taken
}
