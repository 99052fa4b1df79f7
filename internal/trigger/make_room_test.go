package trigger_test

import (
	"strings"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// failed is a VM that could not be started.
func failed(t *testing.T, fault string) trigger.Incoming {
	t.Helper()
	in := changed(t, "green", "red")
	in.TaskQueue = preemption.DefaultTaskQueue
	in.Event = alarm.Event{Class: alarm.ClassPowerOnFailed, Shortage: alarm.Shortage{
		VM: web, Cluster: alarm.Object{Type: "ClusterComputeResource", Value: "domain-c7"}, Fault: fault,
		VCenter: "https://vc/sdk", EventKey: 7, Time: time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC),
	}}
	return in
}

func TestAVMThatCouldNotStartAsksForRoomInItsCluster(t *testing.T) {
	a := trigger.MakeRoom{For: "critical", Tag: "spot", Policy: "careful", PowerOn: true, Criticality: preemption.CriticalityHigh, Hold: "1h", Mode: preemption.ModeObserve}
	in := failed(t, "InsufficientMemoryResourcesFault")
	order, _, ok, err := a.Order(in, "critical-vms")
	if err != nil || !ok || order.WorkflowID != "make-room@domain-c7" || order.WorkflowType != preemption.MakeRoomWorkflowName || order.Signal != preemption.RoomSignal {
		t.Fatalf("%+v, %v, %v", order, ok, err)
	}
	req := order.Payload.(preemption.RoomRequest)
	if req.Room.For != web.Ref() || req.Room.Cluster != "ClusterComputeResource:domain-c7" || req.ForTag != "critical" || req.Tag != "spot" || req.Policy != "careful" ||
		!req.PowerOn || req.Hold != "1h" || req.Mode != preemption.ModeObserve || req.Rule != "critical-vms" || req.ID != "vc#7@2026-11-27T12:00:00Z" || req.Origin != "" || req.Event.ID() == "" {
		t.Errorf("%+v", req)
	}
	in.TaskQueue = "other"
	if order, _, _, err := a.Order(in, "r"); err != nil || order.WorkflowID != "make-room@domain-c7@other" {
		t.Errorf("another task queue: %+v, %v", order, err)
	}
	in.Event.Shortage.Cluster = alarm.Object{}
	if order, _, _, err := a.Order(in, "r"); err != nil || order.WorkflowID != "make-room@all@other" || order.Payload.(preemption.RoomRequest).Room.Cluster != "" {
		t.Errorf("no cluster: %+v, %v", order, err)
	}
}

func TestAClusterInWhichHACouldNotRestartAllAsksForWhatWaits(t *testing.T) {
	in := failed(t, "")
	in.Event.Class, in.Event.Shortage.VM = alarm.ClassFailoverShort, alarm.Object{}
	order, _, ok, err := trigger.MakeRoom{For: "critical", Tag: "spot", PowerOn: true, Criticality: preemption.CriticalityHigh}.Order(in, "r")
	if err != nil || !ok || order.WorkflowID != "make-room@domain-c7" {
		t.Fatalf("%+v, %v, %v", order, ok, err)
	}
	if req := order.Payload.(preemption.RoomRequest); !req.Room.Waiting || req.Room.For != "" || req.Room.Cluster != "ClusterComputeResource:domain-c7" || req.ForTag != "critical" {
		t.Errorf("%+v", req)
	}
}

func TestAVMThatCouldNotStartForAnotherReasonAsksForNothing(t *testing.T) {
	order, reason, ok, err := trigger.MakeRoom{For: "critical", Tag: "spot"}.Order(failed(t, "FileLocked"), "r")
	if err != nil || ok || order.WorkflowID != "" || !strings.Contains(reason, "FileLocked") {
		t.Errorf("%+v, %q, %v, %v", order, reason, ok, err)
	}
}
