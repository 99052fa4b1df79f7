package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return usage(err)
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

// unknownCommand is wrong usage: a word where a subcommand was expected.
func unknownCommand(c *cobra.Command, word string) error {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, append([]string{sub.Name()}, sub.Aliases...)...)
		}
	}
	return usagef("unknown command %q for %q%s", word, c.CommandPath(), meant(word, names))
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
