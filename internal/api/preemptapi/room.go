package preemptapi

import (
	"fmt"
	"strings"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// RoomAsk is room that a plan is to find.
type RoomAsk struct {
	preemption.Room
	RequestID string      `json:"requestID,omitempty"` // of the one who asks; empty: it is only planned
	Name      string      `json:"name,omitempty"`      // of the VM, as people know it; empty: not looked up yet
	On        vsphere.Ref `json:"on,omitzero"`         // the host on which it was begun; zero: any
	Further   int         `json:"further,omitempty"`   // VMs to free beyond what the figures ask for, as vCenter refused the power-on
	Part      int         `json:"part,omitempty"`      // of room on several hosts: the one of so many that this is, from 1; 0: all of it
}

// Parts are the rooms on one host each that a plan is to find for the ask.
func (a RoomAsk) Parts() []RoomAsk {
	if a.Hosts <= 1 {
		return []RoomAsk{a}
	}
	parts := make([]RoomAsk, a.Hosts)
	for i := range parts {
		parts[i] = a
		parts[i].Part = i + 1
	}
	return parts
}

// Words say for whom or how much it is.
func (a RoomAsk) Words() string {
	switch {
	case a.Name != "":
		return a.Name
	case a.For != "":
		return a.For
	}
	var parts []string
	if a.CPUs > 0 {
		parts = append(parts, fmt.Sprintf("%d CPUs", a.CPUs))
	}
	if a.MemoryMB > 0 {
		size := fmt.Sprintf("%d MiB", a.MemoryMB)
		if a.MemoryMB%1024 == 0 {
			size = fmt.Sprintf("%d GiB", a.MemoryMB/1024)
		}
		parts = append(parts, size)
	}
	words := strings.Join(parts, " and ")
	switch {
	case a.Hosts <= 1:
	case a.Part > 0:
		words += fmt.Sprintf(" (%d of %d)", a.Part, a.Hosts)
	default:
		words += fmt.Sprintf(" on each of %d hosts", a.Hosts)
	}
	return words
}

// RoomState is what has become of one who asked for room.
type RoomState string

// The states of one who asked for room.
const (
	RoomAsked    RoomState = "asked"    // taken, and not looked at yet
	RoomWaiting  RoomState = "waiting"  // for another round in the cluster to end
	RoomMaking   RoomState = "making"   // VMs are going
	RoomMade     RoomState = "made"     // the room is there, and held until HeldUntil
	RoomRunning  RoomState = "running"  // the VM was powered on in its room
	RoomObserved RoomState = "observed" // the policy only observes: nobody went
	RoomRefused  RoomState = "refused"  // nobody went
	RoomFailed   RoomState = "failed"   // VMs went, and the room is not there: they come back
)

// roomStates are the states in their order, and which of them are final: what goes on is at most the hold.
var roomStates = []struct {
	state RoomState
	final bool
}{
	{RoomAsked, false},
	{RoomWaiting, false},
	{RoomMaking, false},
	{RoomMade, true},
	{RoomRunning, true},
	{RoomObserved, true},
	{RoomRefused, true},
	{RoomFailed, true},
}

// RoomStates lists the states.
func RoomStates() (all []RoomState) {
	for _, row := range roomStates {
		all = append(all, row.state)
	}
	return all
}

// FinalRoomStates lists the states that stay as they are.
func FinalRoomStates() (final []RoomState) {
	for _, row := range roomStates {
		if row.final {
			final = append(final, row.state)
		}
	}
	return final
}

// Final reports whether the state stays as it is.
func (s RoomState) Final() bool {
	for _, row := range roomStates {
		if row.state == s {
			return row.final
		}
	}
	return false
}

// RoomOutcome is what has become of one who asked for room.
type RoomOutcome struct {
	RequestID   string      `json:"requestID"`
	For         string      `json:"for"`            // the VM, or the sizes, in words
	VM          vsphere.Ref `json:"vm,omitzero"`    // zero: only sizes were given
	Rule        string      `json:"rule,omitempty"` // that asked; empty: a person did
	Priority    int         `json:"priority,omitempty"`
	State       RoomState   `json:"state"`
	Reason      string      `json:"reason,omitempty"`
	Kind        string      `json:"kind,omitempty"` // of a refusal: the type of its error, such as VMNotFound
	Cluster     vsphere.Ref `json:"cluster,omitzero"`
	ClusterName string      `json:"clusterName,omitempty"`
	Host        vsphere.Ref `json:"host,omitzero"` // where the room is, or the VM runs
	HostName    string      `json:"hostName,omitempty"`
	Hosts       []RoomHost  `json:"hosts,omitempty"`  // where it is, if it was asked for on several
	Gone        []VMOutcome `json:"gone,omitempty"`   // the VMs that went for it
	Rounds      []string    `json:"rounds,omitempty"` // that turned them off
	HeldUntil   time.Time   `json:"heldUntil,omitzero"`
	RestoreID   string      `json:"restoreID,omitempty"` // that brings back those who went in vain, or are no longer in the way
	AskedAt     time.Time   `json:"askedAt"`
	EndedAt     time.Time   `json:"endedAt,omitzero"`
	// Refusals are what vCenter said to its power-ons for which there was no room, in words.
	Refusals []string `json:"refusals,omitempty"`
}

// RoomHost is a host on which there is room.
type RoomHost struct {
	Host vsphere.Ref `json:"host"`
	Name string      `json:"name,omitempty"`
}

// RoomResult is what a workflow that makes room has done, or does.
type RoomResult struct {
	WorkflowID string        `json:"workflowID"`
	RunID      string        `json:"runID"`
	Rooms      []RoomOutcome `json:"rooms"` // in the order in which they were asked for; the last 100
	Rejected   []Rejection   `json:"rejected,omitempty"`
}
