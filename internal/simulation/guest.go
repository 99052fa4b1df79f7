package simulation

import (
	"fmt"
	"slices"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// The keys by which a notice reaches a guest, and by which it answers.
const (
	NoticeKey = "guestinfo.preemption"
	ReplyKey  = "guestinfo.preemption.reply"
)

// GuestReply lets the VM's guest answer notices: whenever NoticeKey gets a value while the VM is on and its tools
// run, reply says what the guest writes to ReplyKey, and how long after; "" writes nothing. A nil func withdraws that.
func (v *VCenter) GuestReply(ref types.ManagedObjectReference, reply func(notice string) (answer string, after time.Duration)) {
	v.machines.with(ref, func(b *behaviour) { b.reply = reply })
}

// GuestInfo is the value of a key below guestinfo. in the model; empty if the VM has none.
func (v *VCenter) GuestInfo(ref types.ManagedObjectReference, key string) (value string) {
	v.withVM(ref, func(_ *simulator.Context, vm *simulator.VirtualMachine) {
		for _, option := range vm.Config.ExtraConfig {
			if o := option.GetOptionValue(); o.Key == key {
				value, _ = o.Value.(string)
			}
		}
	})
	return value
}

// SetGuestInfo writes a key below guestinfo. as the guest does, without a task or an event; "" removes it.
func (v *VCenter) SetGuestInfo(ref types.ManagedObjectReference, key, value string) error {
	return v.mustVM(ref, "set "+key, func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
		options := slices.DeleteFunc(slices.Clone(vm.Config.ExtraConfig), func(option types.BaseOptionValue) bool {
			return option.GetOptionValue().Key == key
		})
		if value != "" {
			options = append(options, &types.OptionValue{Key: key, Value: value})
		}
		ctx.Update(vm, []types.PropertyChange{{Name: "config.extraConfig", Val: options}})
	})
}

// noticed lets the guest read what a reconfiguration told it; the caller holds the VM's lock.
func (m *machine) noticed(spec *types.VirtualMachineConfigSpec) {
	var reply func(string) (string, time.Duration)
	m.vcenter.machines.with(m.Self, func(b *behaviour) { reply = b.reply })
	guest := m.vm.Guest
	if reply == nil || m.vm.Runtime.PowerState != on || guest == nil || guest.ToolsRunningStatus != string(types.VirtualMachineToolsRunningStatusGuestToolsRunning) {
		return
	}
	for _, option := range spec.ExtraConfig {
		o := option.GetOptionValue()
		if notice := fmt.Sprint(o.Value); o.Key == NoticeKey && notice != "" {
			m.answer(reply(notice))
		}
	}
}

// answer writes the guest's answer later, unless it was powered off or restarted meanwhile.
func (m *machine) answer(text string, after time.Duration) {
	v, boots := m.vcenter, m.vcenter.machines.boots(m.Self)
	if text == "" || !v.begin() {
		return
	}
	go func() {
		defer v.work.Done()
		if v.sleep(after) && v.PowerState(m.Self) == on && v.machines.boots(m.Self) == boots {
			_ = v.SetGuestInfo(m.Self, ReplyKey, text) // the VM may be gone
		}
	}()
}

// knownKeys drops the removal of keys that the VM does not have, which the simulator would add as empty ones.
func (m *machine) knownKeys(options []types.BaseOptionValue) []types.BaseOptionValue {
	return slices.DeleteFunc(slices.Clone(options), func(option types.BaseOptionValue) bool {
		o := option.GetOptionValue()
		return o.Value == "" && !slices.ContainsFunc(m.vm.Config.ExtraConfig, func(has types.BaseOptionValue) bool {
			return has.GetOptionValue().Key == o.Key
		})
	})
}
