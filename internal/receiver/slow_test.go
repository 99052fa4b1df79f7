package receiver

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// slowly opens n connections from an address, each with an event that never arrives in full: one byte a second.
// Each that is cut comes again. It returns how many were cut.
func slowly(t *testing.T, url, from string, n, length int) *atomic.Int64 {
	t.Helper()
	var (
		cut  atomic.Int64
		wg   sync.WaitGroup
		stop = make(chan struct{})
		up   sync.WaitGroup
	)
	t.Cleanup(func() { close(stop); wg.Wait() })
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	drip := func(ready func()) bool {
		conn, err := dialer.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Error(err)
			ready()
			return false
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n{", structuredType, length)
		if length > Small {
			fmt.Fprint(conn, strings.Repeat(" ", Small))
		}
		ready()
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
				resp.Body.Close()
			}
		}()
		for {
			select {
			case <-stop:
				return false
			case <-gone:
				cut.Add(1)
				return true
			case <-time.After(time.Second):
				fmt.Fprint(conn, " ")
			}
		}
	}
	for range n {
		up.Add(1)
		wg.Go(func() {
			ready := sync.OnceFunc(up.Done)
			for drip(ready) {
			}
		})
	}
	up.Wait()
	time.Sleep(200 * time.Millisecond) // until the server has read what was sent
	return &cut
}

// from is a client whose connections come from an address.
func from(t *testing.T, address string) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

// trueEvents sends n events, one after the other, and returns how often each status came.
func trueEvents(t *testing.T, c *http.Client, url string, n int, body string) map[int]int {
	t.Helper()
	got := map[int]int{}
	for range n {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = binaryHeader()
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		got[resp.StatusCode]++
	}
	return got
}

func TestSlowSendersStarveNobody(t *testing.T) {
	_, part := documented(t)
	for _, tc := range []struct {
		name   string
		slow   int
		client string
	}{
		{"64 of them, and events of another address", 64, "127.0.0.2"},
		{"200 of them, and events of another address", 200, "127.0.0.2"},
		{"200 of them, and events of the same address", 200, "127.0.0.1"},
		{"1000 of them, and events of the same address", 1000, "127.0.0.1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := listen(t, Config{})
			slowly(t, s.URL, "127.0.0.1", tc.slow, 4000)
			if tc.client != "127.0.0.1" {
				if got := trueEvents(t, from(t, tc.client), s.URL, 40, string(part)); got[http.StatusAccepted] != 40 {
					t.Errorf("of 40 true events: %v", got)
				}
				return
			}
			if taken, tries := broughtAgain(t, from(t, tc.client), s.URL, 40, string(part)); taken < 40 || tries > 60 {
				t.Errorf("of 40 true events from the same address %d were taken in %d tries", taken, tries)
			}
		})
	}
}

func TestSlowLargeEventsStarveNoLargeOne(t *testing.T) {
	_, part := documented(t)
	large := string(part) + strings.Repeat(" ", 4*Small)
	s := listen(t, Config{})
	slowly(t, s.URL, "127.0.0.1", 32, 8*Small)
	if got := trueEvents(t, from(t, "127.0.0.2"), s.URL, 10, large); got[http.StatusAccepted] != 10 {
		t.Errorf("of 10 true large events from another address: %v", got)
	}
	if taken, tries := broughtAgain(t, from(t, "127.0.0.1"), s.URL, 10, large); taken < 10 {
		t.Errorf("of the true large events from the same address %d were taken in %d tries", taken, tries)
	}
}

// broughtAgain sends n events from the address of the slow ones, with which they wait for the few places: one that gets
// a 429 is brought again, as brokers do.
func broughtAgain(t *testing.T, c *http.Client, url string, n int, body string) (taken, tries int) {
	t.Helper()
	for ; taken < n && tries < 4*n; tries++ {
		taken += trueEvents(t, c, url, 1, body)[http.StatusAccepted]
	}
	return taken, tries
}

func TestABodyThatDripsIsCutLongBeforeTheRequestsTimeIsUp(t *testing.T) {
	s := listen(t, Config{})
	start := time.Now()
	cut := slowly(t, s.URL, "127.0.0.1", 1, 4000)
	for cut.Load() == 0 {
		if time.Since(start) > s.Config.ReadTimeout {
			t.Fatal("one byte a second was waited for")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestABodyThatComesInPartsAtAFairRateIsTaken(t *testing.T) {
	_, part := documented(t)
	s := listen(t, Config{})
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := string(part) + strings.Repeat(" ", 5*leastRate-len(part)) // some three seconds, more than the grace
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	for name, values := range binaryHeader() {
		if name != "Content-Type" {
			fmt.Fprintf(conn, "%s: %s\r\n", name, values[0])
		}
	}
	fmt.Fprint(conn, "\r\n")
	for step := leastRate / 2; len(body) > 0; body = body[min(step, len(body)):] {
		fmt.Fprint(conn, body[:min(step, len(body))])
		time.Sleep(300 * time.Millisecond)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		t.Errorf("got %s", resp.Status)
	}
}

// wholly sends an event in parts, as through a slow line, and looks for the answer when all of it is sent, as simple clients do.
func wholly(t *testing.T, url string, header http.Header, length int) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n", length)
	if err := header.Write(conn); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "\r\n")
	for part := 32 << 10; length > 0; length -= part {
		time.Sleep(30 * time.Millisecond)
		if _, err := fmt.Fprint(conn, strings.Repeat(" ", min(part, length))); err != nil {
			t.Fatalf("%d bytes before the end: %v", length, err)
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

func TestWhoeverSendsALargeEventSeesTheAnswerThoughItIsNotRead(t *testing.T) {
	engine := acting()
	engine.gate = make(chan struct{})
	s := listen(t, Config{Engine: engine, MaxLarge: 1, MaxWait: time.Millisecond, SendTimeout: time.Hour})
	_, part := documented(t)
	held := make(chan int, 1)
	go func() {
		held <- trueEvents(t, from(t, "127.0.0.2"), s.URL, 1, string(part)+strings.Repeat(" ", 2*Small))[http.StatusAccepted]
	}()
	for len(engine.calls()) == 0 {
		time.Sleep(time.Millisecond)
	}
	for name, tc := range map[string]struct {
		header http.Header
		want   int
	}{
		"of a class without a rule": {binaryHeader("Ce-Subject", "VmPoweredOnEvent"), http.StatusOK},
		"all large places taken":    {binaryHeader(), http.StatusTooManyRequests},
		"not a CloudEvent":          {http.Header{"Content-Type": {"text/plain"}}, http.StatusUnsupportedMediaType},
	} {
		t.Run(name, func(t *testing.T) {
			resp := wholly(t, s.URL, tc.header, 900<<10)
			if resp.StatusCode != tc.want {
				t.Errorf("got %s", resp.Status)
			}
		})
	}
	close(engine.gate)
	if n := <-held; n != 1 {
		t.Error("the event that held the place was not taken")
	}
}

func TestABodyThatIsHeldBackIsNotAskedForWhenItIsPassedOver(t *testing.T) {
	s := listen(t, Config{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: %d\r\n", 900<<10)
	if err := binaryHeader("Ce-Subject", "VmPoweredOnEvent").Write(conn); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("got %s", resp.Status)
	}
}
