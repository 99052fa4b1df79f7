package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// CommandLine is a command with arguments that it takes, and its flags.
type CommandLine struct {
	Path, Args []string // without the program's name
	Flags      []string // long names
	Complete   []string // the flags that complete their values
}

// CommandLines walks the tree of all commands.
func CommandLines() (all []CommandLine) {
	var walk func(c *cobra.Command, path []string)
	walk = func(c *cobra.Command, path []string) {
		one := CommandLine{Path: path}
		for _, word := range strings.Fields(c.Use)[1:] {
			switch alternatives := strings.Split(word, "|"); {
			case strings.ContainsAny(word, "[{"):
			case len(alternatives) > 1:
				one.Args = append(one.Args, alternatives[len(alternatives)-1])
			case word == strings.ToUpper(word):
				one.Args = append(one.Args, "x")
			}
		}
		c.InheritedFlags()
		c.Flags().VisitAll(func(f *pflag.Flag) {
			one.Flags = append(one.Flags, f.Name)
			if _, ok := c.GetFlagCompletionFunc(f.Name); ok {
				one.Complete = append(one.Complete, f.Name)
			}
		})
		all = append(all, one)
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() && sub.Name() != "help" {
				walk(sub, append(slices.Clone(path), sub.Name()))
			}
		}
	}
	walk(newApp(Options{}).root(), nil)
	return all
}

// EmptyMayStand are the flags whose empty value means that they are not given.
var EmptyMayStand = emptyMayStand
