package watch

import (
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

// A rule that resizes at red ignores the fall; the next red may be missed by the history and found by its state.
func TestARedIsFoundAgainAfterAFallThatItsRuleIgnored(t *testing.T) {
	al := alarm.Alarm{
		Name: "cpu", Ref: alarm.Object{Type: "Alarm", Value: "alarm-1"}, Entity: alarm.Object{Type: "VirtualMachine", Value: "vm-7"},
		Time: time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC),
	}
	f := newTestFollower(nil, nil)
	f.Engine.Rules = []trigger.Rule{{Alarm: "cpu"}}
	turn := func(from, to string, verdict trigger.Verdict) {
		al.From, al.To, al.Time = from, to, al.Time.Add(time.Minute)
		f.account(changeOf(t, al), outcome{res: trigger.Result{Verdict: verdict, Rule: "cpu"}}, false)
	}
	found := func() bool {
		e := changeOf(t, al)
		return f.missedRise(&e)
	}
	turn("green", "red", trigger.Sent)
	if len(f.checkpoint.Levels) != 1 || found() {
		t.Fatalf("a red that was handed over is handed over again: %+v", f.checkpoint.Levels)
	}
	turn("red", "green", trigger.Ignored)
	if len(f.checkpoint.Levels) != 0 {
		t.Errorf("the fall is to be told at every comparison: %+v", f.checkpoint.Levels)
	}
	al.To = alarm.Red
	if !found() {
		t.Error("the next red is taken for the first")
	}
}
