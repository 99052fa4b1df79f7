package alarm

import (
	"fmt"
	"time"
)

// Shortage is a VM that could not be started, or restarted after its host's death; or a cluster in which HA could not restart
// all that ran on a dead host.
type Shortage struct {
	VM       Object // zero: those of the cluster that stay off
	Host     Object
	Cluster  Object // the compute resource
	Fault    string // class of vCenter's fault, such as InsufficientMemoryResourcesFault; "" where the event does not say
	Message  string // vCenter's, localized
	VCenter  string // the event's source
	EventKey int64  // 0: unknown
	Time     time.Time
}

// resourceFaults are vCenter's faults that say that CPU, memory or what HA keeps for failover does not suffice. They derive
// from InsufficientResourcesFault; those of disks, networks and graphics are left out, for nobody who goes gives these back.
// NoCompatibleHost is none of them: rules and networks cause it, too.
var resourceFaults = map[string]bool{
	"InsufficientResourcesFault": true, "InsufficientCpuResourcesFault": true, "InsufficientMemoryResourcesFault": true,
	"InsufficientFailoverResourcesFault": true, "InsufficientHostCapacityFault": true, "InsufficientHostCpuCapacityFault": true,
	"InsufficientHostMemoryCapacityFault": true, "InsufficientPerCpuCapacity": true, "InsufficientStandbyResource": true,
	"InsufficientStandbyCpuResource": true, "InsufficientStandbyMemoryResource": true,
}

// OfResources reports whether the VM stays off for lack of resources; if not, why is known of it, in words.
func (s Shortage) OfResources(class Class) (why string, ok bool) {
	switch {
	case resourceFaults[s.Fault]:
		return "", true
	case s.Fault != "":
		return "vCenter's fault is " + clip(s.Fault) + ", which is no lack of CPU or memory", false
	case class != ClassPowerOnFailed: // these tell of nothing else
		return "", true
	}
	return "the event does not say with which fault the power-on failed", false
}

// shortageEvents are VMs that could not be started, or clusters in which some could not.
type shortageEvents struct{ ofCluster bool }

func (f shortageEvents) check(p *payload, m Message, class Class) error {
	if f.ofCluster {
		if p.cluster().Zero() {
			return fmt.Errorf("the %s names no cluster (field ComputeResource.ComputeResource)", class)
		}
		return nil
	}
	if err := (powerEvents{}).check(p, m, class); err != nil {
		return err
	}
	if fault := p.Reason.fault(); len(fault) > maxRef || len(p.Reason.Message) > maxMessage {
		return fmt.Errorf("the %s has a fault of %d bytes with a message of %d: at most %d and %d are taken", class, len(fault), len(p.Reason.Message), maxRef, maxMessage)
	}
	return nil
}

func (shortageEvents) event(p *payload, m Message, class Class) Event {
	return Event{Class: class, Shortage: Shortage{
		VM: p.vm(), Host: p.host(), Cluster: p.cluster(), Fault: p.Reason.fault(), Message: p.Reason.Message,
		VCenter: m.Source, EventKey: max(int64(p.Key), 0), Time: p.time(m),
	}}
}

func (shortageEvents) about(e Event) About {
	s := e.Shortage
	of := s.VM
	if of.Zero() {
		of = s.Cluster
	}
	return About{
		Name: string(e.Class), Words: string(e.Class), Subject: string(e.Class) + " of " + of.Ref(),
		Queue: of.Ref(), Entity: of, VCenter: s.VCenter, EventKey: s.EventKey, Time: s.Time,
	}
}
