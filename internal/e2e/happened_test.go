package e2e

import (
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

func TestWhatHappenedHasACommandEach(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithRestore(func(p *policy.Policy) { p.MaxVMs = 4 }))
	s.Worker()
	awaitWorker(s)
	if out := pauses(s, "off"); !strings.Contains(out, "no VM") {
		t.Errorf("off says %q before anybody went", out)
	}
	if out := pauses(s, "history"); !strings.Contains(out, "nothing happened") {
		t.Errorf("history says %q before anything happened", out)
	}
	r := s.Preempted(4)
	gone := r.Targets[0]

	s.Eventually("off lists who went", func() bool {
		var list []struct {
			VM           struct{ Value string }
			Alarm, Back  string
			ClusterName  string
			Since        time.Time
			RoundID, Who string
		}
		_, out, _ := s.Typed("off", "-o", "json")
		s.Must(json.Unmarshal([]byte(out), &list))
		return len(list) == 4 && list[0].RoundID == r.RoundID && strings.Contains(list[0].Back, "when alarm "+r.Alarm)
	})
	if out := pauses(s, "off", "--cluster", "cluster-b"); !strings.Contains(out, "no VM") {
		t.Errorf("of another cluster: %s", out)
	}
	for _, args := range [][]string{{"--vm", gone.Name}, {"--cluster", "cluster-a"}, {"--alarm", r.Alarm}, {"--kind", "round"}, {"--state", "completed"}} {
		if out := pauses(s, append([]string{"history", "--since", "1h"}, args...)...); !sitetest.ContainsAll(out, r.RoundID, "4 off", "cluster-a") {
			t.Errorf("history %v: %s", args, out)
		}
	}
	if out := pauses(s, "history", "--vm", s.VC.TaggedVMs("cluster-b")[0].Name); !strings.Contains(out, "nothing happened") {
		t.Errorf("of a VM that nothing happened to: %s", out)
	}
	if code, _, errs := s.Typed("history", "--vm", "nobody"); code != 3 || strings.Contains(errs, "nothing was started") {
		t.Errorf("history of a VM that is not there exits with %d: %s", code, errs)
	}
	if out := pauses(s, "explain", gone.Name); !sitetest.ContainsAll(out, "it would stay: it is not powered on", r.RoundID, "down") {
		t.Errorf("explain %s: %s", gone.Name, out)
	}
	for _, vm := range s.VC.TaggedVMs("cluster-a") {
		if s.On(vm) {
			if out := pauses(s, "explain", vm.Name, "--alarm", r.Alarm); !sitetest.ContainsAll(out, "it would go, as number", "of 2", "cluster-a") {
				t.Errorf("explain %s: %s", vm.Name, out)
			}
			break
		}
	}
	if out := pauses(s, "explain", "cluster-a-app-01"); !strings.Contains(out, "does not carry the tag") {
		t.Errorf("explain a VM without the tag: %s", out)
	}

	s.Change("alarm", "cluster-a", 0, "red", "green")
	s.WantRestored(s.Restored(), preemptapi.RestoreCompleted, 4)
	s.Eventually("nobody is off any more", func() bool { _, out, _ := s.Typed("off"); return strings.Contains(out, "no VM") })
	out := pauses(s, "report", "--since", "1h")
	if !sitetest.ContainsAll(out, "TOTAL", "GHZ·H", "cluster-a", r.Alarm, gone.Name) {
		t.Errorf("report: %s", out)
	}
	_, text, _ := s.Typed("report", "--since", "1h", "--csv", "--by", "vm")
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(rows) != 5 || rows[0][0] != "by" || rows[1][3] != "1" {
		t.Errorf("%v: %v", err, rows)
	}
	if out := pauses(s, "workflow", "status", "--watch", "-w", r.RoundID); strings.Count(out, gone.Name) != 1 {
		t.Errorf("the status of what has ended is watched: %s", out)
	}
	if out := pauses(s, "workflow", "list", "--limit", "5000"); !sitetest.ContainsAll(out, r.RoundID, s.RestoreID()) {
		t.Errorf("list: %s", out)
	}
	for _, wrong := range [][]string{
		{"workflow", "status", "--watch", "-o", "json"},
		{"history", "--since", "soon"},
		{"history", "--kind", "party"},
		{"report", "--by", "colour"},
		{"report", "--csv", "-o", "json"},
		{"explain", gone.Name, "--alarm", "x", "--cluster", "cluster-a"},
		{"off", "--since", "-3d"},
		{"explain"},
		{"history", "--since", "1h", "--until", "2h"},
	} {
		if code, _, _ := s.Typed(wrong...); code != 2 {
			t.Errorf("%v exits with %d", wrong, code)
		}
	}
	if code, _, _ := s.Typed("explain", "no-such-vm"); code != 3 {
		t.Errorf("explain of a VM that is not there exits with %d", code)
	}
	if code, _, _ := s.Typed("explain", gone.Name, "--alarm", "no such alarm"); code != 3 {
		t.Errorf("explain by an alarm that is not there exits with %d", code)
	}
}
