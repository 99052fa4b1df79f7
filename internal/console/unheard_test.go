package console

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/judge"
	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
)

// answering is a console whose worker has said this of a VM; nil: it has not answered yet.
func answering(t *testing.T, vm string, said *answer) *Console {
	t.Helper()
	now := time.Now().UTC()
	c := showing(t, record.Now{At: now, OpenAt: now, Workers: record.Workers{At: now, Polled: true}})
	done := make(chan struct{})
	if said != nil {
		close(done)
	}
	c.questions.kept[vm] = &question{last: said, since: time.Now(), done: done}
	return c
}

func TestAVMOfWhichNothingIsKnownIsAnErrorOfTheAPIThatSaysWhy(t *testing.T) {
	const vm = "never-heard-of"
	for name, c := range map[string]struct {
		said *answer
		code int
		text string
	}{
		"vCenter is cut off":     {&answer{Error: "look for VM in vCenter: find VM: the connection was closed"}, http.StatusServiceUnavailable, "whether vCenter has one is not known now: look for VM"},
		"there is no answer yet": {nil, http.StatusServiceUnavailable, "has not answered yet: ask again"},
		"vCenter has none":       {&answer{unknown: &judge.NotKnownError{Words: "no such VM"}, Error: "no such VM"}, http.StatusNotFound, "no such VM"},
	} {
		got := ask(answering(t, vm, c.said), "GET", "/api/v1/vms/"+vm)
		body := got.Body.String()
		if got.Code != c.code || !strings.Contains(body, c.text) || !strings.Contains(body, "names a VM called "+vm) || got.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d, want %d with %q\n%s", name, got.Code, c.code, c.text, body)
		}
	}
	if got := ask(answering(t, vm, nil), "GET", "/vms/"+vm); got.Code != http.StatusOK {
		t.Errorf("a page that waits for the answer: %d", got.Code)
	}
	if got := ask(answering(t, vm, &answer{Error: errors.New("away").Error()}), "GET", "/vms/"+vm); got.Code != http.StatusServiceUnavailable {
		t.Errorf("a page where vCenter is cut off: %d", got.Code)
	}
}

func TestAStateThatThereIsNotIsRefusedWithThoseThatThereAre(t *testing.T) {
	c := away(t, Guard{})
	for _, path := range []string{"/history", "/api/v1/history", "/api/v1/sums"} {
		got := ask(c, "GET", path+"?state=foo")
		body := got.Body.String()
		if got.Code != http.StatusBadRequest || !strings.Contains(body, "is not one of") || !strings.Contains(body, "completed, ") {
			t.Errorf("%s: %d\n%s", path, got.Code, body)
		}
	}
	for _, state := range record.States() {
		if got := ask(c, "GET", "/api/v1/history?state="+strings.ToUpper(state)); got.Code != http.StatusOK {
			t.Errorf("%s: %d", state, got.Code)
		}
	}
}
