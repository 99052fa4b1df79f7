package console

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/grpc"

	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
)

// awayTemporal never answers.
type awayTemporal struct {
	client.Client
}

var errAway = serviceerror.NewUnavailable("connection refused <script>alert(1)</script>")

func (awayTemporal) ListWorkflow(context.Context, *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	return nil, errAway
}

func (awayTemporal) DescribeWorkflowExecution(context.Context, string, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	return nil, errAway
}

func (awayTemporal) DescribeTaskQueue(context.Context, string, enumspb.TaskQueueType) (*workflowservice.DescribeTaskQueueResponse, error) {
	return nil, errAway
}

func (awayTemporal) WorkflowService() workflowservice.WorkflowServiceClient { return awayService{} }

type awayService struct {
	workflowservice.WorkflowServiceClient
}

func (awayService) DescribeNamespace(context.Context, *workflowservice.DescribeNamespaceRequest, ...grpc.CallOption) (*workflowservice.DescribeNamespaceResponse, error) {
	return nil, errAway
}

func away(t *testing.T, guard Guard) *Console {
	t.Helper()
	if guard.Addr == "" {
		guard.Addr = "127.0.0.1:0"
	}
	c, err := New(Config{
		Record: &record.Reader{Client: awayTemporal{}, Namespace: "vsphere-preemption", TaskQueue: "vsphere-preemption"}, Server: "temporal:7233", Guard: guard,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.read(t.Context())
	return c
}

func ask(c http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, target, nil)
	req.Host = "127.0.0.1:8234"
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	c.ServeHTTP(rec, req)
	return rec
}

func TestEachPageSaysThatTemporalIsAwayAndIsAPageAllTheSame(t *testing.T) {
	c := away(t, Guard{})
	for _, path := range []string{"/", "/history", "/remediation", "/policies", "/health"} {
		got := ask(c, "GET", path)
		body := got.Body.String()
		if got.Code != http.StatusOK || !strings.Contains(body, "Temporal at temporal:7233 does not answer") || !strings.Contains(body, "preemptctl doctor --server temporal:7233") {
			t.Errorf("%s: %d\n%s", path, got.Code, body)
		}
		if strings.Contains(body, "<script>alert") {
			t.Errorf("%s: what comes from elsewhere is not escaped", path)
		}
	}
}

func TestRubbishIsAnsweredBriefly(t *testing.T) {
	c := away(t, Guard{})
	for path, want := range map[string]int{
		"/nope": 404, "/rounds/": 404, "/history?since=yesterday": 400, "/history?since=-5h": 400, "/history?since=99999999d": 400, "/history?kind=nonsense": 400,
		"/history?page=0": 400, "/history?page=99999999999999999999": 400, "/history?vm=" + strings.Repeat("x", 400): 400, "/vms/nobody": 404, "/work/none": 404,
		"/vms/" + strings.Repeat("x", 400): 400, "/vms/%3Cscript%3E": 404, "/vms/%00": 404, "/assets/../console.go": 307, "/assets/README.md": 404, "/rounds/r-1": 502,
		"/api/v1/history?since=x": 400, "/api/v1/nope": 404, "/api/v1/vms/nobody": 404,
	} {
		got := ask(c, "GET", path)
		if got.Code != want && !(want == 307 && got.Code/100 == 3) {
			t.Errorf("%.60s: %d, want %d", path, got.Code, want)
		}
		if got.Body.Len() > 8<<10 || strings.Contains(got.Body.String(), "<script>") {
			t.Errorf("%.60s: %d bytes, or what was asked for is not escaped:\n%s", path, got.Body.Len(), got.Body)
		}
	}
}

func TestOnlyReading(t *testing.T) {
	c := away(t, Guard{})
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"} {
		if got := ask(c, method, "/"); got.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, got.Code)
		}
	}
	if got := ask(c, "HEAD", "/"); got.Code != http.StatusOK {
		t.Errorf("HEAD: %d", got.Code)
	}
}

func TestNothingIsLoadedFromElsewhereAndNothingInAPageRuns(t *testing.T) {
	c := away(t, Guard{})
	for _, path := range []string{"/", "/history", "/health", "/nope", "/assets/console.js"} {
		got := ask(c, "GET", path)
		csp := got.Header().Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: the policy %q lacks %s", path, csp, want)
			}
		}
		if strings.Contains(csp, "unsafe") || got.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, got.Header())
		}
	}
	inline := regexp.MustCompile(`(?i)\son[a-z]+=|\sstyle=|<style|<script(?:[^>]*)>[^<]|(?:src|href)="(?:https?:)?//`)
	for _, path := range []string{"/", "/history", "/remediation", "/policies", "/health"} {
		if found := inline.FindString(ask(c, "GET", path).Body.String()); found != "" {
			t.Errorf("%s has %q in it", path, found)
		}
	}
}

// secret is a token.
type secret string

func (s secret) Shown(h http.Header) bool { return h.Get("Authorization") == "Bearer "+string(s) }

func TestWhoMayRead(t *testing.T) {
	basic := "Basic b3BlcmF0b3I6czNjcjN0" // operator:s3cr3t
	for name, tc := range map[string]struct {
		guard  Guard
		header []string
		want   int
	}{
		"loopback":                           {Guard{}, nil, 200},
		"loopback as localhost":              {Guard{}, []string{"Host", "localhost:1"}, 200},
		"loopback by IPv6":                   {Guard{Addr: "[::1]:1"}, []string{"Host", "[::1]:1"}, 200},
		"loopback under another name":        {Guard{}, []string{"Host", "evil.example.com"}, 421},
		"a token that is shown":              {Guard{Addr: ":1", Token: secret("s3cr3t")}, []string{"Authorization", "Bearer s3cr3t"}, 200},
		"a token as a password":              {Guard{Addr: ":1", Token: secret("s3cr3t")}, []string{"Authorization", basic}, 200},
		"a wrong token":                      {Guard{Addr: ":1", Token: secret("s3cr3t")}, []string{"Authorization", "Bearer x"}, 401},
		"no token":                           {Guard{Addr: ":1", Token: secret("s3cr3t")}, nil, 401},
		"a proxy's header":                   {Guard{Addr: ":1", Header: "X-Forwarded-User"}, []string{"X-Forwarded-User", "ada"}, 200},
		"no proxy's header":                  {Guard{Addr: ":1", Header: "X-Forwarded-User"}, nil, 403},
		"an empty header of the proxy":       {Guard{Addr: ":1", Header: "X-Forwarded-User"}, []string{"X-Forwarded-User", " "}, 403},
		"on loopback, a token is asked, too": {Guard{Token: secret("s3cr3t")}, nil, 401},
	} {
		t.Run(name, func(t *testing.T) {
			c := away(t, tc.guard)
			for _, path := range []string{"/", "/api/v1/now", "/assets/console.js"} {
				if got := ask(c, "GET", path, tc.header...); got.Code != tc.want {
					t.Errorf("%s: %d, want %d", path, got.Code, tc.want)
				}
			}
		})
	}
}

func TestAnOpenAddressWithoutAGuardIsRefused(t *testing.T) {
	for _, addr := range []string{":8090", "0.0.0.0:8090", "192.0.2.1:8090", "[::]:8090", "console.example.com:80"} {
		if _, err := New(Config{Record: &record.Reader{}, Guard: Guard{Addr: addr}}); err == nil || !strings.Contains(err.Error(), addr) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if _, err := New(Config{Record: &record.Reader{}, Guard: Guard{Addr: ":1", Header: "X User"}}); err == nil {
		t.Error("a header with a space is taken")
	}
}

func TestTheAPIIsJSONAndListsItsPaths(t *testing.T) {
	c := away(t, Guard{})
	var list struct {
		Version string   `json:"version"`
		Paths   []string `json:"paths"`
	}
	if err := json.Unmarshal(ask(c, "GET", "/api/v1/").Body.Bytes(), &list); err != nil || list.Version != "v1" || len(list.Paths) < 9 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, path := range list.Paths {
		if strings.Contains(path, "{") {
			continue
		}
		got := ask(c, "GET", path)
		if got.Code != http.StatusOK || got.Header().Get("Content-Type") != "application/json" || !json.Valid(got.Body.Bytes()) {
			t.Errorf("%s: %d %s", path, got.Code, got.Body)
		}
	}
}

func TestTheFilesOfOthersAreAsTheirMakersPublishedThem(t *testing.T) {
	list, err := fs.ReadFile(readme, "assets/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"htmx.min.js", "idiomorph-ext.min.js", "uPlot.iife.min.js", "uPlot.min.css"} {
		b, err := fs.ReadFile(assets, "assets/"+name)
		if err != nil {
			t.Fatal(err)
		}
		if sum := fmt.Sprintf("%x", sha256.Sum256(b)); !strings.Contains(string(list), "| `"+name+"`") || !strings.Contains(string(list), sum) {
			t.Errorf("%s is not the file whose sum is written down: %s", name, sum)
		}
	}
}

func TestFilesAreNotSentAgainWhileTheyAreTheSame(t *testing.T) {
	c := away(t, Guard{})
	tag := ask(c, "GET", "/assets/htmx.min.js").Header().Get("ETag")
	if got := ask(c, "GET", "/assets/htmx.min.js", "If-None-Match", tag); tag == "" || got.Code != http.StatusNotModified || got.Body.Len() > 0 {
		t.Errorf("%d, %d bytes, tag %q", got.Code, got.Body.Len(), tag)
	}
}

func TestWhoLooksAfterAWhileSeesHowEverythingStandsNow(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	c, err := New(Config{
		Record: &record.Reader{Client: awayTemporal{}, Namespace: "vsphere-preemption", TaskQueue: "vsphere-preemption", Clock: clock},
		Server: "temporal:7233", Guard: Guard{Addr: "127.0.0.1:0"}, Clock: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx) })
	defer running.Wait()
	defer cancel()
	ask(c, "GET", "/")
	mu.Lock()
	now = now.Add(time.Hour)
	mu.Unlock()
	var got record.Now
	if err := json.Unmarshal(ask(c, "GET", "/api/v1/now").Body.Bytes(), &got); err != nil || !got.At.Equal(now) {
		t.Fatalf("after an hour without anybody who looked, the first answer is of %s, want %s (error %v)", got.At, now, err)
	}
}

func TestAnUnknownPathOfTheAPIIsAnsweredAsJSON(t *testing.T) {
	c := away(t, Guard{})
	for _, path := range []string{"/api/v1/nope", "/api/v1/vms/", "/api/v1/rounds", "/api/v2/now", "/api/"} {
		got := ask(c, "GET", path)
		var p problem
		if err := json.Unmarshal(got.Body.Bytes(), &p); err != nil || got.Code != 404 || p.Status != 404 || !strings.Contains(p.Error, "/api/v1/") {
			t.Errorf("%s: %d, %v: %.200s", path, got.Code, err, got.Body)
		}
	}
}
