package receiver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/bearer"
)

// listen serves a Receiver as a program does.
func listen(t testing.TB, cfg Config) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.Config = Server(newReceiver(t, cfg), slog.New(slog.DiscardHandler))
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// send posts over a connection; a body of unknown length goes in chunks.
func send(t testing.TB, url string, h http.Header, body io.Reader) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = h.Clone()
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return 0, nil, ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

func TestEveryWaitIsBounded(t *testing.T) {
	s := Server(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if s.ReadHeaderTimeout <= 0 || s.ReadTimeout < s.ReadHeaderTimeout || s.IdleTimeout <= 0 || s.MaxHeaderBytes <= 0 {
		t.Errorf("%+v", s)
	}
	if longest := s.ReadTimeout + 2*DefaultMaxWait + DefaultSendTimeout; s.WriteTimeout <= longest {
		t.Errorf("an answer may take %s, and the connection is cut after %s", longest, s.WriteTimeout)
	}
}

func TestBodiesInChunks(t *testing.T) {
	_, part := documented(t)
	s := listen(t, Config{})
	for name, tc := range map[string]struct {
		body string
		code int
	}{
		"small":      {string(part), 202},
		"large":      {string(part) + strings.Repeat(" ", 4*Small), 202},
		"at the end": {string(part) + strings.Repeat(" ", alarm.MaxBytes-len(part)), 202},
		"too large":  {strings.Repeat(" ", alarm.MaxBytes+1), 413},
		"far beyond": {strings.Repeat(" ", 4*alarm.MaxBytes), 413},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, text := send(t, s.URL, binaryHeader(), io.MultiReader(strings.NewReader(tc.body)))
			if code != tc.code {
				t.Errorf("got %d %s, want %d", code, text, tc.code)
			}
		})
	}
}

func TestABodyThatBreaksOffIsToBeSentAgain(t *testing.T) {
	s := listen(t, Config{})
	for name, head := range map[string]string{"of a length": "Content-Length: 100\r\n\r\n{", "in chunks": "Transfer-Encoding: chunked\r\n\r\n5\r\n{"} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: %s\r\n%s", structuredType, head)
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusRequestTimeout {
				t.Errorf("got %s", resp.Status)
			}
		})
	}
}

// full fills every place of a receiver with n events that wait for the engine.
func full(t *testing.T, r *Receiver, engine *fake, n int, body string) (wait func()) {
	t.Helper()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if rec := post(r, binaryHeader(), body); rec.Code != 202 {
				t.Errorf("an event that had its place: %d %s", rec.Code, rec.Body)
			}
		})
	}
	for len(engine.calls()) < n {
		time.Sleep(time.Millisecond)
	}
	return wg.Wait
}

func TestASaturatedReceiverSaysSoAndStillPassesOverWhatIsNotItsOwn(t *testing.T) {
	_, part := documented(t)
	engine := acting()
	engine.gate = make(chan struct{})
	r := newReceiver(t, Config{Engine: engine, MaxConcurrent: 2, MaxWait: time.Millisecond, SendTimeout: time.Hour})
	wait := full(t, r, engine, 2, string(part))
	if rec := post(r, binaryHeader(), string(part)); rec.Code != 429 || rec.Header().Get("Retry-After") != "1" || !strings.Contains(rec.Body.String(), "all 2 places") {
		t.Errorf("got %d %v %s", rec.Code, rec.Header(), rec.Body)
	}
	if rec := post(r, binaryHeader("Ce-Subject", "VmPoweredOnEvent"), ""); rec.Code != 200 {
		t.Errorf("another class: %d", rec.Code)
	}
	close(engine.gate)
	wait()
	if rec := post(r, binaryHeader(), string(part)); rec.Code != 202 {
		t.Errorf("when there is room again: %d", rec.Code)
	}
}

func TestLargeEventsHoldUpNoSmallOnes(t *testing.T) {
	_, part := documented(t)
	large := string(part) + strings.Repeat(" ", 2*Small)
	engine := acting()
	engine.gate = make(chan struct{})
	r := newReceiver(t, Config{Engine: engine, MaxLarge: 1, MaxWait: time.Millisecond, SendTimeout: time.Hour})
	wait := full(t, r, engine, 1, large)
	if rec := post(r, binaryHeader(), large); rec.Code != 429 {
		t.Errorf("a second large event: %d", rec.Code)
	}
	close(engine.gate)
	wait()
	if len(r.slots) != 0 || r.small.taken() != 0 || r.large.taken() != 0 {
		t.Errorf("%d slots, %d places and %d large ones are still taken", len(r.slots), r.small.taken(), r.large.taken())
	}
	for _, body := range []string{string(part), large} {
		if rec := post(r, binaryHeader(), body); rec.Code != 202 {
			t.Errorf("got %d", rec.Code)
		}
	}
}

func TestTemporalHasABoundedTime(t *testing.T) {
	whole, _ := documented(t)
	engine := acting()
	engine.gate = make(chan struct{}) // never opened
	r := newReceiver(t, Config{Engine: engine, SendTimeout: time.Millisecond})
	if rec := post(r, nil, string(whole)); rec.Code != 503 || rec.Header().Get("Retry-After") == "" {
		t.Errorf("got %d %v", rec.Code, rec.Header())
	}
}

func TestRequestsInFlightFinishWhenTheServerStops(t *testing.T) {
	whole, _ := documented(t)
	engine := acting()
	engine.gate = make(chan struct{})
	s := listen(t, Config{Engine: engine, SendTimeout: time.Hour})
	code := make(chan int)
	go func() {
		got, _, _ := send(t, s.URL, http.Header{"Content-Type": {structuredType}}, strings.NewReader(string(whole)))
		code <- got
	}()
	for len(engine.calls()) == 0 {
		time.Sleep(time.Millisecond)
	}
	stopped := make(chan error)
	go func() { stopped <- s.Config.Shutdown(context.Background()) }()
	for { // until nothing new is taken
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			break
		}
		conn.Close()
	}
	close(engine.gate)
	if got := <-code; got != 202 {
		t.Errorf("the event in flight got %d", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestTheTokenIsAskedForAndMayBeRotated(t *testing.T) {
	whole, _ := documented(t)
	path := filepath.Join(t.TempDir(), "token")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	put("first-secret\n")
	token, err := bearer.Read(path, slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	engine := acting()
	r := newReceiver(t, Config{Engine: engine, Token: token, Log: slog.New(slog.NewTextHandler(&out, nil))})
	expect := func(authorization string, code int) {
		t.Helper()
		h := http.Header{"Content-Type": {structuredType}}
		if authorization != "" {
			h.Set("Authorization", authorization)
		}
		rec := post(r, h, string(whole))
		if rec.Code != code || code == 401 && rec.Header().Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%q got %d %v, want %d", authorization, rec.Code, rec.Header(), code)
		}
	}
	expect("Bearer first-secret", 202)
	expect("bearer  first-secret ", 202)
	for _, wrong := range []string{"", "Bearer", "Bearer ", "Bearer first-secre", "Bearer first-secret2", "Basic first-secret", "first-secret", "Bearer second-secret"} {
		expect(wrong, 401)
	}
	put("  second-secret  \n")
	expect("Bearer first-secret", 401)
	expect("Bearer second-secret", 202)
	put("\n")
	expect("Bearer second-secret", 202) // the last one that could be used
	expect("Bearer ", 401)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect("Bearer second-secret", 202)
	expect("Bearer second-secret", 202)
	put("third-secret")
	expect("Bearer third-secret", 202)
	if n := len(engine.calls()); n != 7 {
		t.Errorf("%d events reached the engine", n)
	}
	for _, secret := range []string{"first-secret", "second-secret", "third-secret"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the log tells %s:\n%s", secret, &out)
		}
	}
	if strings.Count(out.String(), "cannot be read") != 1 || strings.Count(out.String(), "cannot be used") != 1 || strings.Count(out.String(), "has changed") != 2 {
		t.Errorf("the log must tell each change once:\n%s", &out)
	}
}

func TestATokenThatIsNoneIsRefused(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{"empty": "", "blank": " \n\t", "huge": strings.Repeat("x", 16<<10+1)} {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := bearer.Read(path, nil); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := bearer.Read(filepath.Join(folder, "missing"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := bearer.Read(folder, nil); err == nil {
		t.Error("a folder was taken")
	}
}

func TestManySendersAtOnceGetTheirOwnAnswers(t *testing.T) {
	whole, part := documented(t)
	s := listen(t, Config{MaxWait: time.Minute, MaxConcurrent: 4})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 10 {
				if code, _, _ := send(t, s.URL, http.Header{"Content-Type": {structuredType}}, strings.NewReader(string(whole))); code != 202 {
					t.Errorf("structured: %d", code)
				}
				if code, _, _ := send(t, s.URL+"/any/path", binaryHeader("Ce-Subject", "VmPoweredOnEvent"), strings.NewReader(string(part))); code != 200 {
					t.Errorf("another class: %d", code)
				}
				if code, _, _ := send(t, s.URL, binaryHeader(), strings.NewReader("rubbish")); code != 400 {
					t.Errorf("rubbish: %d", code)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzHandler(f *testing.F) {
	whole, part := documented(f)
	f.Add(structuredType, "", "", "", whole)
	f.Add("application/json", "1.0", "com.vmware.event.router/event", "AlarmStatusChangedEvent", part)
	f.Add("text/xml", "0.3", "com.vmware.vsphere.AlarmStatusChangedEvent.v0", "", []byte(xmlData))
	f.Add("", "", "", "", []byte(`{"specversion":"1.0","data_base64":1}`))
	f.Add(structuredType, "", "", "", []byte(`{"datacontentencoding":"","specversion":"0.3"}`))
	engine := acting()
	r := newReceiver(f, Config{Engine: engine})
	f.Fuzz(func(t *testing.T, media, version, kind, subject string, body []byte) {
		h := http.Header{}
		for name, value := range map[string]string{"Content-Type": media, "Ce-Specversion": version, "Ce-Type": kind, "Ce-Subject": subject} {
			if value != "" {
				h.Set(name, value)
			}
		}
		if version != "" {
			h.Set("Ce-Id", "1")
			h.Set("Ce-Source", "s")
		}
		engine.got = nil
		rec := post(r, h, string(body))
		switch rec.Code {
		case 200, 400, 413, 415:
		case 202:
			// Whatever is acted upon can be read again from what is handed on.
			if _, err := alarm.FromCloudEvent(engine.got[0].CloudEvent); err != nil {
				t.Errorf("handed on, yet: %v: %s", err, engine.got[0].CloudEvent)
			}
		default:
			t.Errorf("got %d %s", rec.Code, rec.Body)
		}
		if len(r.slots) != 0 || r.large.taken() != 0 {
			t.Error("a place is still taken")
		}
	})
}
