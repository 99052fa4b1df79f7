package restore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/sdk/temporal"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
)

// Setup is what the worker adds to the input of a restore.
type Setup struct {
	Policy     policy.Policy  `json:"policy"`
	PolicyName string         `json:"policyName"`
	PolicyHash string         `json:"policyHash"`
	Timing     preempt.Timing `json:"timing"`
	Attrs      bool           `json:"attrs,omitempty"`
}

// PrepareRestore checks what is asked for and pins the policy. It looks nothing up outside.
func (a *Activities) PrepareRestore(_ context.Context, in preemptapi.RestoreInput) (Setup, error) {
	out := Setup{PolicyName: in.PolicyName, PolicyHash: in.PolicyHash, Timing: a.Settings.Timing, Attrs: a.AttributesRegistered()}
	refuse := func(format string, args ...any) (Setup, error) {
		return Setup{}, temporal.NewNonRetryableApplicationError(fmt.Sprintf(format, args...), preempt.RequestRejected, nil)
	}
	switch {
	case strings.TrimSpace(in.Tag) == "":
		return refuse("tag is empty: name the tag that marks preemptible VMs")
	case len(a.Settings.AllowedTags) > 0 && !slices.Contains(a.Settings.AllowedTags, in.Tag):
		return refuse("tag %q is not among the allowed tags %q of this worker (limits.allowedTags)", preempt.Clip(in.Tag), a.Settings.AllowedTags)
	case len(in.VMs) > preempt.MaxNamed:
		return refuse("%d VMs are named: at most %d are taken", len(in.VMs), preempt.MaxNamed)
	}
	if err := preempt.CheckReply(in.ReplyTo); err != nil {
		return refuse("%s", err)
	}
	if in.Policy != nil {
		out.Policy = *in.Policy
	} else {
		if out.PolicyName == "" {
			out.PolicyName = "default"
		}
		p, ok := a.Settings.Policies[out.PolicyName]
		if !ok {
			return refuse("unknown policy %q: the worker's file has no such policy", preempt.Clip(out.PolicyName))
		}
		out.Policy, out.PolicyHash = p, p.Hash()
	}
	if out.Policy.Restore == (policy.Restore{}) {
		out.Policy.Restore = policy.DefaultRestore()
	}
	if a.Settings.Observe {
		out.Policy.Mode = policy.ModeObserve
	}
	return out, nil
}
