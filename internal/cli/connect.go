package cli

import (
	"strings"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/console"
)

// target is the Temporal server to connect to.
type target struct {
	address, namespace, queue string
	options                   client.Options
}

// findTarget takes each setting from its flag, else the environment, else the profile, else the default.
// TLS, API key and headers are read as Temporal's own client profile reads them. A profile file is read
// only if TEMPORAL_PROFILE or TEMPORAL_CONFIG_FILE asks for it: another tool's default profile must not
// decide which namespace a preemption goes to.
func (a *app) findTarget(cmd *cobra.Command) (target, error) {
	env := func(name string) string {
		v, _ := a.Env.LookupEnv(name)
		return strings.TrimSpace(v)
	}
	opts, err := envconfig.LoadClientOptions(envconfig.LoadClientOptionsRequest{
		EnvLookup:   a.Env,
		DisableFile: env("TEMPORAL_PROFILE") == "" && env("TEMPORAL_CONFIG_FILE") == "",
	})
	if err != nil {
		return target{}, usagef("the Temporal client settings (TEMPORAL_* variables) cannot be used: %w", err)
	}
	pick := func(flag string, value string, others ...string) string {
		if cmd.Flags().Changed(flag) {
			return value
		}
		for _, other := range others {
			if other != "" {
				return other
			}
		}
		return value
	}
	t := target{
		address:   pick("server", a.flags.server, env("TEMPORAL_URL"), env("TEMPORAL_ADDRESS"), opts.HostPort),
		namespace: pick("namespace", a.flags.namespace, env("TEMPORAL_NAMESPACE"), opts.Namespace),
		queue:     pick("queue", a.flags.queue, env("TEMPORAL_TASKQUEUE")),
		options:   opts,
	}
	t.options.HostPort, t.options.Namespace = t.address, t.namespace
	return t, nil
}

// command returns a command line of preemptctl that reaches the same Temporal as this one.
func (a *app) command(args ...string) string {
	return console.Target{Server: a.target.address, Namespace: a.target.namespace, Queue: a.target.queue}.Command(args...)
}

// ofWorkflow returns the arguments that name a workflow. They are left out for the default one.
func ofWorkflow(id string, args ...string) []string {
	if id != preemption.DefaultWorkflowID {
		args = append(args, "--workflow-id", id)
	}
	return args
}
