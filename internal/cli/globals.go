package cli

import (
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/console"
)

// globals are the flags of every command.
type globals struct {
	server, namespace, queue string
	output                   string
	outputSet                bool // -o was given: the result itself goes to stdout
	json, verbose            bool
}

// The output formats.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

const defaultServer = console.DefaultServer

func (g *globals) register(root *cobra.Command) {
	f := root.PersistentFlags()
	f.SortFlags = false
	f.StringVarP(&g.server, "server", "s", defaultServer, "address of Temporal as host:port (environment TEMPORAL_URL or TEMPORAL_ADDRESS)")
	f.StringVarP(&g.namespace, "namespace", "n", preemption.DefaultNamespace, "Temporal namespace (environment TEMPORAL_NAMESPACE)")
	f.StringVarP(&g.queue, "queue", "q", preemption.DefaultTaskQueue, "Temporal task queue of the workers (environment TEMPORAL_TASKQUEUE)")
	f.StringVarP(&g.output, "output", "o", formatTable, "print the result as table, json or yaml; logs go to stderr")
	f.BoolVar(&g.json, "json", false, "write JSON log lines; without -o on stdout, with the result in one of them")
	f.BoolVar(&g.verbose, "verbose", false, "write debug logs")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{formatTable, formatJSON, formatYAML}, cobra.ShellCompDirectiveNoFileComp))
}

// prepare checks the global flags, and sets up logging and the connection to Temporal.
func (a *app) prepare(cmd *cobra.Command) error {
	if cmd.Name() == cobra.ShellCompRequestCmd || cmd.Name() == cobra.ShellCompNoDescRequestCmd {
		return nil // what is completed looks for itself, and in silence
	}
	g := &a.flags
	g.outputSet = cmd.Flags().Changed("output")
	switch g.output {
	case formatTable, formatJSON, formatYAML:
	default:
		return usagef("--output %q is not one of table, json, yaml", g.output)
	}
	for name, value := range map[string]string{"server": g.server, "namespace": g.namespace, "queue": g.queue} {
		if strings.TrimSpace(value) == "" {
			return usagef("--%s is empty: leave it out for the default, or name one", name)
		}
	}
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "string" && strings.TrimSpace(f.Value.String()) == "" && !slices.Contains(emptyMayStand, f.Name) && err == nil {
			err = usage(emptyFlag(f.Name))
		}
	})
	if err != nil {
		return err
	}
	a.log = g.logger(a.Stdout, a.Stderr)
	a.target, err = a.findTarget(cmd)
	return err
}

// logger keeps the documented behaviour: --json alone writes JSON log lines to stdout. Everything else logs
// to stderr, warnings and worse unless --verbose is given.
func (g *globals) logger(stdout, stderr io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: documentedKeys}
	if g.habit() {
		o.Level = slog.LevelInfo
	}
	if g.verbose {
		o.Level = slog.LevelDebug
	}
	switch {
	case g.habit():
		return slog.New(slog.NewJSONHandler(stdout, o))
	case g.json:
		return slog.New(slog.NewJSONHandler(stderr, o))
	}
	return slog.New(slog.NewTextHandler(stderr, o))
}

// habit reports whether --json is given without -o.
func (g *globals) habit() bool { return g.json && !g.outputSet }

// documentedKeys writes level and time as the prototype's log lines had them: "level":"info", "ts".
func documentedKeys(groups []string, attr slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return attr
	}
	switch attr.Key {
	case slog.LevelKey:
		return slog.String(slog.LevelKey, strings.ToLower(attr.Value.String()))
	case slog.TimeKey:
		return slog.String("ts", attr.Value.Time().UTC().Format(time.RFC3339Nano))
	}
	return attr
}
