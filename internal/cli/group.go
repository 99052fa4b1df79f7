package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// group makes a command of subcommands. An unknown subcommand is wrong usage, never success.
func group(cmd *cobra.Command, subs ...*cobra.Command) *cobra.Command {
	cmd.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return unknownCommand(c, args[0])
	}
	cmd.RunE = func(c *cobra.Command, _ []string) error {
		if !c.HasParent() {
			return c.Help()
		}
		c.SetOut(c.ErrOrStderr())
		_ = c.Help()
		return usagef("%s needs a subcommand", c.CommandPath())
	}
	cmd.AddCommand(subs...)
	return cmd
}

// noArgs refuses positional arguments.
func noArgs(c *cobra.Command, args []string) error {
	switch {
	case len(args) > 0 && c.HasAvailableSubCommands():
		return unknownCommand(c, args[0])
	case len(args) > 0:
		return usagef("%s takes no arguments, got %q", c.CommandPath(), args[0])
	}
	return nil
}

// helpCommand is cobra's, but an unknown topic is wrong usage.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [command]", Short: "Print the help of a command",
		Long:    "Print the help of a command.\n\n" + exitStatus("", ""),
		Example: "  preemptctl help workflow run",
		RunE: func(c *cobra.Command, args []string) error {
			topic, rest, err := c.Root().Find(args)
			if err != nil || topic == nil || len(rest) > 0 {
				return usagef("unknown help topic %q", strings.Join(args, " "))
			}
			return topic.Help()
		},
	}
}

// completionCommand prints cobra's completion scripts.
func completionCommand() *cobra.Command {
	shell := func(name, use string, gen func(*cobra.Command) error) *cobra.Command {
		return &cobra.Command{
			Use: name, Short: "Print the completion script for " + name, Args: noArgs,
			Long:    "Print the completion script for " + name + ".\n\n" + exitStatus("", ""),
			Example: "  " + use,
			RunE:    func(c *cobra.Command, _ []string) error { return gen(c) },
		}
	}
	cmd := &cobra.Command{
		Use: "completion", Short: "Print a shell completion script",
		Long:    "Print a script that completes commands and flags in bash, zsh, fish or PowerShell.\n\n" + exitStatus("", ""),
		Example: "  source <(preemptctl completion bash)",
	}
	return group(cmd,
		shell("bash", "source <(preemptctl completion bash)", func(c *cobra.Command) error {
			return c.Root().GenBashCompletionV2(c.OutOrStdout(), true)
		}),
		shell("zsh", `preemptctl completion zsh > "${fpath[1]}/_preemptctl"`, func(c *cobra.Command) error {
			return c.Root().GenZshCompletion(c.OutOrStdout())
		}),
		shell("powershell", "preemptctl completion powershell | Out-String | Invoke-Expression", func(c *cobra.Command) error {
			return c.Root().GenPowerShellCompletionWithDesc(c.OutOrStdout())
		}),
		shell("fish", "preemptctl completion fish | source", func(c *cobra.Command) error {
			return c.Root().GenFishCompletion(c.OutOrStdout(), true)
		}),
	)
}
