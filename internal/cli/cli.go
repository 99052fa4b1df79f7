// Package cli is the command line of preemptctl: one command per file, over Temporal alone. It asks, looks
// and prints; it decides nothing and needs no vCenter password.
package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/contrib/envconfig"
)

// Options inject everything that a run of the program takes from outside. The zero value of a field means
// the process's own.
type Options struct {
	Args   []string // without the program's name
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Env    envconfig.EnvLookup
	Now    func() time.Time
	Build  Build
	// Width is how many characters fit into a line of Stdout; 0: as many as its terminal says, or any number if it is none.
	Width int
}

// Build identifies the build. An empty field is taken from the build information in the binary.
type Build struct{ Version, Commit, Date string }

// app is one run of the program.
type app struct {
	Options
	flags  globals
	log    *slog.Logger
	target target
	width  func() int // of the terminal; 0: stdout is none

	rehearsed time.Duration // the length of the notice that --notice asks for; 0: none does

	toldCut bool // it was said that tables are cut
}

// Run runs preemptctl once and returns its exit code.
func Run(ctx context.Context, o Options) (exitCode int) {
	a := newApp(o)
	root := a.root()
	root.SetArgs(a.Args)
	cmd, err := root.ExecuteContextC(ctx)
	return a.report(ctx, cmd, err)
}

func newApp(o Options) *app {
	if o.Args == nil {
		o.Args = []string{} // cobra reads the process's own for nil
	}
	if o.Stdin == nil {
		o.Stdin = os.Stdin
	}
	if o.Stdout == nil {
		o.Stdout = os.Stdout
	}
	if o.Stderr == nil {
		o.Stderr = os.Stderr
	}
	if o.Env == nil {
		o.Env = envconfig.EnvLookupOS
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Build = o.Build.filled()
	return &app{Options: o, log: slog.New(slog.DiscardHandler), width: widthOf(o)}
}

func (b Build) filled() Build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	fill := func(to *string, from string) {
		if *to == "" {
			*to = from
		}
	}
	fill(&b.Version, info.Main.Version)
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			fill(&b.Commit, s.Value)
		case "vcs.time":
			fill(&b.Date, s.Value)
		}
	}
	fill(&b.Version, "(devel)")
	fill(&b.Commit, "unknown")
	fill(&b.Date, "unknown")
	return b
}

// root assembles the commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "preemptctl",
		Short: "Preempt, restore and remediate vSphere VMs",
		Long: "preemptctl starts preemptions, restores and remediations, now or at set times, shows what they did and why, and\n" +
			"cancels them. It connects only to Temporal: only the worker connects to vCenter.\n\n" + exitStatus("", ""),
		Example: "  preemptctl workflow plan\n  preemptctl workflow run --criticality HIGH --wait\n  preemptctl workflow status\n" +
			"  preemptctl evict web-1 --notice-only\n" +
			"  preemptctl schedule create nightly --at 22:00",
		Version: a.Build.Version, SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.prepare(cmd) },
	}
	root.SetIn(a.Stdin)
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	root.SetFlagErrorFunc(flagError)
	a.flags.register(root)
	group(root, a.workflowCommand(), a.makeRoomCommand(), a.evictCommand(), a.restoreCommand(), a.pauseCommand(), a.resumeCommand(), a.spareCommand(), a.explainCommand(), a.offCommand(), a.historyCommand(), a.reportCommand(), a.remediationCommand(), a.reconcileCommand(), a.tagsCommand(),
		a.scheduleCommand(), a.watchCommand(), a.policyCommand(), a.setupCommand(), a.doctorCommand(), a.uiCommand(), a.notifyCommand(), a.demoCommand(), completionCommand())
	root.SetHelpCommand(helpCommand())
	version := fmt.Sprintf("preemptctl %s (commit %s, built %s)\n", a.Build.Version, a.Build.Commit, a.Build.Date)
	a.versionEverywhere(root, version)
	a.completeEverywhere(root)
	return root
}

// versionEverywhere gives every command -v/--version, which is documented as a global flag.
func (a *app) versionEverywhere(cmd *cobra.Command, text string) {
	cmd.Version = a.Build.Version
	cmd.SetVersionTemplate(text)
	cmd.InitDefaultVersionFlag()
	if f := cmd.Flags().Lookup("version"); f != nil {
		f.Usage = "print version, commit and build date"
	}
	cmd.InitDefaultHelpFlag()
	if f := cmd.Flags().Lookup("help"); f != nil {
		f.Usage = "print this help"
	}
	for _, sub := range cmd.Commands() {
		a.versionEverywhere(sub, text)
	}
}

// workflowCommand groups the commands about preemption workflows.
func (a *app) workflowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "workflow", Aliases: []string{"wf"},
		Short:   "Run, plan, show, list, cancel and repair preemptions",
		Long:    "Run, plan, show, list, cancel and repair preemption workflows.\n\n" + exitStatus("", ""),
		Example: "  preemptctl workflow run\n  preemptctl workflow status -o json",
	}
	return group(cmd, a.runCommand(), a.planCommand(), a.statusCommand(), a.listCommand(), a.cancelCommand(), a.repairCommand())
}
