package policy

import (
	"maps"
	"slices"
)

// Reason says why a candidate stays, or why a target has its outcome.
type Reason string

// The reasons of outcomes that are not the plan's.
const (
	Withdrawn     Reason = "withdrawn"               // the preemption was withdrawn before its turn
	Rehearsed     Reason = "rehearsal"               // only its notice was given
	GuestIgnored  Reason = "guest_ignored_shutdown"  // its guest was asked to shut down, and did not
	NoTools       Reason = "no_running_tools"        // its guest cannot be asked to shut down
	ForcedNoTools Reason = "no_running_tools_forced" // the same, and its power was cut
	OnAtWithdraw  Reason = "still_on_when_withdrawn" // its guest was asked to shut down, and the preemption withdrawn
)

// The reasons for which a candidate stays.
const (
	NotAVM           Reason = "not_a_vm"            // the tag is on another kind of object
	NotTagged        Reason = "not_tagged"          // the tag was detached in the meantime
	Gone             Reason = "gone"                // the VM was destroyed; its tag association lives on
	Template         Reason = "template"            // a template never runs
	NotPoweredOn     Reason = "not_powered_on"      // already off or suspended
	OutOfScope       Reason = "out_of_scope"        // not in the contended cluster or host
	Infrastructure   Reason = "infrastructure"      // vCLS, vCenter, ourselves, or named in neverTouch
	PendingOperation Reason = "pending_operation"   // vCenter refuses to power it off at this moment
	NotConnected     Reason = "not_connected"       // its host is away: vCenter cannot act on it
	BeingEvicted     Reason = "being_evicted"       // another round, or a remediation, has reserved it
	Protected        Reason = "protected"           // a tag of CategoryProtect applies
	UnreadableTag    Reason = "unreadable_tag"      // a tag of ours cannot be read, which protects
	MinRuntime       Reason = "min_runtime"         // within protect.minRuntime
	PreemptedOften   Reason = "preempted_too_often" // protect.maxPreemptionsPerDay is reached
	ExcludedFolder   Reason = "excluded_folder"     // named in protect.folders
	ExcludedPool     Reason = "excluded_pool"       // named in protect.resourcePools
	FolderUnseen     Reason = "folder_unseen"       // protect.folders is set, and its folders cannot all be seen
	PoolUnseen       Reason = "pool_unseen"         // protect.resourcePools is set, and its pools cannot all be seen
	ExcludedName     Reason = "excluded_name"       // named in protect.names
	Blackout         Reason = "blackout"            // no VM is turned off in this window
	GroupBudget      Reason = "group_budget"        // so many VMs of its group must stay on
	ScopeBudget      Reason = "scope_budget"        // so many VMs of this scope were turned off recently
	OverLimit        Reason = "limit"               // the plan already holds maxVMs
	NotNeeded        Reason = "not_needed"          // the shortfall is covered without it, or the room made; or it does not help
	CannotCover      Reason = "cannot_cover"        // ifShort is none, and all together do not cover the shortfall; or no host has the room even then
	NotMeasured      Reason = "not_measured"        // a target is set, and no host in scope can be measured
	PriorityNotLower Reason = "priority_not_lower"  // room is made for a VM of its priority or of a lower one
	AnotherHost      Reason = "another_host"        // the room is made, or exists, on a host that it is not on
	AlreadyThrottled Reason = "already_throttled"   // it has a CPU limit of ours
	OwnLimit         Reason = "own_limit"           // its own CPU limit is as low as a throttle would set it
	FreesNoCPU       Reason = "frees_no_cpu"        // it uses less CPU than a throttle would leave it
	FreesNoMemory    Reason = "frees_no_memory"     // only memory is short, or room is demanded: a CPU limit frees neither
	NotOfThisStep    Reason = "not_of_this_step"    // a ladder goes on with the VMs of its step before
	LimitUnseen      Reason = "limit_unseen"        // vCenter does not show its CPU limit, so it could not be restored
	SparedForNow     Reason = "spared_for_now"      // a person spares it for a time
	Paused           Reason = "paused"              // a person holds up preemption since the plan
)

var reasonWords = map[Reason]string{
	NotTagged: "it does not carry the tag (any more)", NotAVM: "the tag stands on an object that is no VM", Gone: "the VM no longer exists",
	Template: "it is a template", NotPoweredOn: "it is not powered on",
	OutOfScope:     "it is not in the contended cluster",
	Infrastructure: "it is an infrastructure VM or named in neverTouch", PendingOperation: "an operation is under way on it",
	NotConnected: "its host is not connected", BeingEvicted: "another round is evicting it",
	Protected: "a tag on it protects it", UnreadableTag: "a tag on it cannot be read, which protects it",
	MinRuntime: "it is within its minimum run time", PreemptedOften: "it was preempted often enough today",
	ExcludedFolder: "the policy excludes its folder", ExcludedPool: "the policy excludes its resource pool", ExcludedName: "the policy excludes its name",
	FolderUnseen: "the policy excludes folders, and vCenter does not show all folders above it", PoolUnseen: "the policy excludes resource pools, and vCenter does not show all pools above it",
	Blackout: "nobody is preempted in this time window", GroupBudget: "its group must keep enough VMs up",
	ScopeBudget: "its scope's budget is used up",
	OverLimit:   "the plan already holds as many VMs as the policy allows",
	NotNeeded:   "it is not needed to reach the target", CannotCover: "all together would not free enough, and the policy then spares everyone",
	NotMeasured:      "the usage of the contended hosts could not be measured",
	PriorityNotLower: "its priority is not below that of the one who asks", AnotherHost: "the room is made on another host",
	NotOfThisStep: "the next step is taken on VMs of the step before", AlreadyThrottled: "it is throttled already", OwnLimit: "its own CPU limit is as low", FreesNoCPU: "it uses too little CPU for a throttle to free any",
	FreesNoMemory: "a CPU limit does not free what is short", LimitUnseen: "vCenter does not show its CPU limit, so that it could not be restored",
	SparedForNow: "a person spares it for now", Paused: "preemption is paused",
	LimitChanged:   "its owner set another CPU limit meanwhile, which stays",
	TouchedByOwner: "somebody else used or changed it since it was preempted: it is no longer ours", Untagged: "its tag was taken off",
	OtherTag: "it was preempted for another tag", AttributeChanged: "our record on it was changed",
	OtherInstance: "the record on it is that of another VM", CyclesTooOften: "it was preempted too often today: it stays off",
	NoEvidence: "vCenter's events do not show that we turned it off", AlreadyOn: "it is on already",
	TooOld: "it has been off for too long", NoRoom: "there is no room for it", NoHost: "no host can take it",
	NotOurs: "it carries no open record of a preemption by us", StopRestore: "the restore was stopped before its turn",
	ScopeBusy: "a preemption is under way in its scope",
	Withdrawn: "the preemption was withdrawn before its turn", Rehearsed: "a rehearsal: only its notice was given, and then withdrawn",
	GuestIgnored: "its guest ignored the shutdown", NoTools: "no VMware Tools run in it, so its guest cannot be shut down",
	ForcedNoTools: "no VMware Tools run in it, so its power was cut", OnAtWithdraw: "still on when the preemption was withdrawn",
}

// Reasons lists the reasons, sorted.
func Reasons() []Reason { return slices.Sorted(maps.Keys(reasonWords)) }

// Known reports whether this version knows the reason.
func (r Reason) Known() bool { return reasonWords[r] != "" }

// Explain returns the reason in words.
func (r Reason) Explain() string {
	if w, ok := reasonWords[r]; ok {
		return w
	}
	return string(r)
}
