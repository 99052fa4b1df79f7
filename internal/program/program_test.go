package program

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

type version string

func (v version) String() string { return string(v) }

func TestTheCommandLineOfAServer(t *testing.T) {
	for name, c := range map[string]struct {
		args           []string
		path           string
		code           int
		done           bool
		stdout, stderr string
	}{
		"nothing":              {nil, "", Done, false, "", ""},
		"a file":               {[]string{"--config", "a.yaml"}, "a.yaml", Done, false, "", ""},
		"a file, in short":     {[]string{"-f", "a.yaml"}, "a.yaml", Done, false, "", ""},
		"help":                 {[]string{"--help"}, "", Done, true, "how to use it", ""},
		"the version":          {[]string{"--version"}, "", Done, true, "server v1", ""},
		"an unknown flag":      {[]string{"--nope"}, "", Usage, true, "", "server: flag provided but not defined: -nope; see server --help"},
		"an argument too many": {[]string{"start"}, "", Usage, true, "", `server: unexpected argument "start"`},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			s := Server{Name: "server", Usage: "how to use it", Args: c.args, Stdout: &stdout, Stderr: &stderr, Build: version("v1")}
			path, code, done := s.Flags()
			if path != c.path || code != c.code || done != c.done {
				t.Errorf("path %q, code %d, done %v", path, code, done)
			}
			if !strings.HasPrefix(stdout.String(), c.stdout) || !strings.HasPrefix(stderr.String(), c.stderr) || c.stderr == "" && stderr.Len() > 0 {
				t.Errorf("stdout %q, stderr %q", stdout.String(), stderr.String())
			}
		})
	}
}

func TestEveryProblemOfAConfigurationIsListed(t *testing.T) {
	var stderr bytes.Buffer
	s := Server{Name: "server", Stderr: &stderr}
	code := s.Refuse(errors.Join(errors.New("PORT: not set"), errors.New("DEBUG: neither true nor false")))
	want := "server: the configuration cannot be used:\n  - PORT: not set\n  - DEBUG: neither true nor false\n"
	if code != Usage || stderr.String() != want {
		t.Errorf("code %d: %s", code, stderr.String())
	}
}
