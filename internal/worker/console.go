package worker

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"go.temporal.io/sdk/client"

	"github.com/vsphere-preemption/vsphere-preemption/internal/bearer"
	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
	"github.com/vsphere-preemption/vsphere-preemption/internal/console"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
)

// Console returns the console of a worker, with the rules and policies of its file. Its errors are the operator's to
// correct.
func Console(cfg config.Worker, c client.Client, version string, log *slog.Logger) (*console.Console, error) {
	guard := console.Guard{Addr: cfg.UI.Addr, Header: cfg.UI.Header}
	if cfg.UI.TokenFile != "" {
		token, err := bearer.Read(cfg.UI.TokenFile, log)
		if err != nil {
			return nil, fmt.Errorf("UI_TOKEN_FILE: %w", err)
		}
		guard.Token = token
	}
	if err := guard.Check(); err != nil {
		return nil, fmt.Errorf("UI_ADDR: %w; set UI_TOKEN_FILE or UI_TRUSTED_HEADER", err)
	}
	rules := consoleRules(cfg)
	options := cfg.Temporal.Options
	return console.New(console.Config{
		Record: &record.Reader{Client: c, Namespace: options.Namespace, TaskQueue: cfg.Temporal.TaskQueue},
		Server: options.HostPort, Guard: guard, Version: version, Rules: func() console.Rules { return rules }, Log: log,
	})
}

// consoleRules writes the rules and policies of a worker in words.
func consoleRules(cfg config.Worker) console.Rules {
	out := console.Rules{File: cfg.Path, Observes: cfg.File.Mode == policy.ModeObserve, Warnings: append([]string{}, cfg.File.Warnings...), Rules: []console.Rule{}, Policies: []console.Policy{}}
	for _, r := range cfg.File.Rules {
		when := "event " + string(r.Class)
		if r.Alarm != "" {
			when = "alarm " + r.Alarm
		}
		does := string(r.Action.Kind())
		if tag := r.Action.VMTag(); tag != "" {
			does += ": VMs tagged " + tag
		}
		if !r.Action.Acts() {
			does += ", only recommended"
		}
		out.Rules = append(out.Rules, console.Rule{Name: r.Name(), When: when, Does: does})
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.File.Policies)) {
		out.Policies = append(out.Policies, console.PolicyOf(name, cfg.File.Policies[name]))
	}
	return out
}
