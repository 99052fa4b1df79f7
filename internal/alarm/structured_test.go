package alarm_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
)

func TestEveryStructuredDressDecodesToTheSameAlarm(t *testing.T) {
	files, err := filepath.Glob("testdata/*.structured.json")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			got, err := alarm.FromCloudEvent(load(t, filepath.Base(file)))
			if err != nil {
				t.Fatal(err)
			}
			if got != hostAlarm {
				t.Errorf("got  %+v\nwant %+v", got, hostAlarm)
			}
		})
	}
}

func TestStructuredEventsGiveTheirDataAsABinaryOneWould(t *testing.T) {
	cases := map[string]struct{ in, data, want string }{
		"an object":               {`{"type":"t","data":{"a":1}}`, `{"a":1}`, ""},
		"text that is XML":        {`{"type":"t","datacontenttype":"text/xml; charset=utf-8","data":"<a/>"}`, `<a/>`, ""},
		"text under JSON stays":   {`{"type":"t","datacontenttype":"application/json","data":"<a/>"}`, `"<a/>"`, ""},
		"text without media type": {`{"type":"t","data":"<a/>"}`, `"<a/>"`, ""},
		"base64":                  {`{"type":"t","data_base64":"PGEvPg=="}`, `<a/>`, ""},
		"null beside base64":      {`{"type":"t","data":null,"data_base64":"PGEvPg=="}`, `<a/>`, ""},
		"no data":                 {`{"type":"t"}`, ``, ""},
		"a byte order mark":       {"\uFEFF\n" + `{"type":"t","data":{}}`, `{}`, ""},
		"both":                    {`{"type":"t","data":{},"data_base64":"PGEvPg=="}`, "", "decode CloudEvent: it has both data and data_base64: send one of them"},
		"bad base64":              {`{"type":"t","data_base64":"*"}`, "", "decode CloudEvent: field data_base64: illegal base64 data at input byte 0"},
		"a type of number":        {`{"type":1}`, "", "decode CloudEvent: field type is a JSON number: want a string"},
		"a bad time":              {`{"type":"t","time":"noon"}`, "", `decode CloudEvent: field time is "noon": want an RFC 3339 time`},
		"an array":                {`[]`, "", "decode CloudEvent: a JSON array: want an object"},
		"empty":                   {``, "", "decode CloudEvent: bad JSON at byte 0: unexpected end of JSON input"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			m, err := alarm.ParseStructured([]byte(tc.in))
			if got := message(err); got != tc.want || string(m.Data) != tc.data {
				t.Errorf("data %q, error %q", m.Data, got)
			}
		})
	}
	m, err := alarm.ParseStructured(load(t, "vspheresource-xml.structured.json"))
	if err != nil {
		t.Fatal(err)
	}
	m.Data = nil
	if got, want := m.Type+m.Source+m.EventClass+m.MediaType, knative+source+"event"+"application/xml"; got != want || !m.Time.Equal(hostAlarm.Time) {
		t.Errorf("%+v", m)
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestPowerEventsAndOthersAreNoAlarms(t *testing.T) {
	for _, in := range []string{
		`{"type":"VmPoweredOffEvent","data":null}`,
		`{"type":"com.vmware.vsphere.VmPoweredOnEvent.v0","data":{}}`,
		`{"type":"AlarmStatusChangedEventX","data":{}}`,
		`{"type":"com.vmware.event.router/event.AlarmInfo","data":{"Alarm":{"Name":"a"}}}`,
		`{"type":"PreempctlRunEvent"}`,
		`{}`,
	} {
		if _, err := alarm.FromCloudEvent([]byte(in)); !errors.Is(err, alarm.ErrNotAlarm) {
			t.Errorf("%s: %v", in, err)
		}
	}
}
