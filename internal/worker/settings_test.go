package worker

import (
	"reflect"
	"slices"
	"testing"
	"time"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
	"github.com/vsphere-preemption/vsphere-preemption/internal/preempt"
)

func TestAFileIsLaidOverTheDefaults(t *testing.T) {
	f := config.DefaultFile()
	want := preempt.DefaultSettings()
	want.EventSource = "//10.0.0.1:7233/ns"
	got := Preemption(f, "10.0.0.1:7233", "ns")
	got.Self = nil // this machine's
	if !reflect.DeepEqual(got, want) {
		t.Errorf("without a file:\n got %+v\nwant %+v", got, want)
	}
	f.Limits.AllowedTags = []string{"a"}
	f.Limits.MaxCriticality = preemption.CriticalityLow
	f.Limits.Outage = time.Hour
	got = Preemption(f, "10.0.0.1:7233", "ns")
	if !slices.Equal(got.AllowedTags, []string{"a"}) || got.MaxCriticality != "LOW" || got.Timing.Outage != time.Hour {
		t.Errorf("with a file: %+v", got)
	}
	if got.Timing.Heartbeat != preempt.DefaultTiming().Heartbeat {
		t.Error("the other timing is lost")
	}
}

func TestRemediationHasWhatIsTheSameForPreemption(t *testing.T) {
	f := config.DefaultFile()
	f.Mode, f.Limits.RemediationsPerHour, f.Limits.NeverTouch = policy.ModeObserve, 7, []string{"db-*"}
	p := Preemption(f, "10.0.0.1:7233", "ns")
	p.Self = []string{"4211"}
	got := Remediation(f, p)
	if !got.Observe || got.PerHour != 7 || !slices.Equal(got.NeverTouch, f.Limits.NeverTouch) || !slices.Equal(got.Self, p.Self) ||
		got.EventSource != p.EventSource || got.Timing.Outage != p.Timing.Outage {
		t.Errorf("%+v", got)
	}
}
