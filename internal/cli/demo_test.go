package cli_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/demoapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
)

// demoServer answers each order as answer says, and keeps the last one.
func demoServer(t *testing.T, answer http.HandlerFunc) (address string, last *demoapi.Order) {
	t.Helper()
	last = new(demoapi.Order)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != demoapi.Path || r.Header.Get(demoapi.Header) != demoapi.HeaderValue ||
			r.Header.Get("Content-Type") != demoapi.ContentType {
			t.Errorf("asked by %s %s with %v", r.Method, r.URL, r.Header)
		}
		if err := json.NewDecoder(r.Body).Decode(last); err != nil {
			t.Error(err)
		}
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://"), last
}

func TestTheDemoGetsTheOrderThatWasTyped(t *testing.T) {
	done := demoapi.Answer{Done: "it is done\x1b[31m", Next: "look"}
	address, last := demoServer(t, func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(done) })
	for name, c := range map[string]struct {
		args []string
		want demoapi.Order
	}{
		"alarm":                      {[]string{"alarm", "red", "--on", "cluster-b"}, demoapi.Order{Knob: demoapi.KnobAlarm, Colour: "red", On: "cluster-b"}},
		"alarm in capitals":          {[]string{"alarm", "RED"}, demoapi.Order{Knob: demoapi.KnobAlarm, Colour: "red"}},
		"the end of an alarm":        {[]string{"alarm", "green"}, demoapi.Order{Knob: demoapi.KnobAlarm, Colour: "green"}},
		"load":                       {[]string{"load", "95"}, demoapi.Order{Knob: demoapi.KnobLoad, Percent: 95}},
		"load with its sign":         {[]string{"load", "95%"}, demoapi.Order{Knob: demoapi.KnobLoad, Percent: 95}},
		"the load of the day":        {[]string{"load", "auto", "--on", "cluster-b"}, demoapi.Order{Knob: demoapi.KnobLoad, On: "cluster-b"}},
		"a kill":                     {[]string{"worker", "kill"}, demoapi.Order{Knob: demoapi.KnobKill}},
		"a kill for a minute":        {[]string{"worker", "kill", "--for", "1m"}, demoapi.Order{Knob: demoapi.KnobKill, For: clock.Duration(time.Minute)}},
		"a cut without end":          {[]string{"vcenter", "cut"}, demoapi.Order{Knob: demoapi.KnobCut}},
		"a cut of half a minute":     {[]string{"vcenter", "cut", "--for", "30s"}, demoapi.Order{Knob: demoapi.KnobCut, For: clock.Duration(30 * time.Second)}},
		"the end of a cut":           {[]string{"vcenter", "back"}, demoapi.Order{Knob: demoapi.KnobBack}},
		"by the flag and not by env": {[]string{"vcenter", "back", "--demo", address}, demoapi.Order{Knob: demoapi.KnobBack}},
	} {
		t.Run(name, func(t *testing.T) {
			*last = demoapi.Order{}
			env := environment{"PREEMPT_DEMO_ADDR": address}
			if strings.Contains(name, "by the flag") {
				env["PREEMPT_DEMO_ADDR"] = "127.0.0.1:1"
			}
			preemptctl(t, cli.Options{Env: env}, append([]string{"demo"}, c.args...)...).want(t, 0, "stdout", `it is done\x1b[31m`+"\nnext: look\n")
			if *last != c.want {
				t.Errorf("the order is %+v, want %+v", *last, c.want)
			}
		})
	}
}

func TestTheDemoIsShownAsATableAndAsJSON(t *testing.T) {
	until := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	answer := demoapi.Answer{Done: "the demo runs", Status: demoapi.Status{
		Temporal: "127.0.0.1:7233", Console: "http://127.0.0.1:8234", Speed: 2.5, Day: "09:30",
		Clusters: []demoapi.Cluster{{Name: "cluster-a", Demand: 95.4, CPU: 74.2, Alarm: "red", Held: true, Pinned: true, Off: 3}},
		Worker:   demoapi.Part{Until: until}, VCenter: demoapi.Part{},
	}}
	address, _ := demoServer(t, func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(answer) })
	env := cli.Options{Env: environment{"PREEMPT_DEMO_ADDR": address}}
	preemptctl(t, env, "demo", "status").want(t, 0, "stdout",
		"cluster-a   95 % (held)   74 %   red (held)   3", "09:30, at speed 2.5", "killed, until 2026-01-02 03:04:05Z", "vCenter    cut off\n", "http://127.0.0.1:8234")
	var got demoapi.Answer
	if err := json.Unmarshal([]byte(preemptctl(t, env, "demo", "status", "-o", "json").stdout), &got); err != nil || got.Status.Clusters[0] != answer.Status.Clusters[0] {
		t.Errorf("as JSON: %+v, %v", got, err)
	}
	answer.Status.Worker, answer.Status.VCenter = demoapi.Part{Up: true}, demoapi.Part{Up: true}
	preemptctl(t, env, "demo", "status").want(t, 0, "stdout", "worker     runs\n", "vCenter    answers\n")
}

func TestWhatTheDemoRefusesHasAnExitCode(t *testing.T) {
	for status, want := range map[int]int{
		http.StatusBadRequest: 2, http.StatusNotFound: 3, http.StatusConflict: 4, http.StatusForbidden: 1, http.StatusInternalServerError: 1,
	} {
		address, _ := demoServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(demoapi.Refusal{Error: "not now"})
		})
		preemptctl(t, cli.Options{Env: environment{}}, "demo", "status", "--demo", address).want(t, want, "stderr", "not now")
	}
}

func TestWhereNoDemoRunsTheNextStepIsSaid(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	preemptctl(t, cli.Options{Env: environment{"PREEMPT_DEMO_ADDR": nobody}}, "demo", "status").want(t, 1, "stderr",
		"no demo answers at "+nobody+": connection refused", "go run ./cmd/standalone --simulate", "--demo or PREEMPT_DEMO_ADDR")
	for _, text := range []string{"", "<html>", `{"status":"fine"}`} {
		address, _ := demoServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
		preemptctl(t, cli.Options{}, "demo", "worker", "kill", "--demo", address).want(t, 1, "stderr", "no demo answers at "+address, "what answers there is no demo")
	}
}

func TestWrongUsageOfTheDemo(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"no command":           {nil, "demo needs a subcommand"},
		"no colour":            {[]string{"alarm"}, "takes one colour: red, yellow or green"},
		"a colour that is not": {[]string{"alarm", "blue"}, "takes one colour"},
		"no load":              {[]string{"load"}, "takes one load: a percentage, or auto"},
		"a load of nothing":    {[]string{"load", "0"}, `"0" is no load: give 10 to 100 percent, or auto`},
		"too much load":        {[]string{"load", "101"}, "is no load"},
		"a load in words":      {[]string{"load", "much"}, "is no load"},
		"a kill for a moment":  {[]string{"worker", "kill", "--for", "1ms"}, "--for 1ms is not within 1s to 10m"},
		"a cut for nothing":    {[]string{"vcenter", "cut", "--for", "0s"}, "--for 0s is not within"},
		"another machine":      {[]string{"status", "--demo", "192.0.2.1:8235"}, "a demo takes orders on its own machine alone"},
		"a name of a machine":  {[]string{"status", "--demo", "demo.example.com:8235"}, "not of the form 127.0.0.1:PORT"},
		"no port":              {[]string{"status", "--demo", "127.0.0.1"}, "not of the form 127.0.0.1:PORT"},
	} {
		t.Run(name, func(t *testing.T) {
			preemptctl(t, cli.Options{}, append([]string{"demo"}, c.args...)...).want(t, 2, "stderr", c.says)
		})
	}
}
