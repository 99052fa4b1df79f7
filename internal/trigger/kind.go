package trigger

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/placement"
)

// Kind is what a rule does, as files name it. The set is closed: kinds has a row for each.
type Kind string

// The kinds of rules.
const (
	KindPreempt     Kind = "preempt"
	KindResize      Kind = placement.KindResize
	KindReconfigure Kind = placement.KindReconfigure
	KindMove        Kind = placement.KindMove
	KindMakeRoom    Kind = "makeRoom"
)

// kinds says of each kind which events may start it and what it needs. The fields of a row have no names, so that a row
// that lacks one does not compile. TestEachKindIsHandled holds it complete.
var kinds = []kindRow{
	{KindPreempt, []alarm.Class{alarm.ClassAlarm}, []string{"Global.SetCustomField"}}, // and those of its action
	{KindResize, []alarm.Class{alarm.ClassAlarm}, resizePrivileges},
	{KindReconfigure, []alarm.Class{alarm.ClassPoweredOff}, resizePrivileges},
	{KindMove, []alarm.Class{alarm.ClassAlarm}, []string{
		"VirtualMachine.Config.DiskExtend", "VirtualMachine.Config.EditDevice", "Resource.AssignVMToPool", "Resource.ColdMigrate",
		"Resource.HotMigrate", "Resource.QueryVMotion", "Datastore.AllocateSpace", "StorageProfile.View",
	}},
	{KindMakeRoom, []alarm.Class{alarm.ClassPowerOnFailed, alarm.ClassNoResources, alarm.ClassFailoverFailed, alarm.ClassFailoverShort}, []string{
		"Global.SetCustomField", "VirtualMachine.Interact.PowerOn", // and those of the policy's action
	}},
}

var resizePrivileges = []string{
	"VirtualMachine.Config.CPUCount", "VirtualMachine.Config.Memory", "VirtualMachine.Config.Resource", "VirtualMachine.Config.Settings",
}

type kindRow struct {
	kind       Kind
	on         []alarm.Class // events that may start it
	privileges []string      // that it needs in vCenter
}

// Kinds lists the kinds of rules.
func Kinds() []Kind {
	all := make([]Kind, 0, len(kinds))
	for _, row := range kinds {
		all = append(all, row.kind)
	}
	return all
}

// On lists the classes of events that may start a rule of the kind; none for a kind that has no row.
func (k Kind) On() []alarm.Class { return k.row().on }

// OnAlarm reports whether rules of the kind are on an alarm.
func (k Kind) OnAlarm() bool { return slices.Contains(k.On(), alarm.ClassAlarm) }

// Events lists the classes of events other than alarms that may start a rule of the kind.
func (k Kind) Events() []alarm.Class {
	return slices.DeleteFunc(slices.Clone(k.On()), func(c alarm.Class) bool { return c == alarm.ClassAlarm })
}

// Privileges lists those that a rule of the kind needs in vCenter.
func (k Kind) Privileges() []string { return k.row().privileges }

func (k Kind) row() kindRow {
	for _, row := range kinds {
		if row.kind == k {
			return row
		}
	}
	return kindRow{}
}

// Action says what a rule does about an event that it matches. There is one type for each kind.
type Action interface {
	// Kind is the kind of the rules that do it.
	Kind() Kind
	// Order returns what to tell Temporal. Its error wraps ErrRefused; ok is false where there is nothing
	// to be done, for the reason given.
	Order(in Incoming, rule string) (order Order, reason string, ok bool, err error)
	// Acts reports whether it changes VMs, rather than recommends that somebody does.
	Acts() bool
	// VMTag is the tag of the VMs that it may touch; "" where it does not go by a tag.
	VMTag() string
	// WithoutReply returns the action without the address that it answers to.
	WithoutReply() Action
	// Reply is the address of its CloudEvents; "" for none.
	Reply() string
}

// accepts refuses an event that may not start a rule of the kind. who and what say so in words.
func (k Kind) accepts(e alarm.Event, who, what string) error {
	if slices.Contains(k.On(), e.Class) {
		return nil
	}
	return fmt.Errorf("%w: %s wants %s", ErrRefused, who, what)
}

// listed writes classes as alternatives.
func listed(classes []alarm.Class) string {
	names := make([]string, len(classes))
	for i, class := range classes {
		names[i] = string(class)
	}
	return strings.Join(names, " or ")
}

// Kind is KindPreempt.
func (p Preempt) Kind() Kind { return KindPreempt }

// Acts is true: whether a preemption only observes is up to the policy.
func (p Preempt) Acts() bool { return true }

// VMTag is the Tag.
func (p Preempt) VMTag() string { return p.Tag }

// Reply is the ReplyTo.
func (p Preempt) Reply() string { return p.ReplyTo }

// WithoutReply returns the action without its ReplyTo.
func (p Preempt) WithoutReply() Action {
	p.ReplyTo = ""
	return p
}

// Kind is KindResize.
func (a Resize) Kind() Kind { return KindResize }

// Acts reports whether the mode changes VMs.
func (a Resize) Acts() bool { return a.Settings.Mode != placement.ModeRecommend }

// VMTag is none: owners opt in by other tags.
func (a Resize) VMTag() string { return "" }

// Reply is the ReplyTo.
func (a Resize) Reply() string { return a.Settings.ReplyTo }

// WithoutReply returns the action without its ReplyTo.
func (a Resize) WithoutReply() Action {
	a.Settings.ReplyTo = ""
	return a
}

// Kind is KindReconfigure.
func (a Reconfigure) Kind() Kind { return KindReconfigure }

// Acts reports whether the mode changes VMs.
func (a Reconfigure) Acts() bool { return a.Settings.Mode != placement.ModeRecommend }

// VMTag is none: owners opt in by other tags.
func (a Reconfigure) VMTag() string { return "" }

// Reply is the ReplyTo.
func (a Reconfigure) Reply() string { return a.Settings.ReplyTo }

// WithoutReply returns the action without its ReplyTo.
func (a Reconfigure) WithoutReply() Action {
	a.Settings.ReplyTo = ""
	return a
}

// Kind is KindMove.
func (a Move) Kind() Kind { return KindMove }

// Acts reports whether the mode changes VMs.
func (a Move) Acts() bool { return a.Settings.Mode != placement.ModeRecommend }

// VMTag is none: owners opt in by other tags.
func (a Move) VMTag() string { return "" }

// Reply is the ReplyTo.
func (a Move) Reply() string { return a.Settings.ReplyTo }

// WithoutReply returns the action without its ReplyTo.
func (a Move) WithoutReply() Action {
	a.Settings.ReplyTo = ""
	return a
}
