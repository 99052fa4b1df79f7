package console

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/watchapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

// busy is a site with a round over n VMs under way and as many off, with names that are no HTML.
func busy(n int) record.Now {
	now := time.Now().UTC()
	st := record.Now{At: now, OpenAt: now, Workers: record.Workers{At: now, Polled: true}}
	e := record.Entry{
		Kind: record.Round, ID: "round-1-cpu@domain-c7", RunID: "r", State: "notified", Open: true, Alarm: "<b>cpu</b>", ScopeName: "Cluster-1",
		StartedAt: now, Deadline: now.Add(time.Minute), At: now,
	}
	for i := range n {
		ref := vsphere.Ref{Type: vsphere.TypeVM, Value: fmt.Sprintf("vm-%d", i)}
		name := fmt.Sprintf("<img src=x onerror=alert(1)> %d", i)
		e.VMs = append(e.VMs, record.VM{Ref: ref, Name: name, Done: record.Waiting, Words: "has its notice", Why: "rank 1"})
		st.Off = append(st.Off, record.Off{VM: ref, Name: name, Since: now, RoundID: "round-0"})
	}
	st.Open = []record.Entry{e}
	return st
}

// showing is a console whose record says this.
func showing(t *testing.T, st record.Now) *Console {
	t.Helper()
	c := away(t, Guard{})
	c.now, c.err = st, nil
	return c
}

func TestAThousandVMsAreShownByTheFewUnlessAllAreAskedFor(t *testing.T) {
	c := showing(t, busy(1000))
	body := ask(c, "GET", "/").Body.String()
	if rows := strings.Count(body, `href="/vms/`); rows != 2*few || !strings.Contains(body, "Show all 1000") {
		t.Errorf("%d VMs are shown", rows)
	}
	if body = ask(c, "GET", "/?all=1").Body.String(); strings.Count(body, `href="/vms/`) != 2000 || strings.Contains(body, "Show all") {
		t.Errorf("of all, %d are shown", strings.Count(body, `href="/vms/`))
	}
	if len(body) > 1<<20 {
		t.Errorf("the page with all has %d bytes", len(body))
	}
}

func TestNamesFromVCenterAreNoHTML(t *testing.T) {
	body := ask(showing(t, busy(2)), "GET", "/").Body.String()
	if strings.Contains(body, "<img") || strings.Contains(body, "<b>cpu") || !strings.Contains(body, "&lt;img src=x onerror=alert(1)&gt; 0") {
		t.Errorf("names are not escaped:\n%s", body)
	}
}

func TestThePartThatIsReadAgainIsOnlyTheLivePart(t *testing.T) {
	c := showing(t, busy(1))
	part := ask(c, "GET", "/", "HX-Request", "true").Body.String()
	if !strings.HasPrefix(part, `<main id="live"`) || strings.Contains(part, "<html") || !strings.Contains(part, "Round on Cluster-1: notice given, 1 to go.") {
		t.Errorf("the part is\n%s", part)
	}
}

func TestWhatStopsTheWorkIsABanner(t *testing.T) {
	st := busy(0)
	st.Watch.State = &watchapi.State{Paused: true, Reason: "maintenance"}
	if body := ask(showing(t, st), "GET", "/history").Body.String(); !strings.Contains(body, "The watch is paused: alarms start nothing (maintenance).") || !strings.Contains(body, "preemptctl watch start") {
		t.Errorf("a paused watch is no banner:\n%s", body)
	}
	st.Workers.Polled = false
	if body := ask(showing(t, st), "GET", "/").Body.String(); !strings.Contains(body, "No worker polls task queue") {
		t.Error("that no worker polls is no banner")
	}
}

func TestStandingAlarmsAreShownOnceWithWhatActsOnThem(t *testing.T) {
	st := busy(0)
	st.Watch.State = &watchapi.State{Checkpoint: watchapi.Checkpoint{Levels: []watchapi.Level{
		{Alarm: watchapi.Object{Name: "cpu"}, Entity: watchapi.Object{Type: "HostSystem", Value: "host-1", Name: "esx-1"}, Scope: watchapi.Object{Name: "Cluster-1"}, Colour: "red"},
	}}}
	all := standingOf(st)
	if len(all) != 1 || all[0].On != "esx-1" || all[0].Scope != "Cluster-1" || all[0].Colour != "red" {
		t.Errorf("standing are %+v", all)
	}
}

func TestACommandIsQuotedForAShellAndReachesTheSameTemporal(t *testing.T) {
	for want, got := range map[string]string{
		"preemptctl doctor": Target{DefaultServer, "vsphere-preemption", "vsphere-preemption"}.Command("doctor"),
		`preemptctl workflow cancel --workflow-id 'a'\''b; rm -rf /' --server t:1 --namespace n --queue q`: Target{"t:1", "n", "q"}.Command("workflow", "cancel", "--workflow-id", "a'b; rm -rf /"),
	} {
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestThePolicyOfAFileIsShownWithAllItsSettings(t *testing.T) {
	p := PolicyOf("default", policy.Default())
	keys := map[string]bool{}
	for _, s := range p.Settings {
		keys[s.Key] = true
		if s.Value == "" {
			t.Errorf("%s has no value", s.Key)
		}
	}
	if p.Hash == "" || !keys["maxVMs"] || len(keys) < 20 {
		t.Errorf("%d settings: %v", len(keys), keys)
	}
}

func TestTheCommandsOfThePagesNameNoFlagWithoutAValue(t *testing.T) {
	codes := regexp.MustCompile(`<code>([^<]+)</code>`)
	found := 0
	for _, path := range []string{"/", "/history", "/remediation", "/policies", "/health"} {
		for _, m := range codes.FindAllStringSubmatch(ask(showing(t, busy(2)), "GET", path).Body.String(), -1) {
			found++
			if !strings.HasPrefix(m[1], "preemptctl ") || strings.HasSuffix(m[1], "--") {
				t.Errorf("%s shows %q", path, m[1])
			}
		}
	}
	if found < 6 {
		t.Errorf("only %d commands are shown", found)
	}
}
