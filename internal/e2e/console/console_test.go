package console

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/api/preemptapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/e2e/sitetest"
	"github.com/vsphere-preemption/vsphere-preemption/internal/judge"
	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
	"github.com/vsphere-preemption/vsphere-preemption/internal/vsphere"
)

func contextOf(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(context.WithoutCancel(t.Context()))
}

func TestTheRecordFollowsARoundFromItsNoticeToItsRestore(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.WithNotice(3*time.Second), sitetest.WithRestore())
	s.Worker()
	address, _ := serve(t, s)
	now := func() record.Now { return get[record.Now](t, address+"/api/v1/now") }
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	id := s.Started("alarm")
	st := eventually(t, "the notice is shown", now, func(n record.Now) bool {
		return len(n.Open) == 1 && n.Open[0].State == string(preemptapi.RoundNotified) && !n.Open[0].Deadline.IsZero()
	})
	if e := st.Open[0]; e.ID != id || len(e.VMs) != 6 || e.VMs[0].Name == "" || e.VMs[0].Why == "" || e.VMs[0].Done != record.Waiting || e.ScopeName != "cluster-a" {
		t.Errorf("during the notice: %+v", e)
	}
	r := s.Round(id)
	st = eventually(t, "its VMs are off because of us", now, func(n record.Now) bool { return len(n.Off) == 6 && len(n.Open) == 0 })
	if off := st.Off[0]; off.Name == "" || off.RoundID != id || off.Since.IsZero() || off.ClusterName != "cluster-a" || off.Alarm == "" {
		t.Errorf("off is %+v", off)
	}
	if len(st.Clusters) == 0 || st.Clusters[0].Name != "cluster-a" || st.Clusters[0].CPU.Capacity == 0 {
		t.Errorf("the clusters are %+v", st.Clusters)
	}
	d := get[record.RoundDetail](t, address+"/api/v1/rounds/"+url.PathEscape(id))
	if d.Result == nil || len(d.Result.Targets) != len(r.Targets) || d.Entry.FreedCPUMHz != r.FreedCPUMHz {
		t.Errorf("the round is shown as %+v", d.Entry)
	}
	if !strings.Contains(string(d.Event), "AlarmStatusChangedEvent") || d.EventError != "" {
		t.Errorf("what caused the round is shown as %s %s", d.Event, d.EventError)
	}
	if _, err := s.ByHand(preemptapi.RestoreInput{Tag: "preemptible", Scope: s.Cluster("cluster-a"), Person: true, By: preemptapi.ByHand}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nobody is off any more", now, func(n record.Now) bool { return len(n.Off) == 0 })
	sums := get[record.Sums](t, address+"/api/v1/sums?since=1h")
	if sums.Total.Preemptions != 6 || sums.Total.StillDown != 0 || sums.Total.GHzHours <= 0 || sums.Rounds != 1 || sums.Restores != 1 {
		t.Errorf("in sum: %+v", sums)
	}
	vm := get[record.VMRecord](t, address+"/api/v1/vms/"+url.PathEscape(r.Targets[0].Name))
	if vm.Ref != r.Targets[0].Ref || len(vm.Downs) != 1 || vm.Downs[0].Until.IsZero() || len(vm.Past) != 2 || vm.Off != nil {
		t.Errorf("of the VM it says %+v", vm)
	}
	d = get[record.RoundDetail](t, address+"/api/v1/rounds/"+url.PathEscape(id))
	if len(d.Measured) == 0 || d.Measured[0].Name != "cluster-a" || !d.Measured[0].At.After(r.Targets[0].OffAt) {
		t.Errorf("as measured after the round: %+v", d.Measured)
	}
}

// vmNow is what a worker said of a VM, as /api/v1/vms/{name} has it.
type vmNow struct {
	Now *struct {
		AskedAt time.Time
		Verdict *judge.Verdict
		Error   string
		Power   string
		Tags    map[string][]string
	}
}

func TestAVMsPageSaysByAPlanWhetherItWouldGoNow(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(2))
	s.Worker()
	address, _ := serve(t, s)
	eventually(t, "the worker is seen", func() record.Now { return get[record.Now](t, address+"/api/v1/now") }, func(n record.Now) bool { return n.Workers.Polled })
	tagged := s.VC.TaggedVMs("cluster-a")
	name := tagged[0].Name
	page := address + "/api/v1/vms/" + url.PathEscape(name)
	vm := eventually(t, "a worker has said whether it would go", func() vmNow { return get[vmNow](t, page) }, func(v vmNow) bool { return v.Now != nil })
	if v := vm.Now.Verdict; v == nil || !v.WouldGo || v.Name != name || !strings.Contains(v.Words, "it would go, as number") || vm.Now.Error != "" {
		t.Fatalf("of a VM that no round has named it says %+v, %+v", vm.Now, *vm.Now.Verdict)
	}
	if vm.Now.Power != vsphere.PoweredOn || !slices.ContainsFunc(slices.Collect(maps.Values(vm.Now.Tags)), func(tags []string) bool { return slices.Contains(tags, "preemptible") }) {
		t.Errorf("it is %s and has the tags %v", vm.Now.Power, vm.Now.Tags)
	}
	for range 3 {
		if again := get[vmNow](t, page); again.Now == nil || !again.Now.AskedAt.Equal(vm.Now.AskedAt) {
			t.Fatalf("within a minute it was asked again: %+v", again.Now)
		}
	}
	if code, body := getFrom(t, address+"/api/v1/vms/"+url.PathEscape(name+"x"), "same-origin"); code != http.StatusNotFound || !strings.Contains(body, "did you mean "+name) {
		t.Errorf("of a name that vCenter does not know: %d %s", code, body)
	}
	if code, body := getFrom(t, address+"/api/v1/vms/"+url.PathEscape(tagged[1].Name), "cross-site"); code != http.StatusNotFound || !strings.Contains(body, "nothing is known") {
		t.Errorf("another site's page has a worker asked: %d %s", code, body)
	}
}

// getFrom asks as a browser does for a page of a site.
func getFrom(t *testing.T, url, site string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Site", site)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestWhileTemporalIsAwayTheConsoleSaysSoAndRecovers(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(2))
	s.Worker()
	address, wire := serve(t, s)
	s.Preempt(preemption.CriticalityHigh)
	now := func() record.Now { return get[record.Now](t, address+"/api/v1/now") }
	eventually(t, "both are off", now, func(n record.Now) bool { return len(n.Off) == 2 })
	wire.set(true)
	st := eventually(t, "it says that Temporal is away", now, func(n record.Now) bool { return len(n.Troubles) > 0 })
	if len(st.Off) != 2 {
		t.Errorf("what was known is gone: %+v", st.Off)
	}
	wire.set(false)
	eventually(t, "it recovers", now, func(n record.Now) bool { return len(n.Troubles) == 0 })
}

func TestWithoutAWorkerTheConsoleSaysThatNobodyCanAnswer(t *testing.T) {
	t.Parallel()
	s := sitetest.New(t, sitetest.OneCluster(2))
	address, _ := serve(t, s)
	st := eventually(t, "it has looked", func() record.Now { return get[record.Now](t, address+"/api/v1/now") }, func(n record.Now) bool { return !n.Workers.At.IsZero() })
	if st.Workers.Polled {
		t.Errorf("it says %+v", st.Workers)
	}
}

func TestEachPageInABrowserWhileVMsGetTheirNoticeGoAndComeBack(t *testing.T) {
	s := sitetest.New(t, sitetest.WithNotice(25*time.Second), sitetest.WithTarget(75), sitetest.WithRestore())
	s.Queue = preemption.DefaultTaskQueue // so that commands are as most people see them
	usage(t, s, 92)
	s.Worker()
	address, wire := serve(t, s)
	b := open(t, address)
	b.goTo("/")
	b.shows("No round is under way.")
	s.Signal("alarm", s.AlarmRequest("cluster-a", preemption.CriticalityHigh))
	id := s.Started("alarm")
	eval[int](b, `window.sameDocument = 1`)
	b.shows("has its notice")
	b.shows("until the VMs go")
	b.shows("Next, if more must go")
	if countdown := eval[string](b, `document.querySelector("time[data-left]").textContent`); !strings.HasSuffix(countdown, " s") {
		t.Errorf("the countdown says %q", countdown)
	}
	b.accessible("now-notice")
	eval[int](b, `document.querySelector("main a").focus(), 1`)
	first := s.Under(id)
	if len(first.Pending) == 0 {
		t.Fatal("the notice is over too soon")
	}
	name := first.Pending[0].Name
	b.shows("off because of us")
	b.shows(name)
	if same := eval[int](b, `window.sameDocument || 0`); same != 1 {
		t.Error("the page was loaded again")
	}
	s.Round(id)
	b.clean()
	b.accessible("now-off")
	for path, words := range map[string]string{
		"/rounds/" + url.PathEscape(id): "powered off, and recorded on it",
		"/vms/" + url.PathEscape(name):  "No: it would stay",
		"/history?since=24h":            "VMs preempted, by day",
		"/remediation":                  "No VM is being resized",
		"/policies":                     "Policies as rounds used them",
		"/health":                       "is stalled",
		"/nowhere":                      "there is no such page",
	} {
		b.goTo(path)
		b.shows(words)
		b.accessible(strings.NewReplacer("/", "", "?", "-", "%", "", "@", "").Replace(strings.SplitN(path, "/", 3)[1]))
	}
	if bars := func() int {
		b.goTo("/history")
		return eval[int](b, `document.querySelectorAll(".plot canvas").length`)
	}(); bars != 3 {
		t.Errorf("%d charts are drawn", bars)
	}
	b.goTo("/")
	usage(t, s, 30)
	if _, err := s.ByHand(preemptapi.RestoreInput{Tag: "preemptible", Scope: s.Cluster("cluster-a"), Person: true, By: preemptapi.ByHand}); err != nil {
		t.Fatal(err)
	}
	b.shows("No VM is off because of us")
	b.clean()
	wire.set(true)
	b.shows("does not answer")
	b.accessible("away")
	wire.set(false)
	b.shows("No round is under way.")
	b.shows(fmt.Sprintf("Queue %s", s.Queue))
	b.clean()
}

// usage sets what cluster-a uses of its CPU.
func usage(t *testing.T, s *sitetest.Site, percent float64) {
	t.Helper()
	if err := s.VC.SetClusterUsage("cluster-a", percent, 60); err != nil {
		t.Fatal(err)
	}
}

func TestTheConsoleIsUsedByKeyboard(t *testing.T) {
	s := sitetest.New(t, sitetest.OneCluster(1))
	address, _ := serve(t, s)
	b := open(t, address)
	b.goTo("/")
	reached := eval[[]string](b, `[...document.querySelectorAll("a, button, input, select, [tabindex]")].filter((e) => e.tabIndex < 0 && e.id !== "live").map((e) => e.outerHTML)`)
	if len(reached) > 0 {
		t.Errorf("not reached by keyboard: %v", reached)
	}
	b.key("\t")
	if text := eval[string](b, `document.activeElement.textContent`); text != "Skip to the content" {
		t.Errorf("the first tab leads to %q", text)
	}
	b.key("\r")
	if at := eval[string](b, `document.activeElement.id`); at != "live" {
		t.Errorf("the skip link leads to %q", at)
	}
	b.clean()
}
