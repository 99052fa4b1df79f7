package alarm_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
)

const (
	source     = "https://10.161.164.224/sdk"
	routerType = "com.vmware.event.router/event"
	knative    = "com.vmware.vsphere.AlarmStatusChangedEvent.v0"
)

func load(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// hostAlarm is the documented event that every file of a producer holds.
var hostAlarm = alarm.Alarm{
	Name:     "cluster-cpu-above-80",
	Ref:      alarm.Object{Type: "Alarm", Value: "alarm-282", Name: "cluster-cpu-above-80"},
	Entity:   alarm.Object{Type: "HostSystem", Value: "host-21", Name: "10.161.166.252"},
	Source:   alarm.Object{Type: "ClusterComputeResource", Value: "domain-c7", Name: "cls"},
	Cluster:  alarm.Object{Type: "ClusterComputeResource", Value: "domain-c7", Name: "cls"},
	Host:     alarm.Object{Type: "HostSystem", Value: "host-21", Name: "10.161.166.252"},
	From:     "green",
	To:       "red",
	VCenter:  source,
	EventKey: 15227,
	Time:     time.Date(2021, 11, 5, 13, 13, 49, 993999000, time.UTC),
}

func TestEveryDressOfTheDocumentedEventDecodesToTheSameAlarm(t *testing.T) {
	quoted := func(name string) []byte {
		b, err := json.Marshal(string(load(t, name)))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	cases := map[string]alarm.Message{
		"event router, PascalCase":           {Type: routerType, Subject: string(alarm.ClassAlarm), MediaType: "application/json", Data: load(t, "event-router.pascal.json")},
		"VSphereSource, XML":                 {Type: knative, EventClass: "event", MediaType: "application/xml", Data: load(t, "vspheresource.xml")},
		"VSphereSource, XML with xsi:type":   {Type: knative, EventClass: "event", MediaType: "application/xml", Data: load(t, "vspheresource-xsi-type.xml")},
		"VSphereSource, camelCase":           {Type: knative, EventClass: "event", MediaType: "application/json", Data: load(t, "vspheresource.camel.json")},
		"event streaming":                    {Type: "vmware.vsphere.AlarmStatusChangedEvent.v0", EventClass: "event", Data: load(t, "event-router.pascal.json")},
		"alarm server behind VSphereSource":  {Type: knative + ".AlarmInfo", Data: load(t, "alarm-server.pascal.json")},
		"alarm server, suffix before v0":     {Type: "vmware.vsphere.AlarmStatusChangedEvent.AlarmInfo.v0", Data: load(t, "alarm-server.pascal.json")},
		"alarm server behind event router":   {Type: routerType + ".AlarmInfo", Data: load(t, "alarm-server.pascal.json")},
		"hand-made":                          {Type: string(alarm.ClassAlarm), Data: load(t, "vspheresource.camel.json")},
		"the original's own tests":           {Type: "mock.vsphere.AlarmStatusChangedEvent.v0", Data: load(t, "vspheresource.camel.json")},
		"class in the extension alone":       {Type: "com.example.relay", EventClass: string(alarm.ClassAlarm), Data: load(t, "vspheresource.camel.json")},
		"topic of old, complete data":        {Type: "alarm.status.changed", Data: load(t, "event-router.pascal.json")},
		"byte order mark and white space":    {Type: knative, Data: append([]byte("\uFEFF \r\n\t"), load(t, "vspheresource.camel.json")...)},
		"byte order mark before XML":         {Type: knative, Data: append([]byte("\uFEFF\n"), load(t, "vspheresource.xml")...)},
		"a charset":                          {Type: knative, MediaType: "application/json; charset=utf-8", Data: load(t, "vspheresource.camel.json")},
		"a structured syntax suffix":         {Type: knative, MediaType: "application/vnd.vmware+json", Data: load(t, "vspheresource.camel.json")},
		"an XML suffix and a charset":        {Type: knative, MediaType: "application/soap+xml;charset=UTF-8", Data: load(t, "vspheresource.xml")},
		"XML that is said to be JSON":        {Type: knative, MediaType: "application/json", Data: load(t, "vspheresource.xml")},
		"JSON that is said to be XML":        {Type: knative, MediaType: "text/xml", Data: load(t, "vspheresource.camel.json")},
		"XML without a media type":           {Type: knative, Data: load(t, "vspheresource.xml")},
		"JSON encoded twice":                 {Type: knative, MediaType: "application/json", Data: quoted("vspheresource.camel.json")},
		"XML within a JSON string":           {Type: knative, MediaType: "application/json", Data: quoted("vspheresource.xml")},
		"XML within a string, called XML":    {Type: knative, MediaType: "application/xml", Data: quoted("vspheresource.xml")},
		"router's type, with another suffix": {Type: routerType + ".Enriched", Subject: string(alarm.ClassAlarm), Data: load(t, "event-router.pascal.json")},
	}
	for name, m := range cases {
		t.Run(name, func(t *testing.T) {
			m.Source = source
			e, err := alarm.Decode(m)
			if err != nil {
				t.Fatal(err)
			}
			if want := (alarm.Event{Class: alarm.ClassAlarm, Alarm: hostAlarm}); e != want {
				t.Errorf("got  %+v\nwant %+v", e, want)
			}
		})
	}
}

func TestTheClassIsAWholeSegment(t *testing.T) {
	cases := map[string]struct {
		m    alarm.Message
		want string
	}{
		"router":                         {alarm.Message{Type: routerType, Subject: "VmPoweredOnEvent"}, string(alarm.ClassPoweredOn)},
		"router, another class":          {alarm.Message{Type: routerType, Subject: "UserLoginSessionEvent"}, "UserLoginSessionEvent"},
		"router, no subject":             {alarm.Message{Type: routerType}, ""},
		"router, topic of old":           {alarm.Message{Type: routerType, Subject: "vm.powered.on"}, string(alarm.ClassPoweredOn)},
		"alarm server without a subject": {alarm.Message{Type: routerType + ".AlarmInfo"}, string(alarm.ClassAlarm)},
		"not the router's type":          {alarm.Message{Type: routerType + "s", Subject: "x"}, ""},
		"VSphereSource":                  {alarm.Message{Type: "com.vmware.vsphere.VmPoweredOffEvent.v0"}, string(alarm.ClassPoweredOff)},
		"VSphereSource, another class":   {alarm.Message{Type: "com.vmware.vsphere.DrsVmPoweredOnEvent.v0", EventClass: "event"}, "DrsVmPoweredOnEvent"},
		"a longer word":                  {alarm.Message{Type: "com.vmware.vsphere.VmPoweredOffEventX.v0"}, "VmPoweredOffEventX"},
		"an EventEx":                     {alarm.Message{Type: "com.vmware.vsphere.esx.problem.vmfs.heartbeat.timedout.v0", EventClass: "eventex"}, "esx.problem.vmfs.heartbeat.timedout"},
		"suffix behind the version":      {alarm.Message{Type: "com.vmware.vsphere.AlarmStatusChangedEvent.v0.AlarmInfo"}, string(alarm.ClassAlarm)},
		"suffix before the version":      {alarm.Message{Type: "vmware.vsphere.AlarmStatusChangedEvent.AlarmInfo.v0"}, string(alarm.ClassAlarm)},
		"bare":                           {alarm.Message{Type: "VmPoweredOffEvent"}, string(alarm.ClassPoweredOff)},
		"bare, a longer word":            {alarm.Message{Type: "DrsVmPoweredOnEvent"}, ""},
		"extension":                      {alarm.Message{Type: "relay", EventClass: "VmPoweredOffEvent"}, string(alarm.ClassPoweredOff)},
		"extension, another class":       {alarm.Message{Type: "relay", EventClass: "VmCreatedEvent"}, "VmCreatedEvent"},
		"extension, only the kind":       {alarm.Message{Type: "relay", EventClass: "extendedevent"}, ""},
		"subject beside a foreign type":  {alarm.Message{Type: "relay", Subject: "AlarmStatusChangedEvent"}, string(alarm.ClassAlarm)},
		"our own reply":                  {alarm.Message{Type: "com.vmware.workflows.vsphere.VmPreemptedEvent.v0"}, ""},
		"nothing":                        {alarm.Message{}, ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := alarm.Claim(tc.m); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestEventsOfOtherClassesAreNamedAndTheirDataIsNotRead(t *testing.T) {
	huge := make([]byte, alarm.MaxBytes+1)
	cases := map[string]struct {
		m    alarm.Message
		want string
	}{
		"known class":    {alarm.Message{Type: routerType, Subject: "DrsVmPoweredOnEvent", Data: huge}, alarm.ErrOther.Error() + ": DrsVmPoweredOnEvent"},
		"only a type":    {alarm.Message{Type: "relay", Data: huge}, alarm.ErrOther.Error() + `: type "relay"`},
		"nothing at all": {alarm.Message{Data: []byte(`{}`)}, alarm.ErrOther.Error() + ": the CloudEvent has no type"},
		"an alarm acknowledged, from the alarm server": {
			alarm.Message{Type: routerType + ".AlarmInfo", Data: []byte(`{"Key":1,"Alarm":{"Name":"a"},"AlarmInfo":{}}`)},
			alarm.ErrOther.Error() + ": an alarm event that changes no colour",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := alarm.Decode(tc.m)
			if !errors.Is(err, alarm.ErrOther) || err.Error() != tc.want {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}

func TestWhatClaimsToBeAnEventAndIsNoneIsToldPrecisely(t *testing.T) {
	const (
		decode = "decode AlarmStatusChangedEvent: "
		ofA    = `the AlarmStatusChangedEvent of alarm "a" `
		has    = "the AlarmStatusChangedEvent has a "
		good   = `"Alarm":{"Name":"a"},"Entity":{"Entity":{"Type":"HostSystem","Value":"host-1"}},"From":"green","To":"red"`
	)
	long := strings.Repeat("x", 300)
	cases := map[string]struct{ data, want string }{
		"empty":                     {"", decode + "the data is empty: send the event as JSON or XML"},
		"white space":               {"\uFEFF \n", decode + "the data is empty: send the event as JSON or XML"},
		"null":                      {"null", decode + "the data is null: send the event as JSON or XML"},
		"an array":                  {"[1,2]", decode + "the data is a JSON array: send one event, as an object"},
		"a number":                  {"42", decode + `the data (media type "application/json") begins with "42", which is neither a JSON object nor XML`},
		"a string":                  {`"hello"`, decode + "the data is a JSON string that holds neither a JSON object nor XML: send the event itself"},
		"a string in a string":      {`"\"{}\""`, decode + "the data is a JSON string that holds neither a JSON object nor XML: send the event itself"},
		"an open string":            {`"hello`, decode + "bad JSON at byte 6: unexpected end of JSON input"},
		"UTF-16":                    {"\xff\xfe{\x00}\x00", decode + `the data (media type "application/json") is not UTF-8 text: send the event as JSON or XML in UTF-8`},
		"cut short":                 {`{"Alarm":{`, decode + "bad JSON at byte 10: unexpected end of JSON input"},
		"no JSON":                   {`{"Alarm":x}`, decode + "bad JSON at byte 10: invalid character 'x' looking for beginning of value"},
		"something behind":          {`{} {}`, decode + "bad JSON at byte 4: invalid character '{' after top-level value"},
		"key of text":               {`{"Key":"one",` + good + `}`, decode + `field key is "one": want a whole number`},
		"key with a fraction":       {`{"Key":1.5,` + good + `}`, decode + `field key is "1.5": want a whole number`},
		"key beyond bounds":         {`{"Key":99999999999999999999,` + good + `}`, decode + `field key is "99999999999999999999": want a whole number`},
		"name of a number":          {`{"Alarm":{"Name":7}}`, decode + "field alarm.name is a JSON number: want a string"},
		"entity of text":            {`{"Entity":"host-1"}`, decode + "field entity is a JSON string: want an object"},
		"reference of text":         {`{"Entity":{"Entity":"host-1"}}`, decode + "field entity.entity is a JSON string: want an object"},
		"reference value of number": {`{"Entity":{"Entity":{"Value":1}}}`, decode + "field entity.entity.value is a JSON number: want a string"},
		"time of text":              {`{"CreatedTime":"yesterday"}`, decode + `field createdTime is "yesterday": want an RFC 3339 time`},
		"time of a number":          {`{"CreatedTime":1636}`, decode + `field createdTime is "1636": want an RFC 3339 time`},
		"no alarm":                  {`{}`, "the AlarmStatusChangedEvent names no alarm (field Alarm.Name)"},
		"no entity":                 {`{"Alarm":{"Name":"a"}}`, ofA[:len(ofA)-1] + " names no entity (field Entity.Entity)"},
		"no colour":                 {`{"Alarm":{"Name":"a"},"Entity":{"Entity":{"Type":"HostSystem","Value":"host-1"}}}`, ofA + `has From "": want gray, green, yellow or red`},
		"another colour":            {`{` + good + `,"To":"purple"}`, ofA + `has To "purple": want gray, green, yellow or red`},
		"a colour in capitals":      {`{` + good + `,"To":"RED"}`, ofA + `has To "RED": want gray, green, yellow or red`},
		"a reference without type":  {`{` + good + `,"Host":{"Host":{"Value":"host-1"}}}`, has + `bad reference Host.Host: "host-1" has no type`},
		"a long alarm name":         {`{` + good + `,"Alarm":{"Name":"` + long + `"}}`, has + "Alarm.Name of 300 bytes: at most 255 are taken"},
		"a long entity name":        {`{` + good + `,"Entity":{"Name":"` + long + `"}}`, has + "Entity.Name of 300 bytes: at most 255 are taken"},
		"a long user name":          {`{` + good + `,"UserName":"` + long + `"}`, has + "UserName of 300 bytes: at most 255 are taken"},
		"control in a name":         {`{` + good + `,"Ds":{"Name":"a\nb"}}`, has + `Ds.Name that holds control characters: "a\nb"`},
		"a long reference":          {`{` + good + `,"Vm":{"Vm":{"Type":"VirtualMachine","Value":"` + long + `"}}}`, has + `bad reference Vm.Vm: "` + long[:80] + `…" is 300 bytes long: at most 128 are taken`},
		"control in a reference":    {`{` + good + `,"Vm":{"Vm":{"Type":"VirtualMachine","Value":"vm\u0000"}}}`, has + `bad reference Vm.Vm: "vm\x00" holds control characters`},
		"control in a type":         {`{` + good + `,"ComputeResource":{"ComputeResource":{"Type":"a\tb","Value":"c1"}}}`, has + `bad reference ComputeResource.ComputeResource: "a\tb" holds control characters`},

		"XML without fields":    {"<event/>", "the AlarmStatusChangedEvent names no alarm (field Alarm.Name)"},
		"XML cut short":         {"<event>\n<key>1</key>", decode + "bad XML: XML syntax error on line 2: unexpected EOF"},
		"XML closed wrongly":    {"<event>\n<key>1</kez></event>", decode + "bad XML: XML syntax error on line 2: element <key> closed by </kez>"},
		"XML with more behind":  {"<event/><event/>", decode + "bad XML: something follows the root element"},
		"XML key of text":       {"<event><key>one</key></event>", decode + `bad XML: field key is "one": want a whole number`},
		"XML time of text":      {"<event><createdTime>soon</createdTime></event>", decode + `bad XML: field createdTime is "soon": want an RFC 3339 time`},
		"XML document type":     {`<!DOCTYPE e [<!ENTITY a "b">]><event/>`, decode + "bad XML: a document type or another directive is refused: send the event without one"},
		"XML entity":            {`<event><from>&lol;</from></event>`, decode + "bad XML: XML syntax error on line 1: invalid character entity &lol;"},
		"XML nested too deep":   {strings.Repeat("<a>", 33), decode + "bad XML: elements nest deeper than 32"},
		"XML in another script": {`<?xml version="1.0" encoding="ISO-8859-1"?><event/>`, decode + `bad XML: xml: opening charset "ISO-8859-1": encoding "ISO-8859-1" is not read: send UTF-8`},
		"XML reference":         {`<event><host><host>host-1</host></host></event>`, has + `bad reference Host.Host: "host-1" has no type`},
		"XML colour":            {strings.Replace(string(load(t, "vspheresource.xml")), "<to>red</to>", "<to>Red</to>", 1), `the AlarmStatusChangedEvent of alarm "cluster-cpu-above-80" has To "Red": want gray, green, yellow or red`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			e, err := alarm.Decode(alarm.Message{Type: knative, MediaType: "application/json", Data: []byte(tc.data)})
			if err == nil || errors.Is(err, alarm.ErrOther) || err.Error() != tc.want {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
			if e != (alarm.Event{}) {
				t.Errorf("an event beside the error: %+v", e)
			}
		})
	}
}

func TestNothingAboveTheBoundIsRead(t *testing.T) {
	pad := func(n int) []byte {
		b := load(t, "vspheresource.camel.json")
		return append(b, bytes.Repeat([]byte(" "), n-len(b))...)
	}
	if _, err := alarm.Decode(alarm.Message{Type: knative, Data: pad(alarm.MaxBytes)}); err != nil {
		t.Errorf("at the bound: %v", err)
	}
	const want = "decode AlarmStatusChangedEvent: data of 1048577 bytes: at most 1048576 are read"
	if _, err := alarm.Decode(alarm.Message{Type: knative, Data: pad(alarm.MaxBytes + 1)}); err == nil || err.Error() != want {
		t.Errorf("above the bound: %v", err)
	}
	if _, err := alarm.FromCloudEvent(pad(alarm.MaxBytes + 1)); err == nil || err.Error() != "event of 1048577 bytes: at most 1048576 are read" {
		t.Errorf("structured: %v", err)
	}
	if _, err := alarm.Decode(alarm.Message{Type: knative, Source: strings.Repeat("s", 3000), Data: pad(2000)}); err == nil || !strings.Contains(err.Error(), "the source") {
		t.Errorf("a long source: %v", err)
	}
	deep := []byte(strings.Repeat(`{"x":`, 100_000))
	if _, err := alarm.Decode(alarm.Message{Type: knative, Data: deep}); err == nil {
		t.Error("JSON nested without bound was taken")
	}
}

func TestThePayloadOfVEBABefore03IsRefusedByName(t *testing.T) {
	structured := func(kind, subject, data string) []byte {
		return []byte(`{"specversion":"1.0","id":"1","source":"vc","type":"` + kind + `","subject":"` + subject + `","data":` + data + `}`)
	}
	for _, file := range []string{"veba-0.2.json", "vcenter-connector.json"} {
		for name, m := range map[string]alarm.Message{
			"no envelope":         {},
			"topic as the type":   {Type: "alarm.status.changed"},
			"topic of a VM":       {Type: "vm.powered.off"},
			"subject of that day": {Type: routerType, Subject: "alarm.status.changed"},
			"subject of today":    {Type: routerType, Subject: string(alarm.ClassAlarm)},
		} {
			t.Run(file+", "+name, func(t *testing.T) {
				m.Data = load(t, file)
				_, err := alarm.Decode(m)
				refused(t, err)
				_, err = alarm.FromCloudEvent(structured(m.Type, m.Subject, string(m.Data)))
				if alarm.Claim(m) == string(alarm.ClassAlarm) {
					refused(t, err)
				}
			})
		}
		_, err := alarm.FromCloudEvent(load(t, file))
		refused(t, err)
	}
}

func refused(t *testing.T, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "this is the payload of VEBA 0.1-0.2") ||
		!strings.Contains(err.Error(), "carries no alarm data: use VEBA 0.3 or later") {
		t.Errorf("got %v", err)
	}
}

func TestAlarmsOfOtherEntitiesCarryThem(t *testing.T) {
	decode := func(data []byte) alarm.Alarm {
		t.Helper()
		e, err := alarm.Decode(alarm.Message{Type: routerType, Subject: string(alarm.ClassAlarm), Source: source, Data: data})
		if err != nil {
			t.Fatal(err)
		}
		return e.Alarm
	}
	ds := decode(load(t, "datastore-alarm.pascal.json"))
	if ds.Entity.Ref() != "Datastore:datastore-31" || ds.Datastore != ds.Entity || !ds.VM.Zero() || !ds.Scope().Zero() || !ds.Rising() {
		t.Errorf("datastore: %+v", ds)
	}
	vm := decode(load(t, "vm-alarm.pascal.json"))
	if vm.Entity.Ref() != "VirtualMachine:vm-104" || vm.VM != vm.Entity || vm.Scope().Ref() != "ClusterComputeResource:domain-c7" || vm.Source.Ref() != "Folder:group-d1" {
		t.Errorf("VM: %+v", vm)
	}
	other := decode([]byte(`{"alarm":{"name":"a"},"entity":{"name":"dvs","entity":{"type":"VmwareDistributedVirtualSwitch","value":"dvs-1"}},"from":"gray","to":"green"}`))
	if other.Entity.Ref() != "VmwareDistributedVirtualSwitch:dvs-1" || !other.Host.Zero() || other.Rising() {
		t.Errorf("another kind: %+v", other)
	}
}

func TestPowerEventsTellTheVMAndWho(t *testing.T) {
	want := alarm.Power{
		VM:       alarm.Object{Type: "VirtualMachine", Value: "vm-104", Name: "batch-01"},
		Host:     alarm.Object{Type: "HostSystem", Value: "host-21", Name: "10.161.166.252"},
		Cluster:  alarm.Object{Type: "ClusterComputeResource", Value: "domain-c7", Name: "cls"},
		User:     `VSPHERE.LOCAL\Administrator`,
		VCenter:  source,
		EventKey: 15227,
		Time:     hostAlarm.Time,
	}
	for _, file := range []string{"vm-powered-off.xml", "vm-powered-off.camel.json", "vm-powered-off.pascal.json"} {
		t.Run(file, func(t *testing.T) {
			for _, class := range []alarm.Class{alarm.ClassPoweredOff, alarm.ClassPoweredOn} {
				want.On = class == alarm.ClassPoweredOn
				e, err := alarm.Decode(alarm.Message{Type: routerType, Subject: string(class), Source: source, Data: load(t, file)})
				if err != nil {
					t.Fatal(err)
				}
				if e != (alarm.Event{Class: class, Power: want}) {
					t.Errorf("%s: %+v", class, e)
				}
			}
		})
	}
	_, err := alarm.Decode(alarm.Message{Type: string(alarm.ClassPoweredOff), Data: []byte(`{"Key":1}`)})
	if err == nil || err.Error() != "the VmPoweredOffEvent names no VM (field Vm.Vm)" {
		t.Errorf("no VM: %v", err)
	}
}

func TestTimesAndKeysThatAreMissingOrOddAreFilledIn(t *testing.T) {
	sent := time.Date(2022, 1, 2, 3, 4, 5, 0, time.FixedZone("CET", 3600))
	cases := map[string]struct {
		fields string
		time   time.Time
		key    int64
	}{
		"no time: the CloudEvent's":    {``, sent.UTC(), 0},
		"a null time":                  {`,"createdTime":null`, sent.UTC(), 0},
		"Go's zero time":               {`,"createdTime":"0001-01-01T00:00:00Z"`, sent.UTC(), 0},
		"an empty time":                {`,"createdTime":""`, sent.UTC(), 0},
		"a time without zone is UTC":   {`,"createdTime":"2021-11-05T13:13:49.993999"`, hostAlarm.Time, 0},
		"a time in another zone":       {`,"createdTime":"2021-11-05T14:13:49.993999+01:00"`, hostAlarm.Time, 0},
		"a negative key is no key":     {`,"key":-7`, sent.UTC(), 0},
		"a key beyond 32 bits":         {`,"key":4294967296`, sent.UTC(), 1 << 32},
		"unknown fields of any shape":  {`,"key":3,"arguments":[{"key":"x"}],"_typeName":"AlarmStatusChangedEvent"`, sent.UTC(), 3},
		"nulls where objects might be": {`,"key":3,"host":null,"ds":null,"computeResource":null,"userName":null`, sent.UTC(), 3},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			data := `{"alarm":{"name":"a"},"entity":{"entity":{"type":"HostSystem","value":"host-1"}},"from":"green","to":"red"` + tc.fields + `}`
			e, err := alarm.Decode(alarm.Message{Type: knative, Time: sent, Data: []byte(data)})
			if err != nil {
				t.Fatal(err)
			}
			if e.Alarm.Time != tc.time || e.Alarm.EventKey != tc.key {
				t.Errorf("time %s, key %d", e.Alarm.Time, e.Alarm.EventKey)
			}
		})
	}
	e, err := alarm.Decode(alarm.Message{Type: knative, Data: bytes.Replace(load(t, "vspheresource.xml"), []byte("<key>15227"), []byte("<key> -1 "), 1)})
	if err != nil || e.Alarm.EventKey != 0 || e.Alarm.Key() != "" {
		t.Errorf("XML with a negative key: %+v, %v", e.Alarm, err)
	}
}

func TestTheKeyIsTheSameThroughEveryRouter(t *testing.T) {
	cases := map[string]string{
		"https://10.161.164.224/sdk":     "10.161.164.224#1",
		"10.161.164.224":                 "10.161.164.224#1",
		"10.161.164.224:443":             "10.161.164.224#1",
		"//10.161.164.224/sdk":           "10.161.164.224#1",
		"https://VC.Example.com:443/sdk": "vc.example.com#1",
		"http://vc.example.com:80/sdk":   "vc.example.com#1",
		"https://vc.example.com:8443":    "vc.example.com:8443#1",
		"https://[2001:DB8::1]:8443/sdk": "[2001:db8::1]:8443#1",
		"https://[2001:db8::1]/sdk":      "[2001:db8::1]#1",
		"urn:vcenter:one":                "urn:vcenter:one#1",
		"":                               "#1",
	}
	for from, want := range cases {
		if got := (alarm.Alarm{VCenter: from, EventKey: 1}).Key(); got != want {
			t.Errorf("source %q: got %q, want %q", from, got, want)
		}
	}
	if got := (alarm.Alarm{VCenter: source}).Key(); got != "" {
		t.Errorf("no event key: %q", got)
	}
}
