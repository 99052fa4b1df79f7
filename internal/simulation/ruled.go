package simulation

import (
	"slices"

	"github.com/vmware/govmomi/vim25/types"
)

// ruledOut returns the fault of an enabled rule of the cluster that the VM would break on the host, and whether it must
// not: a rule between VMs and hosts may say only that it should not. One that it must keep comes first.
func (s *standing) ruledOut(h hostRoom) (fault types.BaseMethodFault, must bool) {
	for _, rule := range s.config.Rule {
		if !isTrue(rule.GetClusterRuleInfo().Enabled) {
			continue
		}
		broken, mandatory := s.breaks(rule, h)
		if broken != nil && mandatory {
			return broken, true
		}
		if broken != nil {
			fault = broken
		}
	}
	return fault, false
}

func (s *standing) breaks(rule types.BaseClusterRuleInfo, h hostRoom) (fault types.BaseMethodFault, mandatory bool) {
	host := h.Ref
	switch r := rule.(type) {
	case *types.ClusterVmHostRuleInfo:
		if !slices.Contains(s.vmsOf(r.VmGroupName), s.vm.ref) {
			return nil, false
		}
		if r.AffineHostGroupName != "" && !slices.Contains(s.hostsOf(r.AffineHostGroupName), host) ||
			r.AntiAffineHostGroupName != "" && slices.Contains(s.hostsOf(r.AntiAffineHostGroupName), host) {
			return &types.VmHostAffinityRuleViolation{VmName: s.vm.name, HostName: h.Name}, isTrue(r.Mandatory)
		}
	case *types.ClusterAffinityRuleSpec:
		if slices.Contains(r.Vm, s.vm.ref) && s.runs(r.Vm, func(at types.ManagedObjectReference) bool { return at != host }) {
			return &types.RuleViolation{Host: &host, Rule: rule}, true
		}
	case *types.ClusterAntiAffinityRuleSpec:
		if slices.Contains(r.Vm, s.vm.ref) && s.runs(r.Vm, func(at types.ManagedObjectReference) bool { return at == host }) {
			return &types.RuleViolation{Host: &host, Rule: rule}, true
		}
	}
	return nil, false
}

// runs reports whether one of the VMs runs on a host like that.
func (s *standing) runs(vms []types.ManagedObjectReference, like func(host types.ManagedObjectReference) bool) bool {
	return slices.ContainsFunc(s.vms, func(c claim) bool { return slices.Contains(vms, c.ref) && like(c.host) })
}

// vmsOf are the VMs of a group of the cluster.
func (s *standing) vmsOf(group string) []types.ManagedObjectReference {
	for _, g := range s.config.Group {
		if vms, ok := g.(*types.ClusterVmGroup); ok && vms.Name == group {
			return vms.Vm
		}
	}
	return nil
}

func (s *standing) hostsOf(group string) []types.ManagedObjectReference {
	for _, g := range s.config.Group {
		if hosts, ok := g.(*types.ClusterHostGroup); ok && hosts.Name == group {
			return hosts.Host
		}
	}
	return nil
}
