package standalone

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/demoapi"
)

// What is let in is refused only because the demo still shows its scenario.
func TestOnlyPreemptctlGivesOrders(t *testing.T) {
	const letIn = http.StatusConflict
	for name, c := range map[string]struct {
		change func(*http.Request)
		body   string
		want   int
	}{
		"an order of preemptctl":             {func(*http.Request) {}, `{"knob":"status"}`, letIn},
		"one to localhost":                   {func(r *http.Request) { r.Host = "localhost:8235" }, `{"knob":"status"}`, letIn},
		"one with a charset":                 {func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset=utf-8") }, `{"knob":"status"}`, letIn},
		"a page of another site":             {func(r *http.Request) { r.Header.Set("Origin", "https://evil.example.com") }, `{"knob":"status"}`, http.StatusForbidden},
		"a page that hides its origin":       {func(r *http.Request) { r.Header.Set("Origin", "null") }, `{"knob":"status"}`, http.StatusForbidden},
		"a page of this machine":             {func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:8234") }, `{"knob":"status"}`, http.StatusForbidden},
		"a link in a page":                   {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, `{"knob":"status"}`, http.StatusForbidden},
		"a name that leads to this machine":  {func(r *http.Request) { r.Host = "evil.example.com" }, `{"knob":"status"}`, http.StatusForbidden},
		"one that looks like this machine":   {func(r *http.Request) { r.Host = "127.0.0.1.evil.example.com:8235" }, `{"knob":"status"}`, http.StatusForbidden},
		"a form, which cannot set a header":  {func(r *http.Request) { r.Header.Del(demoapi.Header) }, `{"knob":"status"}`, http.StatusForbidden},
		"a question whether one may send it": {func(r *http.Request) { r.Method = http.MethodOptions; r.Header.Del(demoapi.Header) }, "", http.StatusForbidden},
		"a GET":                              {func(r *http.Request) { r.Method = http.MethodGet }, `{"knob":"status"}`, http.StatusMethodNotAllowed},
		"plain text":                         {func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, `{"knob":"status"}`, http.StatusUnsupportedMediaType},
		"no type":                            {func(r *http.Request) { r.Header.Del("Content-Type") }, `{"knob":"status"}`, http.StatusUnsupportedMediaType},
		"another path":                       {func(r *http.Request) { r.URL.Path = "/" }, `{"knob":"status"}`, http.StatusNotFound},
		"no JSON":                            {func(*http.Request) {}, "knob=status", http.StatusBadRequest},
		"an unknown key":                     {func(*http.Request) {}, `{"knob":"status","then":"kill"}`, http.StatusBadRequest},
		"two orders":                         {func(*http.Request) {}, `{"knob":"status"}{"knob":"status"}`, http.StatusBadRequest},
		"a book":                             {func(*http.Request) {}, `{"knob":"` + strings.Repeat("x", orderLimit) + `"}`, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, demoapi.Path, strings.NewReader(c.body))
			r.Host = "127.0.0.1:8235"
			r.Header.Set("Content-Type", demoapi.ContentType)
			r.Header.Set(demoapi.Header, demoapi.HeaderValue)
			c.change(r)
			w := httptest.NewRecorder()
			new(control).ServeHTTP(w, r)
			if w.Code != c.want || !strings.Contains(w.Body.String(), `"error":"`) {
				t.Errorf("answered with %d, want %d: %s", w.Code, c.want, w.Body)
			}
			for name := range w.Header() {
				if strings.HasPrefix(name, "Access-Control") {
					t.Errorf("the answer has %s", name)
				}
			}
		})
	}
}
