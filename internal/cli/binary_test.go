package cli_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestTheBinaryStaysSmallAndKnowsItsExitCodes(t *testing.T) {
	binary := build(t)
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > maxBinary {
		t.Errorf("the stripped binary weighs %d bytes, at most %d are wanted", info.Size(), maxBinary)
	}
	out, err := exec.Command(binary, "workflow", "nosuch").CombinedOutput()
	if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() != 2 {
		t.Errorf("an unknown subcommand: %v\n%s", err, out)
	}
	if out, err := exec.Command(binary, "--version").CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "preemptctl ") {
		t.Errorf("version: %v\n%s", err, out)
	}
}

// The program must stay what an operator can carry: no server, no simulator, no web UI.
func TestTheBinaryLinksNoServer(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "../../cmd/preemptctl").Output()
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range strings.Lines(string(out)) {
		for _, heavy := range []string{"go.temporal.io/server", "temporalio/ui-server", "govmomi/simulator", "internal/embedded", "internal/simulation"} {
			if strings.Contains(pkg, heavy) {
				t.Errorf("preemptctl links %s", pkg)
			}
		}
	}
}
