package vcenter

import (
	"testing"
	"time"
)

func TestASourceNamesThisVCenterInAnyOfItsForms(t *testing.T) {
	gateway := func(url string) *Gateway {
		g, err := New(Config{URL: url, SecretPath: t.TempDir(), Insecure: true, Aliases: []string{"vc-old.example.com", "10.0.0.7:8443", "veba/prod"}})
		check(t, err)
		g.identity = identity{fqdn: "VC01.example.com", instanceUUID: "8C6E-42"}
		return g
	}
	g := gateway("https://vc.example.com/sdk")
	for source, want := range map[string]bool{
		"https://vc.example.com/sdk": true, "https://VC.example.com:443/sdk": true, "vc.example.com": true, "//vc.example.com/sdk": true,
		"https://vc01.example.com/sdk": true, "https://vc01.example.com./sdk": true, "urn:vcenter:8c6e-42": true,
		"https://vc-old.example.com/sdk": true, "https://10.0.0.7:8443/sdk": true, "veba/prod": true,
		"https://10.0.0.7/sdk": false, "https://vc.example.com:8443/sdk": false, "https://vc.example.org/sdk": false, "vc": false,
		"https://vc.example.com.evil.org/sdk": false, "": false, "preempctl-run": false,
	} {
		if g.Named(source) != want {
			t.Errorf("%q: %v", source, !want)
		}
	}
	if g := gateway("https://vc.example.com:8989/sdk"); !g.Named("https://vc.example.com:8989/sdk") || g.Named("https://vc.example.com/sdk") {
		t.Error("the port of another vCenter behind one address counts")
	}
}

func TestHistoryTellsWhetherAnEventIsOfThisVCenter(t *testing.T) {
	v, g := warm(t, small())
	posted := turn(t, v, "host cpu", v.Cluster("cluster-a").Hosts[0].Ref, "red")
	had := AlarmEvent{Key: int64(posted.Key), Time: posted.CreatedTime, Name: "host cpu", Entity: fromMoRef(posted.Entity.Entity)}
	changed := func(f func(*AlarmEvent)) AlarmEvent {
		e := had
		f(&e)
		return e
	}
	for what, c := range map[string]struct {
		event AlarmEvent
		want  bool
	}{
		"as posted":        {had, true},
		"whole seconds":    {changed(func(e *AlarmEvent) { e.Time = e.Time.Truncate(time.Second) }), true},
		"another key":      {changed(func(e *AlarmEvent) { e.Key++ }), false},
		"another time":     {changed(func(e *AlarmEvent) { e.Time = e.Time.Add(-time.Minute) }), false},
		"another alarm":    {changed(func(e *AlarmEvent) { e.Name = "other" }), false},
		"another entity":   {changed(func(e *AlarmEvent) { e.Entity.Value = "host-999" }), false},
		"without a key":    {changed(func(e *AlarmEvent) { e.Key = 0 }), false},
		"without any time": {changed(func(e *AlarmEvent) { e.Time = time.Time{} }), false},
	} {
		got, err := g.Happened(t.Context(), c.event)
		if err != nil || got != c.want {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); v.EventCollectors() != 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d event collectors stay open", v.EventCollectors())
		}
	}
}
