package config

import (
	"cmp"
	"crypto/tls"
	"errors"
	"strings"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
)

// Temporal says how to reach Temporal.
type Temporal struct {
	Options   client.Options // ready to dial; HostPort and Namespace are empty where nothing names them
	TaskQueue string         // empty where nothing names it
}

// ReadTemporal reads how to reach Temporal, as Temporal's own tools do (TEMPORAL_ADDRESS,
// TEMPORAL_NAMESPACE, TEMPORAL_TLS_*, TEMPORAL_API_KEY, TEMPORAL_PROFILE, TEMPORAL_CONFIG_FILE), but that
// TEMPORAL_URL beats every other address. It requires nothing: the program knows its defaults.
func ReadTemporal(env Env) (Temporal, error) {
	r := reader{env: env}
	t := r.temporal()
	return t, errors.Join(r.errs...)
}

// temporalRequired reads how to reach Temporal, for programs without defaults of their own.
func (r *reader) temporalRequired() Temporal {
	t := r.temporal()
	r.require("TEMPORAL_URL", t.Options.HostPort, "the address of Temporal's frontend as host:port, such as temporal-frontend:7233 (TEMPORAL_ADDRESS does too)")
	r.require("TEMPORAL_NAMESPACE", t.Options.Namespace, "the Temporal namespace, such as vsphere-preemption")
	r.require("TEMPORAL_TASKQUEUE", t.TaskQueue, "the Temporal task queue, such as vsphere-preemption")
	return t
}

func (r *reader) temporal() Temporal {
	t := Temporal{TaskQueue: r.env.Get("TEMPORAL_TASKQUEUE")}
	profile, err := envconfig.LoadClientConfigProfile(envconfig.LoadClientConfigProfileOptions{EnvLookup: r.env})
	if err != nil {
		r.problem("TEMPORAL_CONFIG_FILE, TEMPORAL_PROFILE", "%w", err)
	}
	t.Options, err = profile.ToClientOptions(envconfig.ToClientOptionsRequest{})
	if err != nil {
		r.problem("TEMPORAL_TLS_*", "%w", err)
	}
	r.flag("TEMPORAL_TLS")
	r.flag("TEMPORAL_TLS_DISABLE_HOST_VERIFICATION")
	rotate(t.Options.ConnectionOptions.TLS, profile.TLS)
	// Taken from the environment once more: nothing is in the options where something is wrong.
	t.Options.Namespace = cmp.Or(r.env.Get("TEMPORAL_NAMESPACE"), strings.TrimSpace(t.Options.Namespace))
	t.Options.HostPort = cmp.Or(r.env.Get("TEMPORAL_URL"), r.env.Get("TEMPORAL_ADDRESS"), strings.TrimSpace(t.Options.HostPort))
	name := "TEMPORAL_ADDRESS"
	if r.env.Get("TEMPORAL_URL") != "" {
		name = "TEMPORAL_URL"
	}
	if address := t.Options.HostPort; address != "" {
		// gRPC takes a resolver before the address, as in dns:///temporal:7233.
		if err := checkAddress(strings.TrimPrefix(address, "dns:///"), false); err != nil {
			r.problem(name, "%q %w; set it to host:port without a scheme, such as temporal-frontend:7233", address, err)
		}
	}
	return t
}

// flag refuses what envconfig would silently ignore.
func (r *reader) flag(name string) {
	switch value := strings.ToLower(r.env[name]); value {
	case "", "0", "1", "true", "false":
	default:
		r.problem(name, "%q is neither true nor false", r.env[name])
	}
}

// rotate reads the client certificate again at each connection, so that a renewed one is taken up
// without a restart.
func rotate(conf *tls.Config, from *envconfig.ClientConfigTLS) {
	if conf == nil || from == nil || from.ClientCertPath == "" || from.ClientKeyPath == "" {
		return
	}
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		cert, err := tls.LoadX509KeyPair(from.ClientCertPath, from.ClientKeyPath)
		return &cert, err
	}
}
