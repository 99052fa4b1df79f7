package ledger

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestAPauseRefusesWhatItIsOf(t *testing.T) {
	within := map[string]string{"HostSystem:h": "ClusterComputeResource:a"}
	for name, c := range map[string]struct {
		pause Pause
		scope string
		alarm string
		after time.Duration
		want  Verdict
	}{
		"everything, of a scope":          {Pause{}, "ClusterComputeResource:a", "", 0, Paused},
		"everything, of everything":       {Pause{}, "", "", 0, Paused},
		"a cluster, of itself":            {Pause{Scope: "ClusterComputeResource:a"}, "ClusterComputeResource:a", "cpu", 0, Paused},
		"a cluster, of everything":        {Pause{Scope: "ClusterComputeResource:a"}, "", "", 0, Paused},
		"a cluster, of another":           {Pause{Scope: "ClusterComputeResource:a"}, "ClusterComputeResource:b", "", 0, Granted},
		"a cluster, of a host in it":      {Pause{Scope: "ClusterComputeResource:a"}, "HostSystem:h", "", 0, Paused},
		"an alarm, of itself":             {Pause{Alarm: "cpu"}, "ClusterComputeResource:a", "cpu", 0, Paused},
		"an alarm, of another":            {Pause{Alarm: "cpu"}, "ClusterComputeResource:a", "memory", 0, Granted},
		"an alarm, of a person":           {Pause{Alarm: "cpu"}, "ClusterComputeResource:a", "", 0, Granted},
		"everything, when its time is up": {Pause{Until: t0.Add(time.Hour)}, "ClusterComputeResource:a", "", time.Hour, Granted},
		"everything, before that":         {Pause{Until: t0.Add(time.Hour)}, "ClusterComputeResource:a", "", time.Hour - 1, Paused},
	} {
		t.Run(name, func(t *testing.T) {
			var s State
			c.pause.Reason, c.pause.By = "because", "alice"
			s.Pause(t0, PauseRequest{Pause: c.pause})
			got := s.Admit(t0.Add(c.after), AdmitRequest{RequestID: "r", Owner: "round", Scope: c.scope, Within: within[c.scope], Alarm: c.alarm})
			if got.Verdict != c.want || c.want == Paused && !strings.Contains(got.Reason, "paused by alice") {
				t.Errorf("%+v", got)
			}
			f := s.Facts(t0.Add(c.after), FactsRequest{Scope: c.scope, Within: within[c.scope], Alarm: c.alarm})
			if (f.Paused != "") != (c.want == Paused) {
				t.Errorf("the facts say %q", f.Paused)
			}
		})
	}
}

func TestAPauseTellsWhatIsUnderWayAndIsReplacedByTheNext(t *testing.T) {
	var s State
	s.Admit(t0, AdmitRequest{RequestID: "1", Owner: "of-cpu", Scope: "ClusterComputeResource:a", Alarm: "cpu"})
	s.Admit(t0, AdmitRequest{RequestID: "2", Owner: "of-memory", Scope: "ClusterComputeResource:b", Alarm: "memory"})
	s.Facts(t0, FactsRequest{Owner: "restore@x", Scope: "ClusterComputeResource:c", Restore: true})
	if a := s.Pause(t0, PauseRequest{Pause: Pause{Alarm: "cpu", Reason: "x"}}); len(a.Rounds) != 1 || a.Rounds[0] != "of-cpu" || len(a.Restores) != 0 {
		t.Errorf("of an alarm: %+v", a)
	}
	if a := s.Pause(t0, PauseRequest{Pause: Pause{Reason: "x"}}); len(a.Rounds) != 2 || len(a.Restores) != 1 || len(a.Pauses) != 2 {
		t.Errorf("of everything: %+v", a)
	}
	a := s.Pause(t0, PauseRequest{Pause: Pause{Reason: "y"}})
	if len(a.Pauses) != 2 || a.Pauses[1].Reason != "y" {
		t.Errorf("the second of everything is no replacement: %+v", a)
	}
	if f := s.Facts(t0, FactsRequest{Owner: "restore@x", Scope: "ClusterComputeResource:c", Restore: true}); len(f.ActiveAlarms) != 1 || f.ActiveAlarms[0].Paused == "" {
		t.Errorf("a restore does not meet the pause: %+v", f.ActiveAlarms)
	}
	if g := s.Remedy(t0, RemedyRequest{Owner: "o", VM: "VirtualMachine:vm-1", What: "cpu"}); g.Granted || !strings.Contains(g.Full, "is paused") {
		t.Errorf("a remediation goes on: %+v", g)
	}
	if a := s.Pause(t0, PauseRequest{Pause: Pause{Scope: "ClusterComputeResource:z"}, End: true}); len(a.Ended) != 0 || len(a.Pauses) != 2 {
		t.Errorf("one that does not hold was ended: %+v", a)
	}
	if a := s.Pause(t0, PauseRequest{End: true, All: true}); len(a.Ended) != 2 || len(a.Pauses) != 0 {
		t.Errorf("not all were ended: %+v", a)
	}
	if g := s.Remedy(t0, RemedyRequest{Owner: "o", VM: "VirtualMachine:vm-1", What: "cpu"}); !g.Granted {
		t.Errorf("a remediation is held up after the pause: %+v", g)
	}
	s.Pause(t0, PauseRequest{Pause: Pause{Scope: "ClusterComputeResource:c", Reason: "x"}})
	s.Pause(t0, PauseRequest{Pause: Pause{Alarm: "disk", Reason: "x"}})
	for _, c := range []struct {
		r    RemedyRequest
		held bool
	}{
		{RemedyRequest{Scope: "ClusterComputeResource:c"}, true},
		{RemedyRequest{Scope: "ClusterComputeResource:d"}, false},
		{RemedyRequest{Scope: "ClusterComputeResource:d", Alarm: "disk"}, true},
		{RemedyRequest{Scope: "ClusterComputeResource:d", Alarm: "cpu"}, false},
		{RemedyRequest{}, false},
	} {
		r := c.r
		r.Owner, r.VM, r.What = "o", "VirtualMachine:vm-1", "cpu"
		if g := s.Remedy(t0, r); g.Granted == c.held {
			t.Errorf("%+v gets %+v", c.r, g)
		}
		s.Remedied(t0, RemediedRequest{Owner: "o", VM: r.VM, What: "cpu"})
	}
	s.Pause(t0, PauseRequest{End: true, All: true})
	for i := range MaxPauses + 1 {
		a = s.Pause(t0, PauseRequest{Pause: Pause{Alarm: strings.Repeat("x", i+1), Reason: "x"}})
	}
	if a.Refused == "" || len(s.Pauses) != MaxPauses {
		t.Errorf("%d pauses hold, refused %q", len(s.Pauses), a.Refused)
	}
}

func TestASpareEndsByItsTimeOrByAPerson(t *testing.T) {
	var s State
	s.Spare(t0, SpareRequest{Spare: Spare{VM: "VirtualMachine:vm-1", Reason: "x", Until: t0.Add(time.Hour)}})
	s.Spare(t0, SpareRequest{Spare: Spare{VM: "VirtualMachine:vm-1", Reason: "y", Until: t0.Add(2 * time.Hour)}})
	s.Spare(t0, SpareRequest{Spare: Spare{VM: "VirtualMachine:vm-2", Reason: "x", Until: t0.Add(time.Hour)}})
	if f := s.Facts(t0, FactsRequest{}); len(f.Spares) != 2 || f.Spares[0].Reason != "y" {
		t.Errorf("%+v", f.Spares)
	}
	if f := s.Facts(t0.Add(time.Hour), FactsRequest{}); len(f.Spares) != 1 {
		t.Errorf("after its time: %+v", f.Spares)
	}
	if a := s.Spare(t0, SpareRequest{Spare: Spare{VM: "VirtualMachine:vm-1"}, End: true}); !a.Ended || len(a.Spares) != 1 {
		t.Errorf("%+v", a)
	}
	if a := s.Spare(t0, SpareRequest{Spare: Spare{VM: "VirtualMachine:vm-1"}, End: true}); a.Ended {
		t.Errorf("it ended twice: %+v", a)
	}
}

func TestASpareMakesAPlanStaleThatHasChosenTheVM(t *testing.T) {
	var s State
	f := s.Facts(t0, FactsRequest{Owner: "round", Scope: "ClusterComputeResource:a"})
	s.Spare(t0, SpareRequest{Spare: Spare{VM: "VirtualMachine:vm-1", Reason: "x", Until: t0.Add(time.Hour)}})
	r := s.Reserve(ReserveRequest{Owner: "round", VMs: []string{"VirtualMachine:vm-1"}, Seen: f.Version, Scope: "ClusterComputeResource:a"})
	if r.Granted || !r.Stale {
		t.Errorf("%+v", r)
	}
}

func TestABriefAnswerSaysWhoIsHeldUpAndDoesNotGrowWithWhatWasEvicted(t *testing.T) {
	var s State
	r := EvictedRequest{Owner: "round", Scope: "ClusterComputeResource:a"}
	for i := range 1000 {
		r.Evicted = append(r.Evicted, Evicted{VM: fmt.Sprint("VirtualMachine:vm-", i), Host: "HostSystem:h", Time: t0})
	}
	s.Evicted(t0, r)
	s.Spare(t0, SpareRequest{Spare: Spare{VM: "VirtualMachine:vm-7", Reason: "x", Until: t0.Add(time.Hour)}})
	s.Pause(t0, PauseRequest{Pause: Pause{Reason: "x"}})
	f := s.Facts(t0, FactsRequest{Owner: "round", Scope: "ClusterComputeResource:a", Brief: true})
	answer, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if f.Paused == "" || len(f.Spares) != 1 || len(answer) > 1000 {
		t.Errorf("%d bytes: %.1000s", len(answer), answer)
	}
	if whole := s.Facts(t0, FactsRequest{Owner: "another", Scope: "ClusterComputeResource:a"}); len(whole.Evictions) != 1000 {
		t.Errorf("the whole answer has %d evictions", len(whole.Evictions))
	}
}
