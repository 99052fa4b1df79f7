package sitetest

import (
	"bytes"
	"os/exec"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
)

// Ctl runs preemptctl by its environment alone.
func (s *Site) Ctl(path string, env []string, args ...string) (out string, code int) {
	s.T.Helper()
	cmd := exec.CommandContext(s.T.Context(), path, args...)
	cmd.Env = append([]string{"TEMPORAL_NAMESPACE=" + s.Server.Namespace(), "TEMPORAL_TASKQUEUE=" + s.Queue, "HOME=" + s.T.TempDir()}, env...)
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		s.T.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// WantCtl runs preemptctl, and checks its exit code and what it says.
func (s *Site) WantCtl(path string, env []string, code int, says string, args ...string) {
	s.T.Helper()
	if out, got := s.Ctl(path, env, args...); got != code || !strings.Contains(out, says) {
		s.T.Errorf("preemptctl %v exits %d, want %d and %q:\n%s", args, got, code, says, out)
	}
}

// Typed runs preemptctl in this process.
func (s *Site) Typed(args ...string) (code int, out, errs string) {
	s.T.Helper()
	var stdout, stderr bytes.Buffer
	code = cli.Run(s.T.Context(), cli.Options{
		Args: append(args, "-s", Shared.HostPort(), "-n", Shared.Namespace(), "-q", s.Queue), Stdout: &stdout, Stderr: &stderr, Env: EmptyEnvironment{},
	})
	return code, stdout.String(), stderr.String()
}

// EmptyEnvironment has no variables.
type EmptyEnvironment struct{}

// LookupEnv finds nothing.
func (EmptyEnvironment) LookupEnv(string) (string, bool) { return "", false }

// Environ is empty.
func (EmptyEnvironment) Environ() []string { return nil }
