package cli

import (
	"io"
	"regexp"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// library are words of Go's and of the flag library's errors.
var library = regexp.MustCompile(`strconv|parsing|invalid (argument|syntax|duration)|time:|shorthand|needs an argument|flag syntax|out of range`)

func eachCommand(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		eachCommand(sub, f)
	}
}

func TestAWrongValueOfAnyFlagIsRefusedInPlainWords(t *testing.T) {
	checked := 0
	names := map[string][]string{} // by command
	root := func() *cobra.Command { return newApp(Options{Stdout: io.Discard, Stderr: io.Discard}).root() }
	eachCommand(root(), func(c *cobra.Command) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Value.Type() != "string" && f.Value.Type() != "stringArray" {
				names[c.CommandPath()] = append(names[c.CommandPath()], f.Name)
			}
		})
	})
	eachCommand(root(), func(c *cobra.Command) {
		for _, name := range names[c.CommandPath()] {
			for _, args := range [][]string{{"--" + name + "=abc"}, {"--" + name + "=99999999999999999999999999h"}, {"--" + name + "="}} {
				err := c.ParseFlags(args)
				if err == nil {
					continue // an empty value of ours
				}
				checked++
				if err = c.FlagErrorFunc()(c, err); library.MatchString(err.Error()) || exitCodeOf(err) != 2 {
					t.Errorf("%s %q: exit code %d, %v", c.CommandPath(), args, exitCodeOf(err), err)
				}
			}
		}
	})
	if checked < 100 {
		t.Errorf("only %d wrong values were refused", checked)
	}
}
