package worker

import (
	"log/slog"
	"os"

	"github.com/vsphere-preemption/vsphere-preemption/internal/channel"
	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
	"github.com/vsphere-preemption/vsphere-preemption/internal/notify"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
	"github.com/vsphere-preemption/vsphere-preemption/internal/remediate"
	"github.com/vsphere-preemption/vsphere-preemption/internal/telemetry"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vcenter"
)

// Preemption lays a file over the default settings of preemption. CloudEvents name the Temporal server and the namespace
// as their source.
func Preemption(f config.File, temporal, namespace string) preempt.Settings {
	s := preempt.DefaultSettings()
	s.Policies, s.AllowedTags, s.MaxCriticality = f.Policies, f.Limits.AllowedTags, f.Limits.MaxCriticality
	s.Observe = f.Mode == policy.ModeObserve
	s.Timing.Outage = f.Limits.Outage
	s.Timing.Tell = len(f.Notifications.Channels) > 0
	s.MakeRoom = preempt.MakeRoom{
		Beneficiaries: f.MakeRoom.Beneficiaries, MaxCPUs: f.MakeRoom.MaxCPUs, MaxMemoryMB: int64(f.MakeRoom.MaxMemoryMB),
		PerHour: f.MakeRoom.PerHour, Hold: f.MakeRoom.Hold,
	}
	s.Self = config.SelfUUIDs(os.DirFS(config.DMI))
	s.EventSource = notify.Source(temporal, namespace)
	return s
}

// Remediation lays a file over the default settings of remediation. What both have is as preemption has it.
func Remediation(f config.File, p preempt.Settings) remediate.Settings {
	s, said := remediate.DefaultSettings(), f.Remediation()
	s.Observe, s.PerHour, s.Moves, s.NeverTouch = said.Observe, said.PerHour, remediate.Bounds(said.Moves), said.NeverTouch
	s.Self, s.EventSource, s.Timing.Outage, s.Timing.Tell = p.Self, p.EventSource, p.Timing.Outage, p.Timing.Tell
	return s
}

// Gateway returns the way to the configured vCenter. It opens no connection; its errors are the operator's to correct.
func Gateway(cfg config.Worker, metrics *telemetry.Metrics, log *slog.Logger) (*vcenter.Gateway, error) {
	v, limits := cfg.VCenter, cfg.File.Limits
	return vcenter.New(vcenter.Config{
		URL: v.URL, SecretPath: v.SecretPath, Insecure: v.Insecure, CAFile: v.CAFile, Thumbprint: v.Thumbprint, Aliases: cfg.File.Aliases,
		MaxConcurrentCalls: limits.VCenterCalls, WithoutCategories: limits.WithoutCategories, TrustedUsers: limits.TrustedUsers,
		Tags: cfg.File.Tags(), Logger: log, Observe: metrics.VCenterCalled, Renewed: metrics.VCenterRenewed, Limited: metrics.VCenterLimited,
	})
}

// Channels returns the channels of the file. Its errors are the operator's to correct, and tell no address.
func Channels(f config.File, env config.Env, sender *notify.Sender) (*channel.Book, error) {
	return channel.New(f.Notifications, env.Get, sender)
}

// WarnInsecure says that nobody verifies vCenter's certificate.
func WarnInsecure(log *slog.Logger) {
	log.Warn("vCenter's certificate is not verified: whoever is in between can read the password; for a test only",
		"reason", "VCENTER_INSECURE=true", "remedy", "set VCENTER_CA_FILE or VCENTER_THUMBPRINT instead")
}
