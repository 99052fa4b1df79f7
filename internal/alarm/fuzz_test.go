package alarm_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
)

func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/*.*")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		f.Add(knative, "application/json", load(f, filepath.Base(file)))
	}
	f.Add("VmPoweredOffEvent", "application/xml", load(f, "vm-powered-off.xml"))
	f.Add(routerType+".AlarmInfo", "text/xml; charset=utf-8", []byte(`<!DOCTYPE a><a/>`))
	f.Add("", "", []byte(`"{\"topic\":\"vm.powered.on\"}"`))
	f.Fuzz(func(t *testing.T, kind, media string, data []byte) {
		m := alarm.Message{Type: kind, Source: source, MediaType: media, Data: data}
		e, err := alarm.Decode(m)
		if err != nil {
			if e != (alarm.Event{}) || len(err.Error()) > 4096 {
				t.Errorf("%d bytes of error, event %+v", len(err.Error()), e)
			}
			return
		}
		if again, err := alarm.Decode(m); err != nil || again != e || string(e.Class) != alarm.Claim(m) {
			t.Errorf("decoded again: %+v, %v; at first: %+v", again, err, e)
		}
		if e.Class != alarm.ClassAlarm {
			if e.Power.VM.Zero() || e.Alarm != (alarm.Alarm{}) || e.Power.EventKey < 0 {
				t.Errorf("taken: %+v", e)
			}
			return
		}
		checkAlarm(t, e.Alarm)
	})
}

// checkAlarm holds for every alarm that is taken.
func checkAlarm(t *testing.T, a alarm.Alarm) {
	t.Helper()
	if a.Name == "" || len(a.Name) > 255 || a.Entity.Zero() || a.Entity.Type == "" || len(a.Entity.Ref()) > 257 {
		t.Errorf("names: %+v", a)
	}
	if a.EventKey < 0 || len(a.Key()) > 2100 || a.Time.Location() != time.UTC {
		t.Errorf("key %q, time %s", a.Key(), a.Time)
	}
	if alarm.Rank(a.To) == 0 && a.To != alarm.Gray || a.Rising() && !a.Up() {
		t.Errorf("from %q to %q", a.From, a.To)
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, m := range map[string]alarm.Message{
		"JSON":       {Type: routerType, Subject: string(alarm.ClassAlarm), Data: load(b, "event-router.pascal.json")},
		"XML":        {Type: knative, MediaType: "application/xml", Data: load(b, "vspheresource.xml")},
		"OtherClass": {Type: "com.vmware.vsphere.UserLoginSessionEvent.v0", EventClass: "event", Data: load(b, "vspheresource.xml")},
		"OtherHuge":  {Type: "com.vmware.vsphere.UserLoginSessionEvent.v0", EventClass: "event", Data: make([]byte, alarm.MaxBytes)},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = alarm.Decode(m)
			}
		})
	}
}
