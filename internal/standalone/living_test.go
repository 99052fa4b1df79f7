package standalone

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/demoapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
	"github.com/vsphere-preemption/vsphere-preemption/internal/program"
)

// alive starts a demo that goes on without having shown its scenario.
func alive(t *testing.T, args ...string) (tr *trial, site *stack) {
	t.Helper()
	tr = newTrial(t, append([]string{"--simulate", "--in-memory", "--headless", "--console", "off"}, args...)...)
	tr.program.noScenario = true
	ready := make(chan *stack, 1)
	tr.program.beforeCheck = func(s *stack) { ready <- s }
	tr.start()
	tr.await(`(?m)` + line("serving", "until Ctrl-C"))
	return tr, <-ready
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

func TestTheDemoLivesOn(t *testing.T) {
	t.Parallel()
	tr, site := alive(t, "--speed", "30")
	tr.await(`(?m)` + line("alarm", `cluster-cpu-above-80 on cluster-a: green to (yellow|red), at \d+ % CPU`))
	const owned = "cluster-a-app-01" // which its owner turns off by hand
	if err := site.vcenter.PowerOffAs(site.vcenter.VM(owned), "CORP\\owner"); err != nil {
		t.Fatal(err)
	}
	tr.await(`(?m)` + line("off", owned))
	tr.await(`(?m)` + line("off", `cluster-a-batch-\d\d`))
	tr.await(`(?m)` + line("round", `\w+: [1-9] of [1-9] chosen VMs? preempted, (HIGH|MEDIUM), in cluster-a, which is at \d+ % CPU: round-`))
	tr.await(`(?m)` + line("alarm", `cluster-cpu-above-80 on cluster-a: \w+ to green, at [3-7]\d % CPU`))
	tr.await(`(?m)` + line("on", `cluster-a-batch-\d\d`))
	tr.await(`(?m)` + line("restore", `completed: [1-9] VMs? on again, in cluster-a`))
	if site.vcenter.PowerState(site.vcenter.VM(owned)) != types.VirtualMachinePowerStatePoweredOff {
		t.Errorf("%s is on again, although its owner turned it off", owned)
	}
	tr.saysNot("annotated", "mismatch")
	tr.signals <- os.Interrupt
	tr.end(program.Done)
}

// demo runs preemptctl demo, and checks its exit code and what it says.
func (tr *trial) demo(want int, says string, args ...string) {
	tr.t.Helper()
	var out bytes.Buffer
	address := tr.await(`knobs .* --demo (127\.0\.0\.1:\d+) `)[1]
	code := cli.Run(tr.t.Context(), cli.Options{
		Args: append([]string{"demo"}, args...), Env: config.Env{"PREEMPT_DEMO_ADDR": address}, Stdout: &out, Stderr: &out,
	})
	if code != want || !regexp.MustCompile(says).MatchString(out.String()) {
		tr.t.Fatalf("preemptctl demo %s exits %d, want %d and %q:\n%s\n%s", strings.Join(args, " "), code, want, says, out.String(), tr.out.String())
	}
}

func TestTheKnobsOfTheDemo(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	tr, site := alive(t, "--control-port", port, "--speed", "0.1")
	if got := tr.await(`knobs .* --demo (\S+) `)[1]; got != "127.0.0.1:"+port {
		t.Errorf("the knobs are at %s, and port %s was asked for", got, port)
	}
	tr.demo(program.NotFound, "cluster-x.*cluster-a and cluster-b", "load", "50", "--on", "cluster-x")
	tr.demo(program.Done, "ask for 50 %", "load", "50")
	tr.demo(program.Done, `(?s)cluster-a +50 % \(held\) +50 % +green +0.*worker +runs.*vCenter +answers`, "status")

	tr.demo(program.Done, "is red, and stays so.*\n.*not above the target of 74 %", "alarm", "red", "--on", "cluster-a")
	tr.await(`(?m)` + line("alarm", `cluster-cpu-above-80 on cluster-a: green to red, at 50 % CPU`))
	tr.await(`(?m)` + line("round", `empty: 0 of 0 chosen VMs preempted, HIGH, in cluster-a`))
	tr.demo(program.Done, "is green, and follows the usage again", "alarm", "green")
	tr.await(`(?m)` + line("alarm", `cluster-cpu-above-80 on cluster-a: red to green`))

	// The worker dies while it takes VMs of cluster-a; the next one ends the round.
	tr.demo(program.Done, "ask for 95 %", "load", "95")
	tr.await(`(?m)` + line("off", `cluster-a-batch-`))
	tr.demo(program.Done, "(?s)cut off from Temporal and vCenter.*a part of the demo's process.*next: ", "worker", "kill", "--for", "1s")
	tr.demo(program.Refused, "dead already", "worker", "kill")
	tr.demo(program.Done, `worker +killed, until `, "status")
	tr.await(`(?m)` + line("worker", `another one polls task queue`))
	tr.await(`(?m)` + line("round", `\w+: [1-9] of [1-9] chosen VMs? preempted, HIGH, in cluster-a`))
	tr.demo(program.Done, `worker +runs`, "status")

	// While vCenter is cut off nothing happens to VMs, and nothing is lost.
	tr.demo(program.Refused, "not cut off", "vcenter", "back")
	tr.demo(program.Done, "resets every connection until", "vcenter", "cut")
	tr.demo(program.Refused, "cut off already; it comes back by: preemptctl demo vcenter back", "vcenter", "cut", "--for", "1s")
	if _, err := net.DialTimeout("tcp", strings.TrimSuffix(strings.TrimPrefix(site.vcenter.URL(), "https://"), "/sdk"), time.Second); err != nil {
		t.Error(err) // it accepts, and resets
	}
	if resp, err := asker.Get(site.vcenter.URL()); err == nil { //nolint:noctx // a test
		t.Errorf("vCenter that is cut off answers %s", resp.Status)
	}
	tr.demo(program.Done, "ask for 95 %", "load", "95", "--on", "cluster-b")
	tr.await(`(?m)` + line("alarm", `cluster-cpu-above-80 on cluster-b: green to red`))
	tr.saysNot("off        cluster-b-batch")
	tr.demo(program.Done, "answers again", "vcenter", "back")
	tr.await(`(?m)` + line("round", `\w+: [1-9] of [1-9] chosen VMs? preempted, HIGH, in cluster-b`))
	tr.demo(program.Done, "for 1s", "vcenter", "cut", "--for", "1s")
	tr.await(`(?ms)` + line("vCenter", "is back") + `.*` + line("vCenter", "is back"))

	tr.demo(program.Done, "follows the simulated day again: it is \\d\\d:\\d\\d", "load", "auto")
	tr.crossSite()
	tr.signals <- os.Interrupt
	tr.end(program.Done)
}

// crossSite checks that a page in a browser cannot turn the knobs of a demo that runs.
func (tr *trial) crossSite() {
	tr.t.Helper()
	address := tr.await(`knobs .* --demo (127\.0\.0\.1:\d+) `)[1]
	req, err := http.NewRequestWithContext(tr.t.Context(), http.MethodPost, "http://"+address+demoapi.Path, strings.NewReader(`{"knob":"worker kill"}`))
	if err != nil {
		tr.t.Fatal(err)
	}
	req.Header.Set("Origin", "https://evil.example.com")
	req.Header.Set("Content-Type", "text/plain")
	resp, err := asker.Do(req)
	if err != nil {
		tr.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		tr.t.Errorf("a page of another site gets %s", resp.Status)
	}
	tr.demo(program.Done, `worker +runs`, "status")
}
