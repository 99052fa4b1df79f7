package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vsphere-preemption/vsphere-preemption/internal/flagwords"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// meant asks whether one of the names was meant that are like another; empty: none is.
func meant(name string, names []string) string {
	near := shown.Near(name, names)
	if len(near) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(near, " or ") + "?"
}

// flagError is wrong usage of a flag, with those that were perhaps meant where there is none of that name.
func flagError(c *cobra.Command, err error) error {
	if words := c.Flags().Args(); c.HasAvailableSubCommands() && !strings.Contains(c.Use, " ") && len(words) > 0 {
		return unknownCommand(c, words[0]) // whose flag this is
	}
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return usage(flagwords.Plain(err))
	}
	var flags []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			flags = append(flags, f.Name)
		}
	})
	near := shown.Near(unknown.GetSpecifiedName(), flags)
	if len(near) == 0 {
		return usage(err)
	}
	return usagef("%w; did you mean --%s?", err, strings.Join(near, " or --"))
}

// unknownCommand is wrong usage: a word where a subcommand was expected. Where none is like it, those of subcommands are named.
func unknownCommand(c *cobra.Command, word string) error {
	var names, below []string
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() {
			continue
		}
		names = append(names, append([]string{sub.Name()}, sub.Aliases...)...)
		for _, deeper := range sub.Commands() {
			if deeper.IsAvailableCommand() && strings.EqualFold(deeper.Name(), word) {
				below = append(below, sub.Name()+" "+deeper.Name())
			}
		}
	}
	hint := meant(word, names)
	if hint == "" && len(below) > 0 {
		hint = "; did you mean " + strings.Join(below, " or ") + "?"
	}
	return usagef("unknown command %q for %q%s", word, c.CommandPath(), hint)
}

// oneOf refuses a value that is not one of those that a flag takes.
func oneOf(flag, value string, of []string) error {
	for _, known := range of {
		if strings.EqualFold(known, value) {
			return nil
		}
	}
	return usage(fmt.Errorf("--%s %q is not one of %s%s", flag, value, strings.Join(of, ", "), meant(value, of)))
}
