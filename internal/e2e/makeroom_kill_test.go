package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
)

func TestWhereVCenterRefusesForLackOfResourcesMoreGoStepByStep(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	asker := s.Crowded(6 << 10)
	ref := s.VC.VM(asker)
	s.VC.FailCall("PowerOnVM_Task", &ref, &types.InsufficientMemoryResourcesFault{}, 1)
	s.AskForRoom(s.ID("room"), s.RoomRequest(asker))
	o := wantRoom(t, s.RoomsDecided(s.ID("room"), 1), preemptapi.RoomRunning, 2, "") // one by the figures, then one more
	if len(o.Rounds) != 2 || len(o.Refusals) != 1 || s.OffIn("") != 2 {
		t.Errorf("%d VMs are off: %s", s.OffIn(""), sitetest.Pretty(o))
	}
	for _, gone := range o.Gone {
		if gone.Host != o.Host {
			t.Errorf("%s went on another host: %s", gone.Name, sitetest.Pretty(o))
		}
	}
	s.Keep("room-stepwise", slices.Concat([]string{s.ID("room")}, o.Rounds)...)
}

func TestThoseWhoWentInVainComeBackAtOnce(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	asker := s.Crowded(6 << 10)
	ref := s.VC.VM(asker)
	for name, fault := range map[string]types.BaseMethodFault{
		"another reason":   &types.FileLocked{},
		"always resources": &types.InsufficientMemoryResourcesFault{},
	} {
		s.VC.FailCall("PowerOnVM_Task", &ref, fault, 100)
		id := s.ID(strings.ReplaceAll(name, " ", "-"))
		s.AskForRoom(id, s.RoomRequest(asker))
		r := s.RoomsDecided(id, 1)
		if o := r.Rooms[0]; o.State != preemptapi.RoomFailed || o.RestoreID == "" || len(o.Gone) == 0 || !strings.Contains(o.Reason, "vCenter") {
			t.Fatalf("%s: %s", name, sitetest.Pretty(r))
		}
		s.Eventually(name+": all are on again", func() bool { return s.OffIn("") == 0 })
		s.Eventually(name+": nothing is held", func() bool { return len(s.Ledger().Demands) == 0 && len(s.Ledger().Reserved) == 0 })
		s.VC.ClearRules()
		s.Keep("room-in-vain", id)
	}
}

// TestOfManyWhoAskTheMostImportantAreServedFirst asks as a host's death does: all at once, in no order.
func TestOfManyWhoAskTheMostImportantAreServedFirst(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	s.Crowded(6 << 10)
	var requests []preemption.RoomRequest
	for i := 1; i <= 8; i++ { // there is room for some of them alone
		name := fmt.Sprintf("cluster-a-app-%02d", i)
		s.Asks(name, 6<<10, fmt.Sprint(1+i))
		requests = append(requests, s.RoomRequest(name, func(r *preemption.RoomRequest) { r.Origin, r.Rule, r.ForTag = "", "a host died", "critical" }))
	}
	s.AskForRoom(s.ID("room"), requests...)
	r := s.RoomsDecided(s.ID("room"), len(requests))
	rounds := map[string]bool{}
	ran, last := 0, 1<<30
	for _, o := range byPriority(r.Rooms) {
		if o.State == preemptapi.RoomRunning {
			ran++
			last = min(last, o.Priority)
		} else if o.Priority > last {
			t.Errorf("%s of priority %d stays off, and one of %d runs", o.For, o.Priority, last)
		}
		for _, id := range o.Rounds {
			rounds[id] = true
		}
	}
	if ran == 0 || ran == len(requests) || len(rounds) != 1 {
		t.Errorf("%d of %d run, by %d rounds: %s", ran, len(requests), len(rounds), sitetest.Pretty(r))
	}
	s.Keep("room-side-by-side", s.ID("room"))
}

func TestTwoWhoAskAtOnceDoNotShareARoom(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	one := s.Crowded(6 << 10)
	other := "cluster-a-app-02"
	s.Asks(other, 6<<10, "")
	s.AskForRoom(s.ID("one"), s.RoomRequest(one))
	s.AskForRoom(s.ID("other"), s.RoomRequest(other))
	a := wantRoom(t, s.RoomsDecided(s.ID("one"), 1), preemptapi.RoomRunning, 1, "")
	b := wantRoom(t, s.RoomsDecided(s.ID("other"), 1), preemptapi.RoomRunning, 1, "")
	if a.Gone[0].Ref == b.Gone[0].Ref || s.OffIn("") != 2 {
		t.Errorf("%d are off: %s %s", s.OffIn(""), sitetest.Pretty(a), sitetest.Pretty(b))
	}
}

// TestWhoeverKillsTheWorkerTheRoomIsMadeOnce kills the worker at thirty instants while room is made, and lets another go on.
func TestWhoeverKillsTheWorkerTheRoomIsMadeOnce(t *testing.T) {
	t.Parallel()
	random := sitetest.Seeded(t)
	for i := range sitetest.Sized(30, 6) {
		at, refusals := time.Duration(random.IntN(2500))*time.Millisecond, random.IntN(2)
		late := sitetest.DrawLags(t, random)
		t.Run(fmt.Sprint(i+1), func(t *testing.T) {
			t.Parallel()
			s := sitetest.New(t, sitetest.Impatient)
			s.Lagged(late)
			s.VC.SetLatency(5 * time.Millisecond)
			asker := s.Crowded(6 << 10)
			ref := s.VC.VM(asker)
			s.VC.FailCall("PowerOnVM_Task", &ref, &types.InsufficientMemoryResourcesFault{}, refusals)
			p := s.Process()
			s.AskForRoom(s.ID("room"), s.RoomRequest(asker))
			time.Sleep(at)
			p.Kill()
			s.Worker()
			o := wantRoom(t, s.RoomsDecided(s.ID("room"), 1), preemptapi.RoomRunning, 1+refusals, "")
			if s.VC.PowerState(ref) != types.VirtualMachinePowerStatePoweredOn || s.OffIn("") != 1+refusals {
				t.Errorf("killed after %s: %d are off: %s", at, s.OffIn(""), sitetest.Pretty(o))
			}
			s.Eventually("nothing is held", func() bool { return len(s.Ledger().Demands) == 0 && len(s.Ledger().Reserved) == 0 })
		})
	}
}
