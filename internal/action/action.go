// Package action is the table of what may be done to a VM that is preempted, and of what may become of it. The code that acts,
// waits, claims, checks privileges or writes words asks the table. A value that it does not have is an error, never a
// power-off.
package action

import "fmt"

// Action is what is done to a VM that is preempted, as policies write it.
type Action string

// The actions.
const (
	PowerOff      Action = "powerOff"
	ShutdownGuest Action = "shutdownGuest"
	Suspend       Action = "suspend"
	Throttle      Action = "throttle"
)

// Row says of an action what the code that acts, waits and claims must know.
type Row struct {
	Action     Action
	Words      string   // what is done, as after "would": "power off"
	Call       string   // of vCenter's API, that is sent
	AtOnce     bool     // it does not wait for the guest: a rise to it ends the grace period of guests that were asked
	Changeable bool     // the VM takes changes of its configuration afterwards, such as the end of a notice
	Event      string   // class of vCenter's event that proves it
	StaysOn    bool     // the VM is on afterwards: its configuration is what was changed
	Cut        Outcome  // of a VM that a call of ours has changed, and not its guest
	CutForced  bool     // that counts as forced
	Privileges []string // that it needs on the VM
	Undo       []string // privileges that a restore needs on the VM
}

// powerOn are the privileges to bring back a VM that is off or suspended.
var powerOn = []string{"VirtualMachine.Interact.PowerOn"}

// resources are the privileges to set a CPU limit and to take it back.
var resources = []string{"VirtualMachine.Config.Resource"}

// table has a row for each action. TestTheTableKnowsEachAction holds it complete.
var table = []Row{
	{
		Action: PowerOff, Words: "power off", Call: "PowerOffVM_Task", AtOnce: true, Changeable: true, Event: "VmPoweredOffEvent",
		Cut: PoweredOff, CutForced: true, Privileges: []string{"VirtualMachine.Interact.PowerOff"}, Undo: powerOn,
	},
	{
		Action: ShutdownGuest, Words: "shut down guest", Call: "ShutdownGuest", Changeable: true, Event: "VmPoweredOffEvent",
		Cut: Forced, CutForced: true, Privileges: []string{"VirtualMachine.Interact.PowerOff"}, Undo: powerOn,
	},
	{
		Action: Suspend, Words: "suspend", Call: "SuspendVM_Task", AtOnce: true, Event: "VmSuspendedEvent",
		Cut: Suspended, Privileges: []string{"VirtualMachine.Interact.Suspend"}, Undo: powerOn,
	},
	{
		Action: Throttle, Words: "throttle", Call: "ReconfigVM_Task", Changeable: true, StaysOn: true, Event: "VmReconfiguredEvent",
		Cut: Throttled, Privileges: resources, Undo: resources,
	},
}

// All lists the actions.
func All() []Action {
	all := make([]Action, 0, len(table))
	for _, row := range table {
		all = append(all, row.Action)
	}
	return all
}

// Of returns the row of an action. An action that the table does not have is an error that names it: nothing is to be
// sent for it.
func Of(a Action) (Row, error) {
	for _, row := range table {
		if row.Action == a {
			return row, nil
		}
	}
	return Row{}, Unhandled(a)
}

// Unhandled is the error of whoever meets an action and has nothing to do for it.
func Unhandled(a Action) error {
	return fmt.Errorf("action %q cannot be carried out, and nothing was sent: this version carries out %v; upgrade the worker, or correct the policy", string(a), All())
}

// row is Of, and for an unknown action a row by which nothing is forced, claimed or changed.
func (a Action) row() Row {
	row, err := Of(a)
	if err != nil {
		return Row{Action: a, Words: string(a), Cut: Unattributed}
	}
	return row
}

// AtOnce reports whether the action does not wait for the guest.
func (a Action) AtOnce() bool { return a.row().AtOnce }

// Changeable reports whether the VM's configuration can be changed after the action.
func (a Action) Changeable() bool { return a.row().Changeable }

// StaysOn reports whether the VM is on after the action: then neither its power state nor its power-off shows what was done.
func (a Action) StaysOn() bool { return a.row().StaysOn }

// Words says what is done, as after "would".
func (a Action) Words() string { return a.row().Words }

// Privileges are those that the action needs on a VM.
func (a Action) Privileges() []string { return a.row().Privileges }

// Undo are the privileges that a restore needs on a VM after the action.
func (a Action) Undo() []string { return a.row().Undo }

// Cut is the outcome of a VM that a call of ours has changed, and not its guest, and whether it counts as forced.
// asked says that its guest had been asked to shut down before.
func (a Action) Cut(asked bool) (o Outcome, forced bool) {
	row := a.row()
	if asked && row.Cut == PoweredOff {
		return Forced, true
	}
	return row.Cut, row.CutForced
}
