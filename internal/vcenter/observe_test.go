package vcenter

import (
	"strings"
	"sync"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
)

func TestEveryCallIsToldWithItsMethodAndCode(t *testing.T) {
	v := simulated(t, small())
	var mu sync.Mutex
	calls, codes, renewed := map[string]int{}, map[string]int{}, map[string]int{}
	g := gateway(t, v, func(c *Config) {
		c.Observe = func(method, code string, took time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			calls[method]++
			codes[method+" "+code]++
			if took <= 0 {
				t.Errorf("%s took %v", method, took)
			}
		}
		c.Renewed = func(api string) {
			mu.Lock()
			defer mu.Unlock()
			renewed[api]++
		}
	})
	check(t, g.Connect(t.Context()))
	_, err := g.Candidates(t.Context(), "preemptible", Scope{Detail: true})
	check(t, err)
	vm := taggedRefs(v)[0]
	_, err = g.PowerOff(t.Context(), vm)
	check(t, err)
	check(t, g.Annotate(t.Context(), vm, preemption.AttributeKey, "{}"))
	check(t, v.TerminateSessions())
	_, err = g.Candidates(t.Context(), "preemptible", Scope{Detail: true})
	check(t, err)
	mu.Lock()
	defer mu.Unlock()
	for method, n := range v.Calls() {
		if !strings.HasPrefix(method, "REST ") && calls[method] != n {
			t.Errorf("%s was told %d times, want %d", method, calls[method], n)
		}
	}
	for _, want := range []string{"Login OK", "PowerOffVM_Task OK", "SetField OK", "RetrieveServiceContent OK", "POST session OK"} {
		if codes[want] == 0 {
			t.Errorf("%s was not told: %v", want, codes)
		}
	}
	lost := 0
	for key, n := range codes {
		if strings.HasSuffix(key, " SessionLost") {
			lost += n
		}
		if strings.Contains(key, "urn:") || strings.Contains(key, "id:") {
			t.Errorf("a method tells an id: %s", key)
		}
	}
	if lost == 0 || renewed["soap"] != 1 || renewed["rest"] > 1 {
		t.Errorf("%d calls met a lost session, renewed %v: %v", lost, renewed, codes)
	}
}

func TestCallsThatFailAreToldByTheirKind(t *testing.T) {
	var told []string
	g, err := New(Config{URL: "https://127.0.0.1:1/sdk", SecretPath: t.TempDir(), Observe: func(method, code string, _ time.Duration) {
		told = append(told, method+" "+code)
	}})
	check(t, err)
	defer g.Close(t.Context())
	if _, err := g.ServerTime(t.Context()); err == nil || len(told) != 1 || told[0] != "RetrieveServiceContent Unavailable" {
		t.Errorf("told %q of %v", told, err)
	}
}
