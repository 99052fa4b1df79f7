package standalone

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
	"github.com/vsphere-preemption/vsphere-preemption/internal/flagwords"
	"github.com/vsphere-preemption/vsphere-preemption/internal/telemetry"
	"github.com/vsphere-preemption/vsphere-preemption/internal/tracing/otlp"
)

// options is what the command line, the environment and the file say together.
type options struct {
	simulate, once     bool
	inMemory, headless bool
	data               string // folder of the server's file
	file               string
	env                config.Env
	set                config.Worker
	tracing            otlp.Settings
	receiver           config.Receiver // Addr is empty where no events are taken over HTTP
	console            string          // address of the console; "": the default, or another where that is taken; off: none

	rehearsalOptions
	demoOptions
}

// options reads the command line and the environment; done tells that there is nothing else to do.
func (p Program) options() (o options, done bool, err error) {
	cmd, ran := p.command(&o)
	if err := cmd.Execute(); err != nil {
		return o, false, wrongUsage(fmt.Errorf("%w; standalone --help shows the usage", err))
	}
	if !*ran {
		return o, true, nil // help or version
	}
	o.env = config.Environ(p.Env)
	if o.once && !o.simulate {
		return o, false, wrongUsage(errors.New("--once ends after the simulated scenario: give --simulate too"))
	}
	err = errors.Join(o.rehearsalOptions.validate(o.simulate), o.demoOptions.validate(o, cmd.Flags().Changed))
	if err != nil {
		return o, false, wrongUsage(err)
	}
	if err := o.readSettings(); err != nil {
		return o, false, wrongUsage(err)
	}
	if !o.inMemory {
		if o.data, err = dataFolder(o.env, o.data, o.simulate); err != nil {
			return o, false, wrongUsage(err)
		}
	}
	return o, false, nil
}

func (p Program) command(o *options) (cmd *cobra.Command, ran *bool) {
	ran = new(bool)
	cmd = &cobra.Command{
		Use:   "standalone",
		Short: "Everything in one process: Temporal, its web UI and a worker; with --simulate also a vCenter to try it on",
		Long: `Run everything in one process: Temporal with its data in a file, its web UI, and a worker.

With --simulate nothing else is needed. The program starts a simulated vCenter, raises an alarm on it, shows which VMs
are found, chosen, powered off, annotated and left alone, and checks the result against vCenter. Then the load of its
clusters rises and falls, the alarm follows it, and preemptctl demo turns its knobs; see docs/demo.md. With --once it ends
instead, with a verdict in one line.

Without --simulate it works on the real vCenter that VCENTER_URL and the worker's other variables name. With rules in the
file (or VSPHERE_ALARM_NAME and VSPHERE_PREEMPTION_TAG) it watches that vCenter's alarms. If PORT is set, it also receives
them as CloudEvents over HTTP there (with RECEIVER_TOKEN_FILE: only from senders with the token).

With --inventory the simulated vCenter is a twin of a real one, saved by govc object.save. The program shows which VMs
carry the tag. With --alarm it raises that alarm, and shows which VMs are powered off and why the others stay on. No
replies are sent to other systems. See docs/rehearse.md.

Exit status: 0 done, 1 failed (with --once also when a VM is not as reported, and where a port that was asked for is taken),
2 wrong usage, 130 interrupted before the scenario has ended.`,
		Example: `  standalone --simulate                     watch two preemptions and room for a VM, then try preemptctl on it
  standalone --simulate --speed 10          the same, and then a day in 72 seconds
  standalone --simulate --once --in-memory  the same as a check that ends
  standalone --simulate --inventory DIR --config preemption.yaml --alarm cluster-cpu-above-80 --on Cluster-1 --red
  VCENTER_URL=https://vcenter.example.com/sdk VCENTER_SECRET_PATH=/etc/preemption standalone`,
		Args: cobra.NoArgs, SilenceErrors: true, SilenceUsage: true,
		Version: p.Build.String(),
		Run:     func(*cobra.Command, []string) { *ran = true },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagwords.Plain(err) })
	f := cmd.Flags()
	f.BoolVar(&o.simulate, "simulate", false, "use a simulated vCenter and show on it two preemptions, and room for a VM")
	f.BoolVar(&o.once, "once", false, "with --simulate: end after the scenario, with 0 only if every VM is as reported")
	f.StringVar(&o.data, "data", "", "folder for Temporal's data (default vsphere-preemption in $XDG_DATA_HOME or ~/.local/share)")
	f.BoolVar(&o.inMemory, "in-memory", false, "keep Temporal's data in memory, so that it is lost at the end")
	f.StringVar(&o.console, "console", "", "address of the console, or off (default 127.0.0.1:8234, or a free port); beyond this machine it needs UI_TOKEN_FILE or UI_TRUSTED_HEADER")
	f.BoolVar(&o.headless, "headless", false, "do not start the Temporal web UI")
	f.StringVarP(&o.file, "config", "f", "", "the YAML file with policies and limits (default $PREEMPTION_CONFIG)")
	o.demoOptions.flags(f)
	o.rehearsalOptions.flags(f)
	cmd.SetArgs(p.Args)
	if p.Args == nil {
		cmd.SetArgs([]string{}) // nil would mean the process's own
	}
	cmd.SetOut(p.Stdout)
	cmd.SetErr(p.Stderr)
	cmd.SetVersionTemplate("standalone {{.Version}}\n")
	return cmd, ran
}

// readSettings reads the same settings as the worker, but that Temporal is our own, and in a simulation vCenter too.
func (o *options) readSettings() (err error) {
	if o.env.Get("VCENTER_URL") == "" && !o.simulate {
		return errors.New("VCENTER_URL is not set: set it to https://<host>/sdk, or give --simulate to try everything without a vCenter")
	}
	env := config.Env{
		"TEMPORAL_URL":       "127.0.0.1:7233", // replaced by what the embedded server listens on
		"TEMPORAL_NAMESPACE": preemption.DefaultNamespace, "TEMPORAL_TASKQUEUE": preemption.DefaultTaskQueue,
		"LOG_FORMAT": telemetry.Text, "VCENTER_URL": "127.0.0.1",
	}
	names := []string{"TEMPORAL_NAMESPACE", "TEMPORAL_TASKQUEUE", "LOG_FORMAT", "DEBUG", "HTTP_ADDR", "PREEMPTION_CONFIG", "UI_TOKEN_FILE", "UI_TRUSTED_HEADER"}
	if o.simulate {
		names = append(names, o.environment(env)...)
	} else {
		names = append(names, "VSPHERE_ALARM_NAME", "VSPHERE_PREEMPTION_TAG", "K_SINK", "VCENTER_URL", "VCENTER_SECRET_PATH", "VCENTER_INSECURE", "VCENTER_CA_FILE", "VCENTER_THUMBPRINT")
	}
	for _, name := range names {
		if value := o.env.Get(name); value != "" {
			env[name] = value
		}
	}
	if o.tracing, err = otlp.Read(o.env.Get); err != nil {
		return err
	}
	o.set, err = config.LoadWorker(env, o.file)
	if port := o.env.Get("PORT"); err == nil && (port != "" || o.simulate) {
		env["PORT"], env["RECEIVER_TOKEN_FILE"] = cmp.Or(port, demoPort), o.env.Get("RECEIVER_TOKEN_FILE")
		o.receiver, err = config.LoadReceiver(env, o.file)
	}
	if o.inventory != "" {
		o.set.File.Rules, o.receiver.Rules = silenced(o.set.File.Rules), silenced(o.receiver.Rules)
	}
	return err
}

// demoPort is where a simulation takes events over HTTP, on the loopback address and if it is free.
const demoPort = "8081"

// dataFolder is where the server's file lies. A simulation has a folder of its own inside: what it leaves behind speaks
// of VMs that are gone, and must never be mixed with work on a real vCenter.
func dataFolder(env config.Env, asked string, simulate bool) (string, error) {
	dir := asked
	if dir == "" {
		base := env.Get("XDG_DATA_HOME")
		if !filepath.IsAbs(base) { // as the XDG specification says
			home := env.Get("HOME")
			if home == "" {
				var err error
				if home, err = os.UserHomeDir(); err != nil {
					return "", fmt.Errorf("find a folder for Temporal's data: %w: name one with --data, or give --in-memory", err)
				}
			}
			base = filepath.Join(home, ".local", "share")
		}
		dir = filepath.Join(base, "vsphere-preemption")
	}
	if simulate {
		dir = filepath.Join(dir, "simulation")
	}
	return filepath.Abs(dir)
}

// logger writes to stderr. A simulation tells its story on stdout, so only what is of the level or above is logged
// beside it, unless everything is asked for.
func (p Program) logger(o options, level slog.Leveler) *slog.Logger {
	l := telemetry.New(p.Stderr, o.set.Log.Format, o.set.Log.Debug)
	if o.simulate && !o.set.Log.Debug {
		return slog.New(calm{Handler: l.Handler(), level: level})
	}
	return l
}
