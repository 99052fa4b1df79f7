package simulation

import (
	"fmt"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// Admission is the admission control of a cluster. It follows what is documented of vCenter: a power-on asks for the
// VM's reservations and its memory overhead, never for what it will use; the host must have them unreserved, and what
// vSphere HA keeps back for a failover must stay.
type Admission struct {
	// HA is the policy that the cluster's dasConfig gets: a percentage
	// (*types.ClusterFailoverResourcesAdmissionControlPolicy), slots (*types.ClusterFailoverLevelAdmissionControlPolicy) or
	// hosts (*types.ClusterFailoverHostAdmissionControlPolicy). A *types.ClusterDasAdmissionControlPolicy turns HA on
	// without admission control. nil leaves the dasConfig as it is, which for a cluster that was built is: no HA.
	HA types.BaseClusterDasAdmissionControlPolicy
	// HostKeeps is what each host keeps for itself, and no VM can reserve.
	HostKeeps Reservation
}

// admission is the admission control of the clusters that have one.
type admission struct {
	gate sync.Mutex // held from a check until its VM is on; taken before the locks of hosts and VMs

	mu       sync.Mutex // a leaf
	of       map[types.ManagedObjectReference]Admission
	promised map[types.ManagedObjectReference]types.ManagedObjectReference // VM to the host on which it is about to start
	pools    []*pool
}

// SetAdmission gives a cluster admission control: from now on a power-on that it does not admit is refused as vCenter
// refuses it, and DRS places VMs by it and by the cluster's rules. Without it the simulated vCenter looks at the memory that
// is in use instead. nil ends it.
func (v *VCenter) SetAdmission(cluster string, a *Admission) error {
	ctx := v.context("")
	c, ok := ctx.Map.Get(v.Cluster(cluster).Ref).(*simulator.ClusterComputeResource)
	if !ok {
		return fmt.Errorf("set the admission control of %s: the simulated vCenter has no such cluster", cluster)
	}
	if a != nil && a.HA != nil {
		enabled, err := controls(a.HA)
		if err != nil {
			return fmt.Errorf("set the admission control of %s: %w", cluster, err)
		}
		ctx.WithLock(c, func() {
			config := types.ClusterConfigInfoEx{}
			if before, ok := c.ConfigurationEx.(*types.ClusterConfigInfoEx); ok {
				config = *before
			}
			config.DasConfig.Enabled, config.DasConfig.AdmissionControlEnabled = types.NewBool(true), types.NewBool(enabled)
			config.DasConfig.AdmissionControlPolicy = a.HA
			ctx.Update(c, []types.PropertyChange{{Name: "configurationEx", Val: &config}})
		})
	}
	v.admission.mu.Lock()
	defer v.admission.mu.Unlock()
	if a == nil {
		delete(v.admission.of, c.Self)
		return nil
	}
	if v.admission.of == nil {
		v.admission.of = map[types.ManagedObjectReference]Admission{}
		v.admission.promised = map[types.ManagedObjectReference]types.ManagedObjectReference{}
	}
	v.admission.of[c.Self] = *a
	return nil
}

// controls reports whether HA refuses power-ons by that policy.
func controls(policy types.BaseClusterDasAdmissionControlPolicy) (bool, error) {
	switch policy.(type) {
	case *types.ClusterFailoverResourcesAdmissionControlPolicy, *types.ClusterFailoverLevelAdmissionControlPolicy,
		*types.ClusterFailoverHostAdmissionControlPolicy:
		return true, nil
	case *types.ClusterDasAdmissionControlPolicy:
		return false, nil
	}
	return false, fmt.Errorf("the simulated vCenter knows no policy %T", policy)
}

// promise notes that a VM is about to start on a host: what it will reserve is not given to another.
func (a *admission) promise(vm, host types.ManagedObjectReference) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.promised[vm] = host
}

// settle ends a promise: the VM is on, or will not be.
func (a *admission) settle(vm types.ManagedObjectReference) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.promised, vm)
}

func (a *admission) control(cluster types.ManagedObjectReference) (Admission, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	control, ok := a.of[cluster]
	return control, ok
}

func (a *admission) promisedTo(vm types.ManagedObjectReference) types.ManagedObjectReference {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.promised[vm]
}

// refused returns why a VM cannot be powered on on a host, nil if it can; the zero host is the one where it is. Where
// the cluster has admission control, and where the fault was ordered by FailTaskOf, vCenter's event of it is posted.
func (v *VCenter) refused(vm, host types.ManagedObjectReference, user string) types.BaseMethodFault {
	fault := v.methodFault("PowerOnVM_Task", vm)
	told := fault != nil
	if fault == nil {
		fault = v.refusePowerOn(vm, host)
		_, told = v.standing(vm)
	}
	if fault != nil && told {
		ctx := v.context(user)
		v.withVM(vm, func(_ *simulator.Context, m *simulator.VirtualMachine) {
			v.post(ctx, &types.VmFailedToPowerOnEvent{VmEvent: v.vmEvent(ctx, m), Reason: localized(fault)})
		})
	}
	return fault
}

// localized is the fault with the words that vCenter has for it.
func localized(fault types.BaseMethodFault) types.LocalizedMethodFault {
	return types.LocalizedMethodFault{Fault: fault, LocalizedMessage: words(fault)}
}

func words(fault types.BaseMethodFault) string {
	switch fault.(type) {
	case *types.InsufficientFailoverResourcesFault:
		return "Insufficient resources to satisfy configured failover level for vSphere HA."
	case *types.InsufficientMemoryResourcesFault:
		return "The available Memory resources in the parent resource pool are insufficient for the operation."
	case *types.InsufficientCpuResourcesFault:
		return "The available CPU resources in the parent resource pool are insufficient for the operation."
	case *types.NoCompatibleHost:
		return "No host is compatible with the virtual machine."
	}
	return fmt.Sprintf("%T", fault)
}
