package standalone

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/telemetry"
)

// asker asks as somebody outside the program does: the default client is the program's, which may not dial loopback.
var asker = http.Client{Timeout: time.Minute}

// output collects what a program writes, while it writes it.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// trial is one run of the program.
type trial struct {
	t       *testing.T
	program Program
	out     output
	errs    output
	signals chan os.Signal
	code    chan int
}

func newTrial(t *testing.T, args ...string) *trial {
	t.Helper()
	tr := &trial{t: t, signals: make(chan os.Signal, 2), code: make(chan int, 1)}
	tr.program = Program{
		Args: args, Env: []string{"HOME=" + t.TempDir(), "HTTP_ADDR=127.0.0.1:0"},
		Stdout: &tr.out, Stderr: &tr.errs, Build: telemetry.Build{Version: "v0.0.0-test"},
		Signals: tr.signals, Exit: func(code int) { t.Errorf("the process was ended at once with %d", code) },
	}
	return tr
}

func (tr *trial) env(entries ...string) *trial {
	tr.program.Env = append(tr.program.Env, entries...)
	return tr
}

// run runs the program to its end.
func (tr *trial) run(want int) *trial {
	tr.t.Helper()
	tr.start()
	return tr.end(want)
}

func (tr *trial) start() {
	go func() { tr.code <- tr.program.Run(tr.t.Context()) }()
}

func (tr *trial) end(want int) *trial {
	tr.t.Helper()
	select {
	case got := <-tr.code:
		if got != want {
			tr.t.Fatalf("exit code %d, want %d\n%s\n%s", got, want, tr.out.String(), tr.errs.String())
		}
	case <-time.After(3 * time.Minute):
		tr.t.Fatalf("it does not end\n%s\n%s", tr.out.String(), tr.errs.String())
	}
	return tr
}

// await waits until the output matches, and returns the groups of the match.
func (tr *trial) await(pattern string) []string {
	tr.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.Now().Add(3 * time.Minute)
	for time.Now().Before(deadline) {
		if m := re.FindStringSubmatch(tr.out.String()); m != nil {
			return m
		}
		select {
		case code := <-tr.code:
			tr.t.Fatalf("ended with %d before it said %q\n%s\n%s", code, pattern, tr.out.String(), tr.errs.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
	tr.t.Fatalf("never said %q\n%s\n%s", pattern, tr.out.String(), tr.errs.String())
	return nil
}

// says checks that the output matches each pattern, in this order.
func (tr *trial) says(patterns ...string) {
	tr.t.Helper()
	rest := tr.out.String()
	for _, p := range patterns {
		at := regexp.MustCompile(`(?m)` + p).FindStringIndex(rest)
		if at == nil {
			tr.t.Fatalf("%q is not said, or not in its place, in\n%s", p, tr.out.String())
		}
		rest = rest[at[1]:]
	}
}

func (tr *trial) saysNot(texts ...string) {
	tr.t.Helper()
	for _, text := range texts {
		if strings.Contains(tr.out.String(), text) {
			tr.t.Errorf("%q is said in\n%s", text, tr.out.String())
		}
	}
}

func (tr *trial) complains(texts ...string) {
	tr.t.Helper()
	for _, text := range texts {
		if !strings.Contains(tr.errs.String(), text) {
			tr.t.Errorf("no %q on stderr, which says\n%s", text, tr.errs.String())
		}
	}
}

// quiet checks that nothing is on stderr, but for what Temporal's server and SDK complain of on a slow machine: of
// the SDK, workflow tasks of more than 5 seconds (TMPRL1104) and calls that were not answered in time.
func (tr *trial) quiet() *trial {
	tr.t.Helper()
	for line := range strings.Lines(tr.errs.String()) {
		slow := strings.Contains(line, "TMPRL1104") || strings.Contains(line, "context deadline exceeded")
		if !strings.Contains(line, "component=temporal ") && !(slow && strings.Contains(line, "component=temporal-sdk ")) {
			tr.t.Errorf("on stderr: %s", line)
		}
	}
	return tr
}

// line is a pattern for a line of the story.
func line(kind, text string) string {
	return fmt.Sprintf(`^\d\d:\d\d:\d\d\.\d{3}  %-*s  %s`, kindWidth, kind, text)
}
