package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func pass(context.Context) error { return nil }

func get(t *testing.T, h *Health, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + h.Addr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func serve(t *testing.T, checks ...Check) *Health {
	t.Helper()
	h, err := Serve(slog.New(slog.DiscardHandler), "127.0.0.1:0", true, nil, checks...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return h
}

func TestHealth(t *testing.T) {
	fail := func(text string) func(context.Context) error {
		return func(context.Context) error { return errors.New(text) }
	}
	for name, tc := range map[string]struct {
		checks []Check
		path   string
		code   int
		body   string
	}{
		"live without any check":       {nil, "/healthz", 200, "ok\n"},
		"live though nothing is ready": {[]Check{{"a", fail("no")}}, "/healthz", 200, "ok\n"},
		"ready when all checks pass":   {[]Check{{"a", pass}, {"b", pass}}, "/readyz", 200, "ok\n"},
		"one line for each failing check": {
			[]Check{{"vcenter", fail("down\nfor long")}, {"b", pass}, {"polling", fail("away")}},
			"/readyz", 503, "vcenter: down for long\npolling: away\n",
		},
		"nothing else is served": {nil, "/metrics", 404, "404 page not found\n"},
	} {
		t.Run(name, func(t *testing.T) {
			code, body := get(t, serve(t, tc.checks...), tc.path)
			if code != tc.code || body != tc.body {
				t.Errorf("got %d %q, want %d %q", code, body, tc.code, tc.body)
			}
		})
	}
}

func TestManyProbesCostOneCheck(t *testing.T) {
	var calls atomic.Int32
	h := &Health{checks: []Check{{"a", func(context.Context) error { calls.Add(1); return errors.New("no") }}}}
	for range 50 {
		if got := h.look(t.Context()); len(got) != 1 {
			t.Fatalf("got %q", got)
		}
	}
	if n := calls.Load(); n > 5 {
		t.Errorf("50 probes made %d checks", n)
	}
}

func TestAProberThatWentAwayDoesNotFailTheCheck(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h := &Health{checks: []Check{{"a", func(ctx context.Context) error { return ctx.Err() }}}}
	if got := h.look(ctx); got != nil {
		t.Errorf("got %q", got)
	}
}

func TestATakenAddress(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()

	t.Run("is an error where it was asked for", func(t *testing.T) {
		_, err := Serve(slog.New(slog.DiscardHandler), addr, true, nil)
		if err == nil || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "HTTP_ADDR") {
			t.Errorf("the error must name %s and HTTP_ADDR, got %v", addr, err)
		}
	})
	t.Run("is a warning where it is the default", func(t *testing.T) {
		var out bytes.Buffer
		h, err := Serve(New(&out, JSON, false), addr, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		if h.Addr() != "" || !strings.Contains(out.String(), `"level":"WARN"`) || !strings.Contains(out.String(), "HTTP_ADDR") {
			t.Errorf("addr %q, log %s", h.Addr(), out.String())
		}
		if err := h.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestStopLetsARunningAnswerFinish(t *testing.T) {
	entered := make(chan struct{})
	h, err := Serve(slog.New(slog.DiscardHandler), "127.0.0.1:0", true, nil, Check{"slow", func(context.Context) error {
		close(entered)
		time.Sleep(50 * time.Millisecond)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	code := make(chan int, 1)
	go func() {
		resp, err := http.Get("http://" + h.Addr() + "/readyz")
		if err != nil {
			code <- 0
			return
		}
		resp.Body.Close()
		code <- resp.StatusCode
	}()
	<-entered
	if err := h.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if got := <-code; got != 200 {
		t.Errorf("got %d", got)
	}
}

func TestAProgramWithItsOwnServerAnswersForItsHealthAlike(t *testing.T) {
	h := Handler(nil, Check{"temporal", func(context.Context) error { return errors.New("away") }})
	for path, want := range map[string]string{"/healthz": "200 ok\n", "/readyz": "503 temporal: away\n"} {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		if got := fmt.Sprint(rec.Code, " ", rec.Body); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}
