package record

import (
	"math"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

var day = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// at is a time of the day of the tests.
func at(hours float64) time.Time { return day.Add(time.Duration(hours * float64(time.Hour))) }

func vm(name string) vsphere.Ref { return vsphere.Ref{Type: vsphere.TypeVM, Value: name} }

// off is a VM of 2 GHz and 4 GiB that a round turned off.
func off(name string, hours float64, groups ...string) VM {
	return VM{Ref: vm(name), Name: "name of " + name, Done: TurnedOff, OffAt: at(hours), CPUMHz: 2000, MemoryMB: 4096, Groups: groups}
}

func back(name string, hours float64) VM {
	return VM{Ref: vm(name), Name: "name of " + name, Done: Returned, OnAt: at(hours)}
}

func entry(kind Kind, id string, from, to float64, vms ...VM) Entry {
	return Entry{
		Kind: kind, ID: id, RunID: "run-" + id, StartedAt: at(from), EndedAt: at(to), Alarm: "cpu", VMs: vms,
		Cluster: vsphere.Ref{Type: vsphere.TypeCluster, Value: "domain-c7"}, ClusterName: "Cluster-1",
	}
}

func TestWhoIsOffBecauseOfUs(t *testing.T) {
	round := entry(Round, "round-1", 9.9, 10.1, off("vm-1", 10), off("vm-2", 10), off("vm-3", 10), off("vm-4", 10),
		VM{Ref: vm("vm-5"), Done: Spared})
	restored := entry(Restore, "restore", 12, 12.5, back("vm-1", 12.2),
		VM{Ref: vm("vm-2"), Done: FoundOn, Reason: "it is on already"}, VM{Ref: vm("vm-3"), Done: LeftOff, Reason: "there is no room for it"})
	got := OffBy([]Entry{restored, round}, nil) // newest first, as lists are
	if len(got) != 2 || got[0].VM != vm("vm-3") || got[1].VM != vm("vm-4") {
		t.Fatalf("off are %+v", got)
	}
	if got[0].Why != "there is no room for it" || !got[0].Since.Equal(at(10)) || got[0].RoundID != "round-1" || got[0].Name != "name of vm-3" {
		t.Errorf("it is said of vm-3: %+v", got[0])
	}
	if got := OffBy([]Entry{restored, round}, []Entry{{Kind: Round, ID: "round-2", StartedAt: at(13), VMs: []VM{off("vm-1", 13)}}}); len(got) != 3 {
		t.Errorf("a VM that went again is not off: %+v", got)
	}
}

func TestALadderThatThrottlesAndThenTurnsOffIsOneTimeDown(t *testing.T) {
	throttled := off("vm-1", 10)
	throttled.Done = Throttled
	got := Downs([]Entry{entry(Round, "round-1", 9, 11, throttled, off("vm-1", 10.5))})
	if len(got) != 1 || got[0].Throttled {
		t.Errorf("got %+v", got)
	}
}

func TestHoursThatPassedAreSummedByDayClusterGroupAlarmAndVM(t *testing.T) {
	entries := []Entry{
		entry(Round, "round-1", 21.9, 22.1, off("vm-1", 22, "web"), off("vm-2", 22, "web", "batch"), off("vm-3", 22)),
		entry(Restore, "restore-1", 26, 26.5, back("vm-1", 26), VM{Ref: vm("vm-3"), Done: FoundOn}),
	}
	s := Summed(entries, at(0), at(30), time.UTC)
	// vm-1: 4 hours; vm-2: 8 hours, and is off still; vm-3: somebody turned it on, nobody knows when.
	if s.Rounds != 1 || s.Restores != 1 || s.Total.Preemptions != 3 || s.Total.VMs != 3 || s.Total.StillDown != 1 || s.Total.Unknown != 1 {
		t.Fatalf("counted %+v", s)
	}
	if s.Total.Down != 12*time.Hour || math.Abs(s.Total.GHzHours-24) > 1e-9 || math.Abs(s.Total.GiBHours-48) > 1e-9 {
		t.Errorf("summed %+v", s.Total)
	}
	if got := s.Total.Reclaim.Round(time.Second); got != 6*time.Minute {
		t.Errorf("reclaimed after %s", got)
	}
	if len(s.Days) != 2 || s.Days[0].Key != "2026-03-02" || s.Days[0].Down != 4*time.Hour || s.Days[0].Preemptions != 3 ||
		s.Days[1].Down != 8*time.Hour || s.Days[1].Preemptions != 0 {
		t.Errorf("by day: %+v", s.Days)
	}
	if len(s.Clusters) != 1 || s.Clusters[0].Key != "domain-c7" || s.Clusters[0].Name != "Cluster-1" {
		t.Errorf("by cluster: %+v", s.Clusters)
	}
	if len(s.Groups) != 2 || s.Groups[0].Key != "web" || s.Groups[0].Down != 12*time.Hour || s.Groups[1].Down != 8*time.Hour {
		t.Errorf("by group: %+v", s.Groups)
	}
	if len(s.VMs) != 3 || s.VMs[0].Key != "vm-2" || s.VMs[0].Name != "name of vm-2" {
		t.Errorf("by VM: %+v", s.VMs)
	}
	if len(s.Alarms) != 1 || s.Alarms[0].Key != "cpu" || s.Alarms[0].Preemptions != 3 {
		t.Errorf("by alarm: %+v", s.Alarms)
	}
}

func TestHoursOutsideTheTimeAreNotCounted(t *testing.T) {
	entries := []Entry{entry(Round, "round-1", 1.9, 2.1, off("vm-1", 2)), entry(Restore, "restore-1", 8, 8.5, back("vm-1", 8))}
	s := Summed(entries, at(4), at(6), time.UTC)
	if s.Total.Down != 2*time.Hour || s.Total.Preemptions != 0 || s.Total.VMs != 1 || s.Rounds != 0 {
		t.Errorf("summed %+v", s.Total)
	}
	if s := Summed(entries, at(10), at(12), time.UTC); s.Total.Down != 0 || s.Total.VMs != 0 {
		t.Errorf("summed after it was back: %+v", s.Total)
	}
}

func TestAThrottledVMIsNotDownAndFreesItsCPU(t *testing.T) {
	v := off("vm-1", 10)
	v.Done, v.MemoryMB = Throttled, 0
	s := Summed([]Entry{entry(Round, "round-1", 10, 10.1, v)}, at(0), at(12), time.UTC)
	if s.Total.Down != 0 || s.Total.GHzHours != 4 || s.Total.Preemptions != 1 {
		t.Errorf("summed %+v", s.Total)
	}
}

func TestAFilterChoosesByEachOfItsFields(t *testing.T) {
	e := entry(Round, "round-1", 10, 11, off("vm-1", 10))
	e.State = "completed"
	for name, c := range map[string]struct {
		filter Filter
		want   bool
	}{
		"nothing":                {Filter{}, true},
		"its VM's MoRef":         {Filter{VM: "vm-1"}, true},
		"its VM's name":          {Filter{VM: "NAME of vm-1"}, true},
		"another VM":             {Filter{VM: "vm-2"}, false},
		"its cluster":            {Filter{Cluster: "cluster-1"}, true},
		"its cluster's MoRef":    {Filter{Cluster: "domain-c7"}, true},
		"another cluster":        {Filter{Cluster: "domain-c8"}, false},
		"its alarm":              {Filter{Alarm: "CPU"}, true},
		"another alarm":          {Filter{Alarm: "memory"}, false},
		"its kind":               {Filter{Kind: Round}, true},
		"another kind":           {Filter{Kind: Restore}, false},
		"its state":              {Filter{State: "completed"}, true},
		"another state":          {Filter{State: "failed"}, false},
		"a time before its end":  {Filter{Since: at(10.5)}, true},
		"a time after its end":   {Filter{Since: at(11.5)}, false},
		"a time that ended then": {Filter{Until: at(9)}, false},
	} {
		if got := c.filter.Matches(e); got != c.want {
			t.Errorf("by %s: %v", name, got)
		}
	}
}
