package notify

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestAClientForOthersFollowsNoRedirectAndDialsOnlyWhatIsAllowed(t *testing.T) {
	var reached atomic.Bool
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	t.Cleanup(inside.Close)
	hook := httptest.NewServer(http.RedirectHandler(inside.URL, http.StatusTemporaryRedirect))
	t.Cleanup(hook.Close)

	allowed, err := New([]string{"127.0.0.1"}, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	client := allowed.Client(10 * time.Second)
	resp, err := client.Post(hook.URL, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusTemporaryRedirect || reached.Load() {
		t.Errorf("a redirect is answered with %d, followed %v", resp.StatusCode, reached.Load())
	}

	usual, err := New(nil, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	client = usual.Client(10*time.Second, "example.com")
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"} {
		resp, err := client.Get(strings.Replace(inside.URL, "127.0.0.1", host, 1))
		if err == nil {
			_ = resp.Body.Close()
		}
		if !errors.Is(err, errRefused) || reached.Load() {
			t.Errorf("%s is dialled: %v", host, err)
		}
	}
}
