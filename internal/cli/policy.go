package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
)

// policyCommand groups the commands about the configuration file. They read it here. Only replay connects to
// Temporal, for past rounds.
func (a *app) policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Check, show and try policies",
		Long: "Check a configuration file, show the effective policies in it, and try them on past rounds. Only replay connects\n" +
			"to Temporal; none of the commands connects to vCenter.\n\n" +
			exitStatus("", ""),
		Example: "  preemptctl policy check preemption.yaml\n  preemptctl policy show preemption.yaml\n  preemptctl policy replay preemption.yaml",
	}
	return group(cmd, a.policyCheckCommand(), a.policyShowCommand(), a.policyReplayCommand())
}

// arguments takes between low and high positional arguments; what names them in the error.
func arguments(low, high int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < low || len(args) > high {
			return usagef("%s takes %s, got %d arguments", c.CommandPath(), what, len(args))
		}
		return nil
	}
}

// readConfig reads a configuration file. Each error in its text is one of problems; err means
// that it could not be read at all.
func readConfig(name string) (f config.File, problems []string, err error) {
	f, err = config.ReadFile(name)
	var path *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f, nil, notFoundf("no such file: %s", name)
	case errors.As(err, &path):
		return f, nil, failedf("read %s: %w", name, path.Err)
	}
	for _, p := range config.Problems(err) {
		problems = append(problems, p.Error())
	}
	return f, problems, nil
}

// invalid says how many problems a file has.
func invalid(name string, problems []string) error {
	if len(problems) == 1 {
		return failedf("%s has a problem", name)
	}
	return failedf("%s has %s", name, fmt.Sprintf("%d problems", len(problems)))
}

// validConfig reads a configuration file that is to be used, and prints its problems one by one.
func (a *app) validConfig(name string) (config.File, error) {
	f, problems, err := readConfig(name)
	if err != nil {
		return f, err
	}
	for _, p := range problems {
		a.notice("%s", p)
	}
	if len(problems) > 0 {
		return f, invalid(name, problems)
	}
	return f, nil
}

// noPolicy returns the error that a file has no policy of that name, with the names that it has.
func noPolicy(file, name string, f config.File) error {
	return notFoundf("no policy %q in %s; there are %s", name, file, strings.Join(slices.Sorted(maps.Keys(f.Policies)), ", "))
}
