package alarm_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
)

func TestATimeThatMeansOneMomentIsTaken(t *testing.T) {
	second := time.Date(2021, 11, 5, 13, 13, 49, 0, time.UTC)
	for written, want := range map[string]time.Time{
		`"2021-11-05T14:13:49+0100"`:                             second,
		`"2021-11-05T14:13:49+01"`:                               second,
		`"2021-11-05T14:13:49.9939990+01:00"`:                    second.Add(993999 * time.Microsecond), // PowerShell's o
		`"2021-11-05 13:13:49Z"`:                                 second,                                // PowerShell's u
		`"2021-11-05 13:13:49"`:                                  second,
		`"2021-11-05 14:13:49 +0100"`:                            second,
		`"Fri, 05 Nov 2021 13:13:49 GMT"`:                        second, // PowerShell's R
		`"\\/Date(1636118029000)\\/"`:                            second, // Windows PowerShell's ConvertTo-Json
		`"/Date(1636118029000+0100)/"`:                           second,
		`{"value":"\/Date(1636118029000)\/","DateTime":"today"}`: second,
		`1636118029`:          second,
		`"1636118029"`:        second,
		`1636118029.5`:        second.Add(500 * time.Millisecond),
		`1636118029993`:       second.Add(993 * time.Millisecond),
		`1636118029993999`:    second.Add(993999 * time.Microsecond),
		`1636118029993999000`: second.Add(993999 * time.Microsecond),
	} {
		e, err := alarm.Decode(alarm.Message{Type: string(alarm.ClassAlarm), Source: "vc", Data: fmt.Appendf(nil, `{"createdTime":%s,"key":1,
			"alarm":{"name":"cpu"},"entity":{"entity":{"type":"HostSystem","value":"host-1"}},"from":"green","to":"red"}`, written)})
		if err != nil || !e.Alarm.Time.Equal(want) {
			t.Errorf("%s: %s, %v", written, e.Alarm.Time, err)
		}
	}
}

func TestATimeThatMayMeanTwoMomentsIsRefused(t *testing.T) {
	for _, written := range []string{`"11/05/2021 13:13:49"`, `"05.11.2021 13:13:49"`, `"5 Nov 2021 1:13 PM"`, `12`, `"16361180290"`, `-1636118029`, `{"DateTime":"today"}`, `[]`, `true`} {
		_, err := alarm.Decode(alarm.Message{Type: string(alarm.ClassAlarm), Source: "vc", Data: fmt.Appendf(nil, `{"createdTime":%s,"key":1,
			"alarm":{"name":"cpu"},"entity":{"entity":{"type":"HostSystem","value":"host-1"}},"from":"green","to":"red"}`, written)})
		if err == nil {
			t.Errorf("%s was taken", written)
		}
	}
}

func TestAKeyThatIsOneNumberIsTaken(t *testing.T) {
	for _, written := range []string{`15227`, `15227.0`, `"15227"`, `"15227.00"`, `" 15227 "`} {
		e, err := alarm.Decode(alarm.Message{Type: string(alarm.ClassAlarm), Source: "vc", Data: fmt.Appendf(nil, `{"key":%s,
			"alarm":{"name":"cpu"},"entity":{"entity":{"type":"HostSystem","value":"host-1"}},"from":"green","to":"red"}`, written)})
		if err != nil || e.Alarm.EventKey != 15227 {
			t.Errorf("%s: %d, %v", written, e.Alarm.EventKey, err)
		}
	}
}

func TestTheTimeOfAnEnvelopeIsWrittenAnew(t *testing.T) {
	for in, want := range map[string]string{
		`{"time":"2021-11-05T14:13:49+0100","id":"1"}`: `{"id":"1","time":"2021-11-05T13:13:49Z"}`,
		`{"time":1636118029,"id":"1"}`:                 `{"id":"1","time":"2021-11-05T13:13:49Z"}`,
		`{"time":"2021-11-05T14:13:49+01:00","id":1}`:  `{"time":"2021-11-05T14:13:49+01:00","id":1}`,
		`{"time":"noon"}`:                              `{"time":"noon"}`,
		`{"id":"1"}`:                                   `{"id":"1"}`,
		`[]`:                                           `[]`,
	} {
		if got := string(alarm.WithTime([]byte(in))); got != want {
			t.Errorf("%s becomes %s", in, got)
		}
	}
}
