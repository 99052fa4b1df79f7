package standalone

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
)

// The simulated site: one cluster in need, one that is not.
const (
	contended   = "cluster-a"
	other       = "cluster-b"
	alarmName   = "cluster-cpu-above-80"
	busyCPU     = 92.0 // percent of the contended cluster at the start
	busyMemory  = 74.0
	otherCPU    = 84.0 // percent of the other cluster
	otherMemory = 55.0
	calmCPU     = 45.0 // percent of a cluster when the pressure is over
	taggedThere = 4    // tagged VMs of the other cluster

	firstOff     = 500 * time.Millisecond // how long the quickest power-off takes
	eachOff      = 250 * time.Millisecond // and how much longer each next one
	guestNeeds   = 1500 * time.Millisecond
	eamExtension = "com.vmware.vim.eam"
)

// startVCenter fills and serves the simulated vCenter, and points the settings at it.
func (s *stack) startVCenter(ctx context.Context) error {
	// Its life does not end with ctx: it must outlive the worker, which stop takes care of.
	o := simulation.Options{
		Clusters: 2, HostsPerCluster: 4, VMsPerCluster: 20, Tagged: 10, Tag: preemption.DefaultTag, ExtraTags: 5,
	}
	if s.inventory != "" {
		o = simulation.Options{Inventory: s.inventory, Tag: s.tags()[0], TaggedNames: s.tagged}
	}
	vc, err := simulation.Start(context.WithoutCancel(ctx), o)
	if err != nil {
		return fmt.Errorf("start the simulated vCenter: %w", err)
	}
	s.onStop(vc.Close)
	secret, err := os.MkdirTemp("", "standalone-")
	if err != nil {
		return fmt.Errorf("make a folder for the simulated vCenter's credentials: %w", err)
	}
	s.onStop(func() { _ = os.RemoveAll(secret) })
	if err := vc.WriteSecret(secret); err != nil {
		return err
	}
	if s.inventory == "" {
		err = furnish(vc)
	}
	if err != nil {
		return fmt.Errorf("furnish the simulated vCenter: %w", err)
	}
	s.vcenter = vc
	s.set.VCenter.URL, s.set.VCenter.SecretPath, s.set.VCenter.Insecure = vc.URL(), secret, true
	return nil
}

// furnish makes the site worth looking at: of the tagged VMs some must be left alone, each for another reason.
func furnish(vc *simulation.VCenter) error {
	batch := vc.TaggedVMs(contended)
	off := types.VirtualMachinePowerStatePoweredOff
	isOff, busy, template, agent := batch[2].Ref, batch[4].Ref, batch[6].Ref, batch[8].Ref
	err := errors.Join(
		vc.SetPowerState(isOff, off),
		vc.SetDisabledMethods(busy, "PowerOffVM_Task", "ShutdownGuest", "RelocateVM_Task"),
		vc.SetPowerState(template, off), vc.SetTemplate(template),
		vc.SetManagedBy(agent, eamExtension, "cluster-agent"),
	)
	err = errors.Join(err,
		vc.SetTags(batch[9].Ref, policy.CategoryProtect, policy.TagDoNotPreempt),
		vc.SetTags(batch[7].Ref, policy.CategoryGroup, "web"), vc.SetTags(batch[5].Ref, policy.CategoryGroup, "web"),
	)
	there := vc.TaggedVMs(other)
	vc.IgnoreShutdown(there[taggedThere-1].Ref)
	for _, vm := range there[taggedThere:] {
		err = errors.Join(err, vc.DetachTag("preemption", preemption.DefaultTag, vm.Ref))
	}
	for i, vm := range batch {
		vc.SetTaskDelayFor(vm.Ref, firstOff+time.Duration(i)*eachOff)
	}
	vc.SetShutdownDelay(guestNeeds)
	return errors.Join(err, vc.SetClusterUsage(contended, busyCPU, busyMemory), vc.SetClusterUsage(other, otherCPU, otherMemory))
}
