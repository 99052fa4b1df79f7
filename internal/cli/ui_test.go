package cli_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
)

func TestTheConsoleIsNotServedWhereEverybodyCouldReadIt(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"an open address":      {[]string{"ui", "--addr", ":0"}, "--token-file"},
		"no address":           {[]string{"ui", "--addr", "here"}, "host:port"},
		"a token that is away": {[]string{"ui", "--token-file", "/no/such"}, "/no/such"},
		"a bad header":         {[]string{"ui", "--trusted-header", "a b"}, "no name of an HTTP header"},
	} {
		t.Run(name, func(t *testing.T) {
			out := preemptctl(t, cli.Options{}, tc.args...)
			if out.code != 2 || !strings.Contains(out.stderr, tc.want) {
				t.Errorf("exit %d: %s", out.code, out.stderr)
			}
		})
	}
}

// shownCommand finds what templates hand to Target.Command.
var shownCommand = regexp.MustCompile(`\.Command ((?:"[^"]*" ?|\$?[\w.]+ ?)+)\)`)

func TestEachCommandThatTheConsoleShowsIsOne(t *testing.T) {
	found := 0
	files, err := filepath.Glob("../console/templates/*.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range shownCommand.FindAllStringSubmatch(string(text), -1) {
			found++
			var args []string
			for _, word := range strings.Fields(m[1]) {
				if !strings.HasPrefix(word, `"`) {
					word = `"vm-1"` // a name that the page knows
				}
				args = append(args, strings.Trim(word, `"`))
			}
			out := preemptctl(t, cli.Options{}, append(args, "--help")...)
			if out.code != 0 || strings.Contains(out.stderr, "unknown") {
				t.Errorf("%s shows preemptctl %s: exit %d, %s", name, strings.Join(args, " "), out.code, out.stderr)
			}
			for _, arg := range args {
				if strings.HasPrefix(arg, "--") && !strings.Contains(out.stdout, arg) {
					t.Errorf("%s shows preemptctl %s, whose %s its help does not have", name, strings.Join(args, " "), arg)
				}
			}
		}
	}
	if found < 15 {
		t.Errorf("only %d commands are found", found)
	}
}
