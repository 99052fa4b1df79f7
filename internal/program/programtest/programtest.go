// Package programtest builds a command as it is released and runs it, for the tests of the commands.
package programtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// binary is the path of the command under test.
var binary string

// Main builds the command in this folder, runs the tests, and ends the process.
func Main(m *testing.M, name string) {
	folder, err := os.MkdirTemp("", name)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(folder, name)
	build := exec.Command("go", "build", "-trimpath", "-o", binary,
		"-ldflags", "-s -w -X main.version=v1.2.3 -X main.commit=abcdef -X main.date=2026-01-02T03:04:05Z", ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	code := 1
	if err := build.Run(); err == nil {
		code = m.Run()
	}
	os.RemoveAll(folder)
	os.Exit(code)
}

// Size returns how many bytes the command has.
func Size(t *testing.T) int64 {
	t.Helper()
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// Command prepares a run of the command with this environment alone.
func Command(t *testing.T, env []string, args ...string) (cmd *exec.Cmd, stdout, stderr *Output) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = append([]string{"HOME=" + t.TempDir()}, env...)
	stdout, stderr = &Output{}, &Output{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

// Output is what a process has written so far.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

// String returns all of it.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Run is a run that ends by itself, with its exit code and parts of what it writes. Without a part of stderr, stderr
// stays empty.
type Run struct {
	Env, Args      []string
	Code           int
	Stdout, Stderr []string
}

// Check runs the command and compares.
func (r Run) Check(t *testing.T) {
	t.Helper()
	cmd, stdout, stderr := Command(t, r.Env, r.Args...)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if code := cmd.ProcessState.ExitCode(); code != r.Code {
		t.Errorf("exit code %d, want %d", code, r.Code)
	}
	for _, want := range r.Stdout {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("stdout lacks %q:\n%s", want, stdout)
		}
	}
	for _, want := range r.Stderr {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("stderr lacks %q:\n%s", want, stderr)
		}
	}
	if r.Stderr == nil && stderr.String() != "" {
		t.Errorf("stderr: %s", stderr)
	}
}
