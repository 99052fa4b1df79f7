package events

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/simulation"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
	"github.com/vsphere-preemption/vsphere-preemption/internal/watch"
	"github.com/vsphere-preemption/vsphere-preemption/internal/workflowid"
)

// roomRules make room for what is tagged critical, on each event that tells of a shortage.
func roomRules() (rules []trigger.Rule) {
	for _, class := range trigger.KindMakeRoom.On() {
		rules = append(rules, trigger.Rule{Class: class, Action: trigger.MakeRoom{
			For: "critical", Tag: preemption.DefaultTag, PowerOn: true, Criticality: preemption.CriticalityHigh,
		}})
	}
	return rules
}

// short is a site whose vCenter admits by reservations, and whose cluster-a is full. Its rules make room.
func short(t *testing.T, needsMB int64, opts ...sitetest.Option) (s *sitetest.Site, asker types.ManagedObjectReference, room string) {
	t.Helper()
	s = sitetest.New(t, opts...)
	s.Rules = roomRules()
	s.Worker()
	name := s.Crowded(needsMB)
	s.Must(s.VC.SetAdmission("cluster-a", &simulation.Admission{}))
	return s, s.VC.VM(name), workflowid.Room(s.Cluster("cluster-a").Value, s.Queue)
}

func TestAPowerOnThatVCenterRefusesIsServedOnOneHost(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"watch", "receiver"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			s, asker, room := short(t, 6<<10)
			url := ""
			if by == "watch" {
				s.Watch(watch.Timing{Poll: 100 * time.Millisecond, Heartbeat: 2 * time.Second, Lease: time.Second})
			} else {
				url = s.Receiver()
			}
			if err := s.VC.PowerOnAs(asker, "CORP\\owner"); err == nil {
				t.Fatal("vCenter admits the VM although nothing is left to reserve")
			}
			if by == "receiver" {
				s.Bring(url, s.Failed(asker, &types.InsufficientMemoryResourcesFault{}))
				s.Bring(url, s.Failed(s.VC.VM("cluster-a-app-02"), &types.FileLocked{})) // no lack of resources
			}
			r := s.RoomsDecided(room, 1)
			if len(r.Rooms) != 1 || r.Rooms[0].State != preemptapi.RoomRunning || len(r.Rooms[0].Gone) != 1 || r.Rooms[0].Rule != string(alarm.ClassPowerOnFailed) {
				t.Fatalf("%s", sitetest.Pretty(r))
			}
			if s.VC.PowerState(asker) != types.VirtualMachinePowerStatePoweredOn || s.OffIn("") != 1 {
				t.Errorf("%d VMs are off: %s", s.OffIn(""), sitetest.Pretty(r))
			}
		})
	}
}

// TestAHostsDeathIsServedByPriority lets a host die whose VMs HA cannot restart: the most important of them run in the end.
func TestAHostsDeathIsServedByPriority(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithPolicy(func(p *policy.Policy) { p.MaxVMs = 100 }), sitetest.WithInventory(func(o *simulation.Options) { o.VMsPerCluster, o.Tagged = 160, 60 }))
	s.Rules = roomRules()
	s.Worker()
	cluster := s.VC.Cluster("cluster-a")
	died := cluster.Hosts[0].Ref
	waiting := 0
	var asking []types.ManagedObjectReference
	for i, vm := range cluster.VMs { // each host is full but for 1 GB
		mb, priority := int64(512), fmt.Sprint(1+i%5)
		if vm.Host == died && waiting < 40 {
			mb, priority = 1024, fmt.Sprint(10+waiting)
			waiting++
			asking = append(asking, vm.Ref)
			s.Must(s.VC.SetTags(vm.Ref, preemption.BeneficiaryCategory, "critical"))
		}
		s.Must(s.VC.SetReservation(vm.Ref, simulation.Reservation{MemoryMB: mb}))
		s.Must(s.VC.SetTags(vm.Ref, policy.CategoryPriority, priority))
	}
	s.Must(s.VC.SetAdmission("cluster-a", &simulation.Admission{HA: &types.ClusterDasAdmissionControlPolicy{}}))
	s.Must(s.VC.FillMemory("cluster-a", 512, asking...))
	s.Watch(watch.Timing{Poll: 100 * time.Millisecond, Heartbeat: 2 * time.Second, Lease: time.Second})
	left, err := s.VC.KillHost(died)
	s.Must(err)
	room := workflowid.Room(cluster.Ref.Value, s.Queue)
	r := s.RoomsDecided(room, len(left))
	ran, rounds, lowest := 0, map[string]bool{}, 1<<30
	for _, o := range r.Rooms {
		for _, id := range o.Rounds {
			rounds[id] = true
		}
		if o.State == preemptapi.RoomRunning {
			ran++
			lowest = min(lowest, o.Priority)
		}
	}
	critical := 0
	for _, o := range r.Rooms {
		if strings.Contains(o.Reason, "does not carry the tag critical") {
			continue
		}
		if critical++; o.State != preemptapi.RoomRunning && o.Priority > lowest {
			t.Errorf("%s of priority %d stays off, and one of %d runs: %s", o.For, o.Priority, lowest, o.Reason)
		}
	}
	t.Logf("%d of %d run, by %d rounds", ran, critical, len(rounds))
	if ran == 0 || critical != waiting || len(rounds) > 8 {
		t.Errorf("%d of %d run, by %d rounds: %s", ran, len(r.Rooms), len(rounds), sitetest.Pretty(r))
	}
}

// TestWhatHACouldNotRestartIsFoundByTheClustersEvent has a rule on the event that names no VM.
func TestWhatHACouldNotRestartIsFoundByTheClustersEvent(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Rules = []trigger.Rule{{Class: alarm.ClassFailoverShort, Action: trigger.MakeRoom{
		For: "critical", Tag: preemption.DefaultTag, PowerOn: true, Criticality: preemption.CriticalityHigh,
	}}}
	s.Worker()
	cluster := s.VC.Cluster("cluster-a")
	died := cluster.Hosts[0].Ref
	var asker types.ManagedObjectReference
	for _, vm := range cluster.VMs {
		mb := int64(2 << 10)
		if vm.Host == died && asker.Value == "" {
			asker, mb = vm.Ref, 4<<10
			s.Must(s.VC.SetTags(vm.Ref, preemption.BeneficiaryCategory, "critical"))
		}
		s.Must(s.VC.SetReservation(vm.Ref, simulation.Reservation{MemoryMB: mb}))
		s.Must(s.VC.SetTags(vm.Ref, policy.CategoryPriority, map[bool]string{true: "9", false: "1"}[vm.Ref == asker]))
	}
	s.Must(s.VC.SetAdmission("cluster-a", &simulation.Admission{HA: &types.ClusterDasAdmissionControlPolicy{}}))
	s.Must(s.VC.FillMemory("cluster-a", 512, asker))
	s.Watch(watch.Timing{Poll: 100 * time.Millisecond, Heartbeat: 2 * time.Second, Lease: time.Second})
	left, err := s.VC.KillHost(died)
	s.Must(err)
	if !slices.Contains(left, asker) {
		t.Fatalf("HA restarted it: %v", left)
	}
	r := s.RoomsDecided(workflowid.Room(cluster.Ref.Value, s.Queue), 1)
	if len(r.Rooms) != 1 || r.Rooms[0].State != preemptapi.RoomRunning || r.Rooms[0].VM != sitetest.Ref(asker) || len(r.Rooms[0].Gone) == 0 {
		t.Fatalf("%s", sitetest.Pretty(r))
	}
	if s.VC.PowerState(asker) != types.VirtualMachinePowerStatePoweredOn {
		t.Error("it is off")
	}
}
