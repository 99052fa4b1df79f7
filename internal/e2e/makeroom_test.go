package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// wantRoom checks what became of the only one who asked.
func wantRoom(t *testing.T, r preemptapi.RoomResult, state preemptapi.RoomState, gone int, says string) preemptapi.RoomOutcome {
	t.Helper()
	if len(r.Rooms) != 1 || r.Rooms[0].State != state || len(r.Rooms[0].Gone) != gone || !strings.Contains(r.Rooms[0].Reason, says) {
		t.Fatalf("want %s, %d VMs gone and %q, got %s", state, gone, says, sitetest.Pretty(r))
	}
	return r.Rooms[0]
}

// byPriority sorts who asked, the most important first.
func byPriority(rooms []preemptapi.RoomOutcome) []preemptapi.RoomOutcome {
	return slices.SortedStableFunc(slices.Values(rooms), func(a, b preemptapi.RoomOutcome) int { return b.Priority - a.Priority })
}

func TestACriticalVMRunsInTheRoomThatIsMadeOnOneHost(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	asker := s.Crowded(6 << 10)
	s.AskForRoom(s.ID("room"), s.RoomRequest(asker))
	o := wantRoom(t, s.RoomsDecided(s.ID("room"), 1), preemptapi.RoomRunning, 1, "")
	vm := sitetest.Ref(s.VC.VM(asker))
	now, err := s.Gateway().Askers(t.Context(), []vsphere.Ref{vm})
	s.Must(err)
	if now[0].PowerState != vsphere.PoweredOn || now[0].Host != o.Host {
		t.Errorf("the VM is not on in its room: %s", sitetest.Pretty(o))
	}
	if s.OffIn("") != 1 {
		t.Errorf("%d VMs are off, want the one that made room", s.OffIn(""))
	}
	for _, gone := range s.VC.TaggedVMs("cluster-a") {
		if a, ok := s.Attribute(gone.Ref); ok && (a.For != asker || !a.Preempted || gone.Host.Value != o.Host.Value) {
			t.Errorf("%s: the attribute does not say for whom: %s", gone.Name, sitetest.Pretty(a))
		}
	}
	s.Keep("room", slices.Concat([]string{s.ID("room")}, o.Rounds)...)
}

func TestRoomIsRefusedBeforeAnybodyGoes(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	asker := s.Crowded(6 << 10)
	huge := "cluster-a-app-03"
	s.Asks(huge, 60<<10, "5")
	untagged := "cluster-a-app-04"
	s.Must(s.VC.PowerOffAs(s.VC.VM(untagged), "CORP\\owner"))
	for name, c := range map[string]struct {
		request preemption.RoomRequest
		says    string
	}{
		"no host has it even so":     {s.RoomRequest(huge), "missing"},
		"it carries no tag":          {s.RoomRequest(untagged), "carries no tag of the category preemption-beneficiary"},
		"it is on":                   {s.RoomRequest("cluster-a-app-02"), "carries no tag"},
		"there is no such VM":        {s.RoomRequest("no-such-vm"), "no-such-vm"},
		"the worker's file forbids":  {s.RoomRequest(asker, func(r *preemption.RoomRequest) { r.Tag = "" }), "tag is empty"},
		"sizes cannot be powered on": {s.RoomRequest("", func(r *preemption.RoomRequest) { r.Room.CPUs = 1 }), "powerOn needs"},
		"a hold without a unit":      {s.RoomRequest(asker, func(r *preemption.RoomRequest) { r.Hold = "30" }), "no duration"},
		"its event is of another vCenter": {s.RoomRequest(asker, func(r *preemption.RoomRequest) {
			r.Rule, r.ForTag, r.Origin, r.Event = "critical", "critical", "", sitetest.PlainEvent()
		}), "another vCenter"},
		"not the rule's tag": {s.RoomRequest(asker, func(r *preemption.RoomRequest) { r.Rule, r.ForTag, r.Origin = "critical", "preemptible", "" }), "does not carry the tag preemptible"},
	} {
		t.Run(name, func(t *testing.T) {
			id := s.ID(strings.ReplaceAll(name, " ", "-"))
			s.AskForRoom(id, c.request)
			wantRoom(t, s.RoomsDecided(id, 1), preemptapi.RoomRefused, 0, c.says)
		})
	}
	if s.OffIn("") != 0 {
		t.Errorf("%d VMs went although all was refused", s.OffIn(""))
	}
}

func TestRoomThatIsHeldIsNotTakenByARestoreOrByTheNextWhoAsks(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore())
	s.Worker()
	asker := s.Crowded(6 << 10)
	id := s.ID("room")
	s.AskForRoom(id, s.RoomRequest(asker, func(r *preemption.RoomRequest) { r.PowerOn, r.Hold = false, "1h" }))
	o := wantRoom(t, s.RoomsDecided(id, 1), preemptapi.RoomMade, 1, "")
	if o.HeldUntil.Before(time.Now().Add(50 * time.Minute)) {
		t.Errorf("it is held until %s only", o.HeldUntil)
	}
	restore := preemptapi.RestoreInput{Scope: s.Cluster("cluster-a"), Tag: preemption.DefaultTag, By: "an alarm"}
	_, err := s.Preemption(s.Temporal, s.Gateway()).StartRestore(t.Context(), restore, "the alarm has fallen")
	s.Must(err)
	s.Eventually("the restore waits for the room", func() bool {
		r, ok := s.RestoreState()
		return ok && strings.Contains(r.Reason, "room is held for "+asker)
	})
	other := "cluster-a-app-03"
	s.Asks(other, 6<<10, "")
	s.AskForRoom(s.ID("next"), s.RoomRequest(other))
	next := wantRoom(t, s.RoomsDecided(s.ID("next"), 1), preemptapi.RoomRunning, 1, "")
	if slices.ContainsFunc(next.Gone, func(v preemptapi.VMOutcome) bool { return v.Ref == o.Gone[0].Ref }) || s.OffIn("") != 2 {
		t.Errorf("the second took the room of the first: %s", sitetest.Pretty(next))
	}
	s.Must(s.VC.PowerOnAs(s.VC.VM(asker), "CORP\\owner"))
	s.Eventually("the VM runs, and its room is held no more", func() bool {
		r := s.Rooms(id)
		return len(r.Rooms) == 1 && r.Rooms[0].State == preemptapi.RoomRunning && len(s.Ledger().Demands) == 0
	})
	s.Eventually("those who went come back", func() bool { return s.OffIn("") == 0 })
	s.Keep("room-held", id, s.ID("next"))
}

// TestRoomOnSeveralHostsIsMadeAndHeldTogether asks for sizes that each host has once one VM has gone, on two hosts and on all and more.
func TestRoomOnSeveralHostsIsMadeAndHeldTogether(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	hosts := s.VC.Cluster("cluster-a").Hosts
	s.Must(s.VC.SetClusterUsage("cluster-a", 70, 97))
	size := preemption.Room{MemoryMB: 4 << 10, Cluster: s.Cluster("cluster-a").Value, Hosts: len(hosts) + 1}
	ask := func(r *preemption.RoomRequest) { r.Room, r.PowerOn, r.Hold = size, false, "1h" }
	s.AskForRoom(s.ID("many"), s.RoomRequest("", ask))
	wantRoom(t, s.RoomsDecided(s.ID("many"), 1), preemptapi.RoomRefused, 0, "hosts can have it")
	if s.OffIn("") != 0 {
		t.Fatalf("%d VMs went although there are too few hosts", s.OffIn(""))
	}
	size.Hosts = 2
	s.AskForRoom(s.ID("two"), s.RoomRequest("", ask))
	o := wantRoom(t, s.RoomsDecided(s.ID("two"), 1), preemptapi.RoomMade, 2, "")
	if len(o.Rounds) != 1 || len(o.Hosts) != 2 || o.Hosts[0].Host == o.Hosts[1].Host || o.Gone[0].Host == o.Gone[1].Host {
		t.Errorf("it is not on two hosts: %s", sitetest.Pretty(o))
	}
	s.Eventually("both rooms are held", func() bool {
		held := 0
		for _, list := range s.Ledger().Demands {
			for _, d := range list {
				held += len(d.Rooms)
			}
		}
		return held == 2
	})
	s.Must(s.Temporal.CancelWorkflow(t.Context(), s.ID("two"), ""))
	s.Eventually("nothing is held", func() bool { return len(s.Ledger().Demands) == 0 })
}

func TestRoomOfATerminatedWorkflowIsHeldNoLonger(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t)
	s.Worker()
	id := s.ID("room")
	asker := s.Crowded(6 << 10)
	s.AskForRoom(id, s.RoomRequest(asker, func(r *preemption.RoomRequest) { r.PowerOn, r.Hold = false, "1h" }))
	wantRoom(t, s.RoomsDecided(id, 1), preemptapi.RoomMade, 1, "")
	s.Eventually("the room is held", func() bool { return len(s.Ledger().Demands) == 1 })
	s.Must(s.Temporal.TerminateWorkflow(t.Context(), id, "", "by hand"))
	s.Eventually("the room is held no more", func() bool { return len(s.Ledger().Demands) == 0 })
}
