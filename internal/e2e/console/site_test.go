package console

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"

	"github.com/vsphere-preemption/vsphere-preemption/internal/console"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
)

// wire leads to Temporal, and can be cut.
type wire struct {
	to string
	l  net.Listener

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{to: to, l: l}
	t.Cleanup(func() { _ = l.Close() })
	go w.serve()
	return w
}

func (w *wire) serve() {
	for {
		near, err := w.l.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", w.to)
		w.mu.Lock()
		if err != nil || w.cut {
			_ = near.Close()
			if far != nil {
				_ = far.Close()
			}
			w.mu.Unlock()
			continue
		}
		w.conns = append(w.conns, near, far)
		w.mu.Unlock()
		go func() { _, _ = io.Copy(far, near); _ = far.Close() }()
		go func() { _, _ = io.Copy(near, far); _ = near.Close() }()
	}
}

// set cuts the wire, or mends it.
func (w *wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut = cut; cut {
		for _, c := range w.conns {
			_ = c.Close()
		}
		w.conns = nil
	}
}

// serve serves a console of the site, and returns its address and the wire by which it reaches Temporal.
func serve(t *testing.T, s *sitetest.Site) (address string, w *wire) {
	t.Helper()
	w = newWire(t, s.Server.HostPort())
	temporal, err := client.NewLazyClient(client.Options{
		HostPort: w.l.Addr().String(), Namespace: s.Server.Namespace(), Logger: sdklog.NewStructuredLogger(s.Log),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(temporal.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := console.New(console.Config{
		Record: &record.Reader{Client: temporal, Namespace: s.Server.Namespace(), TaskQueue: s.Queue}, Server: console.DefaultServer,
		Guard: console.Guard{Addr: l.Addr().String()}, Log: s.Log,
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx, stop := contextOf(t)
	go func() { done <- c.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String(), w
}

// get reads what /api/v1/ answers.
func get[T any](t *testing.T, url string) (v T) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s", url, resp.StatusCode, b)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%s: %v in %s", url, err, b)
	}
	return v
}

// eventually waits until what is read is so.
func eventually[T any](t *testing.T, what string, read func() T, ok func(T) bool) (v T) {
	t.Helper()
	for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if v = read(); ok(v) {
			return v
		}
		if time.Now().After(deadline) {
			b, _ := json.Marshal(v)
			t.Fatalf("never: %s; last: %.3000s", what, b)
		}
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
