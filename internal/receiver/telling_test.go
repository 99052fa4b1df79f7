package receiver

import (
	"bytes"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
)

// told counts what the metrics are told.
type told struct {
	mu       sync.Mutex
	received map[[2]string]int
	inFlight int
}

func (m *told) Receiving(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inFlight += n
}

func (m *told) Received(class, result string, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if took > 0 {
		m.received[[2]string{class, result}]++
	}
}

func TestMetricsAreToldOfClassAndResultAndNothingOfASender(t *testing.T) {
	whole, _ := documented(t)
	m := &told{received: map[[2]string]int{}}
	r := newReceiver(t, Config{Metrics: m})
	post(r, nil, string(whole))
	post(r, binaryHeader("Ce-Subject", "Evil<Class>"), "")
	post(r, binaryHeader(), "rubbish")
	post(r, nil, "no event")
	want := map[[2]string]int{
		{string(alarm.ClassAlarm), sent}: 1, {Other, ignored}: 1, {string(alarm.ClassAlarm), malformed}: 1, {Other, unsupported}: 1,
	}
	if !maps.Equal(m.received, want) || m.inFlight != 0 {
		t.Errorf("told of %v, want %v; %d in flight", m.received, want, m.inFlight)
	}
}

func TestTheLogTellsWhatWasDoneAndIsNotFlooded(t *testing.T) {
	whole, _ := documented(t)
	var out bytes.Buffer
	r := newReceiver(t, Config{Log: slog.New(slog.NewTextHandler(&out, nil))})
	post(r, nil, string(whole))
	if got := out.String(); !strings.Contains(got, `msg="event acted upon"`) || !strings.Contains(got, "workflow_id=a@domain-c7") {
		t.Errorf("acted upon: %s", got)
	}
	out.Reset()
	post(r, binaryHeader("Ce-Subject", "VmPoweredOnEvent"), "")
	if out.Len() > 0 {
		t.Errorf("ignored: %s", out.String())
	}
	r.refused.every = 1 << 62 // one span for the whole test
	for range 1000 {
		post(r, binaryHeader("Ce-Id", "a\tb", "Ce-Source", "/"+strings.Repeat("x", 5000)), "rubbish")
	}
	if n := strings.Count(out.String(), "\n"); n != 10 {
		t.Errorf("a storm of refusals made %d lines", n)
	}
	if !strings.Contains(out.String(), "from=192.0.2.1") {
		t.Errorf("it is not told from whom: %s", out.String())
	}
	if out.Len() > 20_000 || strings.Contains(out.String(), "a\tb") {
		t.Errorf("what a sender chose is not shortened, or not escaped: %s", out.String()[:500])
	}
	r.refused.every = 0
	post(r, binaryHeader(), "rubbish")
	if !strings.Contains(out.String(), "untold=990") {
		t.Error("it is not told how many were not told")
	}
}

func TestIgnoredEventsAreToldToWhoDebugs(t *testing.T) {
	var out bytes.Buffer
	r := newReceiver(t, Config{Log: slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	post(r, binaryHeader("Ce-Subject", "VmPoweredOnEvent"), "")
	if !strings.Contains(out.String(), `"level":"DEBUG","msg":"event ignored","result":"ignored","reason":"no rule is on events of class VmPoweredOnEvent"`) {
		t.Error(out.String())
	}
}
