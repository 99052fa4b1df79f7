package notify

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// deliver sends one event to a real server on loopback.
func deliver(t *testing.T, within time.Duration, handler http.HandlerFunc) (took time.Duration, err error) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return deliverTo(t, within, server.URL)
}

func deliverTo(t *testing.T, within time.Duration, target string) (time.Duration, error) {
	t.Helper()
	sender, err := New([]string{"127.0.0.1"}, within)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	err = sender.Send(t.Context(), target, json.RawMessage(`{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"a":1}}`))
	return time.Since(start), err
}

// endless answers with a status and a body that has no end, and counts its bytes.
func endless(status int, sent *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		for part := bytes.Repeat([]byte("x"), 32<<10); ; {
			n, err := w.Write(part)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}
}

func TestAnEndlessAnswerIsNotReadIn(t *testing.T) {
	for status, want := range map[int]string{
		http.StatusAccepted: "", http.StatusBadRequest: "400", http.StatusInternalServerError: "500", http.StatusFound: "302",
	} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			var sent atomic.Int64
			took, err := deliver(t, 20*time.Second, endless(status, &sent))
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
			// What the kernel's buffers take is not ours to bound; a gigabyte a second would be.
			if n := sent.Load(); n > 32<<20 || took > 15*time.Second {
				t.Errorf("%d bytes of the answer went over the wire in %s", n, took)
			}
		})
	}
}

func TestAnAnswerThatDripsHoldsNobodyUp(t *testing.T) {
	for status, want := range map[int]string{http.StatusOK: "", http.StatusServiceUnavailable: "503"} {
		_, err := deliver(t, 3*time.Second, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			for {
				if _, err := w.Write([]byte("x")); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
				select {
				case <-r.Context().Done():
					return
				case <-time.After(time.Second):
				}
			}
		})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("the receiver answered %d and then dripped: got %v", status, err)
		}
	}
}

func TestHeadersThatDripOrHaveNoEndAreGivenUp(t *testing.T) {
	block := make(chan struct{})
	defer close(block)
	took, err := deliver(t, time.Second, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-block:
		}
	})
	var failed *Error
	if !errors.As(err, &failed) || failed.Permanent || took > 30*time.Second {
		t.Errorf("no answer: %v after %s, want an error that is tried again", err, took)
	}
	_, err = deliver(t, 20*time.Second, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 256<<10))
		w.WriteHeader(http.StatusOK)
	})
	if err == nil {
		t.Error("an answer with a header of 256 KiB was read in")
	}
}

func TestARedirectIsNotFollowedAndIsNotTriedAgain(t *testing.T) {
	var followed atomic.Bool
	_, err := deliver(t, 10*time.Second, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			followed.Store(true)
			return
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	var failed *Error
	if followed.Load() || !errors.As(err, &failed) || !failed.Permanent {
		t.Errorf("followed: %v, error: %v", followed.Load(), err)
	}
}

func TestAFailedDeliveryIsTriedAgainOnlyWhereThatMayHelp(t *testing.T) {
	for status, permanent := range map[int]bool{400: true, 401: true, 404: true, 408: false, 429: false, 500: false, 502: false, 503: false} {
		_, err := deliver(t, 10*time.Second, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		var failed *Error
		if !errors.As(err, &failed) || failed.Permanent != permanent {
			t.Errorf("%d: %v", status, err)
		}
	}
}
