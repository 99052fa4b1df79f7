package config

import (
	"reflect"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// function is the least the receiver needs: the documented variables.
func function(pairs ...string) Env {
	env := Env{
		"TEMPORAL_URL": "temporal:7233", "TEMPORAL_NAMESPACE": "ns", "TEMPORAL_TASKQUEUE": "queue",
		"VSPHERE_ALARM_NAME": "cluster-cpu-above-80", "VSPHERE_PREEMPTION_TAG": "preemptible",
	}
	for i := 0; i < len(pairs); i += 2 {
		env[pairs[i]] = pairs[i+1]
	}
	return env
}

func rule(alarm string, change ...func(*trigger.Preempt)) trigger.Rule {
	p := trigger.Preempt{Tag: "preemptible", Policy: "default", Scope: "cluster", OnFall: "cancel"}
	for _, f := range change {
		f(&p)
	}
	return trigger.Rule{Alarm: alarm, Action: p}
}

func TestLoadReceiverWithTheDocumentedVariables(t *testing.T) {
	noProfile(t)
	got, err := LoadReceiver(function("K_SINK", "http://broker/ns/default"), "")
	if err != nil {
		t.Fatal(err)
	}
	o := got.Temporal.Options
	if o.HostPort != "temporal:7233" || o.Namespace != "ns" || got.Temporal.TaskQueue != "queue" {
		t.Errorf("Temporal: %+v", got.Temporal)
	}
	got.Temporal = Temporal{}
	want := Receiver{Log: Log{Format: "json"}, Addr: ":8080", Rules: []trigger.Rule{
		rule("cluster-cpu-above-80", func(p *trigger.Preempt) { p.ReplyTo = "http://broker/ns/default" }),
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestLoadReceiverTakesWhatIsSet(t *testing.T) {
	noProfile(t)
	for name, tc := range map[string]struct {
		env   Env
		check func(Receiver) bool
	}{
		"PORT":                  {function("PORT", "9090"), func(r Receiver) bool { return r.Addr == ":9090" }},
		"an empty PORT":         {function("PORT", " "), func(r Receiver) bool { return r.Addr == ":8080" }},
		"RECEIVER_TOKEN_FILE":   {function("RECEIVER_TOKEN_FILE", " /t/token\n"), func(r Receiver) bool { return r.TokenFile == "/t/token" }},
		"no token":              {function(), func(r Receiver) bool { return r.TokenFile == "" }},
		"LOG_FORMAT and DEBUG":  {function("LOG_FORMAT", "text", "DEBUG", "true"), func(r Receiver) bool { return r.Log == Log{Format: "text", Debug: true} }},
		"an alarm by glob":      {function("VSPHERE_ALARM_NAME", "Host*"), func(r Receiver) bool { return r.Rules[0].Alarm == "Host*" }},
		"an alarm's exact name": {function("VSPHERE_ALARM_NAME", "cpu [prod"), func(r Receiver) bool { return r.Rules[0].Alarm == "cpu [prod" }},
		"white space around":    {function("VSPHERE_ALARM_NAME", " a \n"), func(r Receiver) bool { return r.Rules[0].Alarm == "a" }},
		"another Temporal":      {function("TEMPORAL_URL", "", "TEMPORAL_ADDRESS", "other:7233"), func(r Receiver) bool { return r.Temporal.Options.HostPort == "other:7233" }},
		"nothing of vCenter's":  {function("VCENTER_URL", "nonsense:::"), func(r Receiver) bool { return len(r.Rules) == 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := LoadReceiver(tc.env, "")
			if err != nil {
				t.Fatal(err)
			}
			if !tc.check(r) {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func TestLoadReceiverNamesEachBadVariable(t *testing.T) {
	noProfile(t)
	file := write(t, "p.yaml", "rules: [{alarm: a, preempt: {}}]\n")
	empty := write(t, "empty.yaml", "limits: {}\n")
	broken := write(t, "broken.yaml", "rules: [{alarm: a}]\nlimits: {outage: x}\n")
	noAlarm := "VSPHERE_ALARM_NAME: not set; set it to the name of the alarm to act upon, such as cluster-cpu-above-80, or give rules in the file that PREEMPTION_CONFIG names"
	noTag := "VSPHERE_PREEMPTION_TAG: not set; set it to the tag that marks preemptible VMs, such as preemptible"
	neither := func(pairs ...string) Env {
		return function(append(pairs, "VSPHERE_ALARM_NAME", "", "VSPHERE_PREEMPTION_TAG", "")...)
	}
	for name, tc := range map[string]struct {
		env  Env
		want []string
	}{
		"nothing set":                         {Env{}, []string{"TEMPORAL_URL: not set", "TEMPORAL_NAMESPACE: not set", "TEMPORAL_TASKQUEUE: not set", noAlarm, noTag}},
		"no alarm":                            {function("VSPHERE_ALARM_NAME", " "), []string{noAlarm}},
		"no tag":                              {function("VSPHERE_PREEMPTION_TAG", ""), []string{noTag}},
		"no rule in the file either":          {neither("PREEMPTION_CONFIG", empty), []string{noAlarm, noTag}},
		"half a rule beside those of a file":  {function("PREEMPTION_CONFIG", file, "VSPHERE_PREEMPTION_TAG", ""), []string{noTag}},
		"the other half":                      {function("PREEMPTION_CONFIG", file, "VSPHERE_ALARM_NAME", ""), []string{noAlarm}},
		"a sink that is no URL":               {function("K_SINK", "broker"), []string{`K_SINK: "broker" is no http or https URL`}},
		"PORT is a word":                      {function("PORT", "http"), []string{`PORT: "http" is no port from 1 to 65535`}},
		"PORT is too high":                    {function("PORT", "65536"), []string{`PORT: "65536" is no port from 1 to 65535`}},
		"PORT is an address":                  {function("PORT", "0.0.0.0:80"), []string{`PORT: "0.0.0.0:80" is no port from 1 to 65535`}},
		"PORT is negative":                    {function("PORT", "-1"), []string{`PORT: "-1" is no port`}},
		"an unknown log format":               {function("LOG_FORMAT", "xml"), []string{`LOG_FORMAT: "xml" is not one of json, text`}},
		"a file that is not there":            {function("PREEMPTION_CONFIG", "/no/such.yaml"), []string{"configuration file: open /no/such.yaml: no such file or directory; name an existing file with --config or PREEMPTION_CONFIG"}},
		"and nothing else is made of that":    {neither("PREEMPTION_CONFIG", "/no/such.yaml"), []string{"configuration file: open /no/such.yaml"}},
		"a file with problems":                {neither("PREEMPTION_CONFIG", broken), []string{broken + ":1: rules[0]: says nothing to do", broken + `:2: limits.outage: "x" is no duration`}},
		"problems of file and variables both": {function("PREEMPTION_CONFIG", broken, "PORT", "x", "K_SINK", "x"), []string{"PORT: ", broken + ":1: ", broken + ":2: ", "K_SINK: "}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := LoadReceiver(tc.env, "")
			wantProblems(t, err, tc.want)
		})
	}
}

func TestTheRuleOfTheVariablesComesBeforeThoseOfTheFile(t *testing.T) {
	noProfile(t)
	file := write(t, "p.yaml", "rules: [{alarm: a, preempt: {}}, {alarm: b, preempt: {}}]\npolicies: {default: {scope: all}}\n")
	all := func(p *trigger.Preempt) { p.Scope = "all" }
	fromFile := []trigger.Rule{rule("a", all), rule("b", all)}
	both := append([]trigger.Rule{rule("cluster-cpu-above-80", all)}, fromFile...)
	for name, tc := range map[string]struct {
		env  Env
		path string
		want []trigger.Rule
	}{
		"the file alone, by its variable": {function("PREEMPTION_CONFIG", file, "VSPHERE_ALARM_NAME", "", "VSPHERE_PREEMPTION_TAG", ""), "", fromFile},
		"the file alone, by its flag":     {function("PREEMPTION_CONFIG", "/no/such", "VSPHERE_ALARM_NAME", "", "VSPHERE_PREEMPTION_TAG", ""), file, fromFile},
		"a sink alone is no rule":         {function("PREEMPTION_CONFIG", file, "VSPHERE_ALARM_NAME", "", "VSPHERE_PREEMPTION_TAG", "", "K_SINK", "http://b"), "", fromFile},
		"both":                            {function("PREEMPTION_CONFIG", file), "", both},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := LoadReceiver(tc.env, tc.path)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(r.Rules, tc.want) {
				t.Errorf("receiver:\n got %+v\nwant %+v", r.Rules, tc.want)
			}
			tc.env["VCENTER_URL"] = "https://vc/sdk"
			w, err := LoadWorker(tc.env, tc.path)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(w.File.Rules, tc.want) {
				t.Errorf("worker:\n got %+v\nwant %+v", w.File.Rules, tc.want)
			}
		})
	}
}

func TestTheVariablesOfTheFunctionAreARuleOfTheWorkerToo(t *testing.T) {
	noProfile(t)
	w, err := LoadWorker(with("VSPHERE_ALARM_NAME", "cpu", "VSPHERE_PREEMPTION_TAG", "preemptible", "K_SINK", "http://b"), "")
	if err != nil {
		t.Fatal(err)
	}
	want := []trigger.Rule{rule("cpu", func(p *trigger.Preempt) { p.ReplyTo = "http://b" })}
	if !reflect.DeepEqual(w.File.Rules, want) {
		t.Errorf("got %+v", w.File.Rules)
	}
	if w, err := LoadWorker(minimal(), ""); err != nil || len(w.File.Rules) != 0 {
		t.Errorf("without them: %+v, %v", w.File.Rules, err)
	}
	_, err = LoadWorker(with("VSPHERE_ALARM_NAME", "cpu", "K_SINK", "b"), "")
	wantProblems(t, err, []string{"VSPHERE_PREEMPTION_TAG: not set", `K_SINK: "b" is no http or https URL`})
}
