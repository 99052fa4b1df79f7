package config

import (
	"errors"

	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// Receiver is the configuration of the receiver of CloudEvents.
type Receiver struct {
	Temporal  Temporal
	Log       Log
	Addr      string // to listen on
	TokenFile string // holds the bearer token that senders must show; "" for none
	Path      string // of the YAML file; "" for none
	Rules     []trigger.Rule
	Warnings  []string // see File
}

// defaultPort is Knative's.
const defaultPort = "8080"

// LoadReceiver reads the receiver's settings: the environment, and the rules of the YAML file at path or,
// where that is empty, at PREEMPTION_CONFIG. VSPHERE_ALARM_NAME, VSPHERE_PREEMPTION_TAG and K_SINK are one
// rule, applied first; with rules in the file they may be left out. Its error joins one error per problem.
func LoadReceiver(env Env, path string) (Receiver, error) {
	r := reader{env: env}
	out := Receiver{Path: path, TokenFile: env.Get("RECEIVER_TOKEN_FILE")}
	if out.Path == "" {
		out.Path = env.Get("PREEMPTION_CONFIG")
	}
	out.Temporal = r.temporalRequired()
	out.Log = r.log(formatJSON)
	port := env.Get("PORT")
	if port == "" {
		port = defaultPort
	}
	out.Addr = ":" + port
	if err := checkAddress(out.Addr, true); err != nil {
		r.problem("PORT", "%q is no port from 1 to 65535", port)
	}
	file, required := DefaultFile(), true
	if out.Path != "" {
		var err error
		file, err = ReadFile(out.Path)
		r.errs = append(r.errs, split(err)...)
		required = err == nil && len(file.Rules) == 0
	}
	out.Warnings = file.Warnings
	out.Rules = append(r.environmentRule(file, required), file.Rules...)
	return out, errors.Join(r.errs...)
}

// environmentRule is the rule of the documented variables of the function; required tells that there is no
// other.
func (r *reader) environmentRule(file File, required bool) []trigger.Rule {
	name, tag, sink := r.env.Get("VSPHERE_ALARM_NAME"), r.env.Get("VSPHERE_PREEMPTION_TAG"), r.env.Get("K_SINK")
	if name == "" && tag == "" && !required {
		return nil
	}
	r.require("VSPHERE_ALARM_NAME", name, "the name of the alarm to act upon, such as cluster-cpu-above-80, or give rules in the file that PREEMPTION_CONFIG names")
	r.require("VSPHERE_PREEMPTION_TAG", tag, "the tag that marks preemptible VMs, such as preemptible")
	if err := checkReplyTo(sink); err != nil {
		r.problem("K_SINK", "%w", err)
	}
	p := trigger.Preempt{Tag: tag, Policy: DefaultPolicy, Scope: file.Policies[DefaultPolicy].Scope, ReplyTo: sink, OnFall: trigger.OnFallCancel}
	if err := refusedByLimits(p, file.Limits); err != nil && tag != "" {
		r.problem("VSPHERE_PREEMPTION_TAG", "%w", err)
	}
	return []trigger.Rule{{Alarm: name, Action: p}}
}
