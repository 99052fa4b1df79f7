package receiver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
	"github.com/vsphere-preemption/vsphere-preemption/internal/bearer"
	"github.com/vsphere-preemption/vsphere-preemption/internal/trigger"
)

const structuredType = "application/cloudevents+json"

// fake is an engine that answers as told and keeps what it got.
type fake struct {
	result trigger.Result
	err    error
	gate   chan struct{} // where set, each call waits for it

	mu  sync.Mutex
	got []trigger.Incoming
}

func (f *fake) Handle(ctx context.Context, in trigger.Incoming) (trigger.Result, error) {
	f.mu.Lock()
	f.got = append(f.got, in)
	f.mu.Unlock()
	if f.gate != nil {
		select {
		case <-f.gate:
		case <-ctx.Done():
			return trigger.Result{}, ctx.Err()
		}
	}
	return f.result, f.err
}

func (f *fake) calls() []trigger.Incoming {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.got
}

func acting() *fake {
	return &fake{result: trigger.Result{Verdict: trigger.Sent, Rule: "a", WorkflowID: "a@domain-c7", What: "HIGH preemption"}}
}

func newReceiver(t testing.TB, cfg Config) *Receiver {
	t.Helper()
	if cfg.Engine == nil {
		cfg.Engine = acting()
	}
	cfg.Classes = []alarm.Class{alarm.ClassAlarm}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// documented is the real event of the documentation, structured, and its data.
func documented(t testing.TB) (structured, data []byte) {
	t.Helper()
	b, err := os.ReadFile("../../testdata/alarm-green-to-red-host1.structured.json")
	if err != nil {
		t.Fatal(err)
	}
	var e struct{ Data json.RawMessage }
	if err := json.Unmarshal(b, &e); err != nil {
		t.Fatal(err)
	}
	return b, e.Data
}

const xmlData = `<AlarmStatusChangedEvent xmlns="urn:vim25" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">` +
	`<key>15227</key><createdTime>2021-03-10T15:51:08.000Z</createdTime>` +
	`<computeResource><name>cls</name><computeResource type="ClusterComputeResource">domain-c7</computeResource></computeResource>` +
	`<source><name>cls</name><entity type="ClusterComputeResource">domain-c7</entity></source>` +
	`<entity><name>h</name><entity type="HostSystem">host-21</entity></entity><from>green</from><to>red</to>` +
	`<alarm><name>cluster-cpu-above-80</name><alarm type="Alarm">alarm-282</alarm></alarm></AlarmStatusChangedEvent>`

func binaryHeader(more ...string) http.Header {
	h := http.Header{}
	for i, list := 0, append([]string{
		"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "https://vc/sdk", "Ce-Type", "com.vmware.event.router/event",
		"Ce-Subject", "AlarmStatusChangedEvent", "Content-Type", "application/json",
	}, more...); i < len(list); i += 2 {
		if list[i+1] == "-" {
			h.Del(list[i])
		} else {
			h.Set(list[i], list[i+1])
		}
	}
	return h
}

func post(r http.Handler, h http.Header, body string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	maps.Copy(req.Header, h)
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "*/*")
	}
	rec := httptest.NewRecorder()
	r.ServeHTTP(rec, req)
	return rec
}

func TestEachDressIsAnsweredForWhatItIs(t *testing.T) {
	whole, part := documented(t)
	event, data := string(whole), string(part)
	kind := func(media string) http.Header { return http.Header{"Content-Type": {media}} }
	for name, tc := range map[string]struct {
		header http.Header
		body   string
		code   int
		words  string
	}{
		"structured":                                 {kind(structuredType), event, 202, `"workflowID":"a@domain-c7"`},
		"structured with a charset":                  {kind(structuredType + "; charset=UTF-8"), event, 202, "sent"},
		"structured with a byte order mark":          {kind(structuredType), "\uFEFF" + event, 202, "sent"},
		"structured without a content type":          {nil, event, 202, "sent"},
		"structured that calls itself JSON":          {kind("application/json"), event, 202, "sent"},
		"binary":                                     {binaryHeader(), data, 202, "sent"},
		"binary without a content type":              {binaryHeader("Content-Type", "-"), data, 202, "sent"},
		"binary of spec 0.3":                         {binaryHeader("Ce-Specversion", "0.3"), data, 202, "sent"},
		"binary with XML":                            {binaryHeader("Content-Type", "application/xml"), xmlData, 202, "sent"},
		"binary with XML that calls itself JSON":     {binaryHeader(), xmlData, 202, "sent"},
		"binary of VSphereSource":                    {binaryHeader("Ce-Type", "com.vmware.vsphere.AlarmStatusChangedEvent.v0", "Ce-Subject", "-"), data, 202, "sent"},
		"structured of spec 0.3":                     {kind(structuredType), strings.Replace(event, `"1.0"`, `"0.3"`, 1), 202, "sent"},
		"another class, binary":                      {binaryHeader("Ce-Subject", "VmPoweredOnEvent"), "never { read", 200, "VmPoweredOnEvent"},
		"another class, structured":                  {kind(structuredType), `{"specversion":"1.0","id":"1","source":"s","type":"com.vmware.vsphere.UserLoginSessionEvent.v0","data":{}}`, 200, "ignored"},
		"no vSphere event at all":                    {binaryHeader("Ce-Type", "dev.knative.ping", "Ce-Subject", "-"), "", 200, "of no class"},
		"alarm data that is none":                    {binaryHeader(), `{"Alarm":{}}`, 400, "malformed"},
		"alarm data that is no JSON":                 {binaryHeader(), `{`, 400, "malformed"},
		"alarm without data":                         {binaryHeader(), ``, 400, "data is empty"},
		"binary data that is no text":                {binaryHeader("Content-Type", "application/octet-stream"), "\xff\xfe", 400, "UTF-8"},
		"binary without an id":                       {binaryHeader("Ce-Id", "-"), data, 400, "id: MUST"},
		"binary without a source and type":           {binaryHeader("Ce-Source", "-", "Ce-Type", "-"), data, 400, "source: REQUIRED; type: MUST"},
		"binary of a specversion that is none":       {binaryHeader("Ce-Specversion", "9.9"), data, 400, `specversion \"9.9\"`},
		"binary without a specversion":               {binaryHeader("Ce-Specversion", "-"), data, 400, "ce-specversion is missing"},
		"binary with a time that is none":            {binaryHeader("Ce-Time", "noon"), data, 400, "ce- headers"},
		"structured without an id":                   {kind(structuredType), `{"specversion":"1.0","source":"s","type":"t"}`, 400, "id: MUST"},
		"structured of a specversion that is none":   {kind(structuredType), `{"specversion":"7","id":"1","source":"s","type":"t"}`, 400, "specversion: unknown value: 7"},
		"structured without a specversion":           {kind(structuredType), `{"id":"1","source":"s","type":"t"}`, 400, "no specversion"},
		"structured that is no JSON":                 {kind(structuredType), `{"specversion`, 400, "malformed"},
		"structured that is an array":                {kind(structuredType), `[]`, 400, "malformed"},
		"structured without a body":                  {kind(structuredType), ``, 400, "malformed"},
		"base64 that is a number":                    {kind(structuredType), `{"data_base64":1,"specversion":"1.0"}`, 400, "what their names promise"},
		"an encoding of 0.3 that is empty":           {kind(structuredType), `{"datacontentencoding":"","specversion":"0.3"}`, 400, "what their names promise"},
		"JSON that is no CloudEvent":                 {kind("application/json"), `{"a":1}`, 415, "no CloudEvent"},
		"nothing at all":                             {nil, ``, 415, "no CloudEvent"},
		"a form":                                     {kind("application/x-www-form-urlencoded"), "a=b", 415, "no CloudEvent"},
		"a batch":                                    {kind("application/cloudevents-batch+json"), `[]`, 415, "one event per request"},
		"a batch with ce- headers":                   {binaryHeader("Content-Type", "application/cloudevents-batch+json"), `[]`, 415, "one event per request"},
		"a format that is not read":                  {kind("application/cloudevents+protobuf"), `x`, 415, "protobuf"},
		"more than an event may have":                {binaryHeader(), strings.Repeat(" ", alarm.MaxBytes+1), 413, "at most 1048576 bytes"},
		"as much as an event may have, of no matter": {binaryHeader(), strings.Repeat(" ", alarm.MaxBytes), 400, "data is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			rec := post(newReceiver(t, Config{}), tc.header, tc.body)
			if rec.Code != tc.code || !strings.Contains(rec.Body.String(), tc.words) || !json.Valid(rec.Body.Bytes()) {
				t.Errorf("got %d %s, want %d with %q", rec.Code, rec.Body, tc.code, tc.words)
			}
		})
	}
}

func TestTheEnginesWordDecidesTheAnswer(t *testing.T) {
	whole, _ := documented(t)
	for name, tc := range map[string]struct {
		engine *fake
		code   int
		body   string
		retry  string
	}{
		"sent":               {acting(), 202, `{"verdict":"sent","rule":"a","workflowID":"a@domain-c7","what":"HIGH preemption"}`, ""},
		"no rule is on it":   {&fake{result: trigger.Result{Verdict: trigger.Ignored, Reason: "no rule"}}, 200, `{"verdict":"ignored","reason":"no rule"}`, ""},
		"refused for good":   {&fake{err: fmt.Errorf("rule: %w: names no entity", trigger.ErrRefused)}, 400, `{"verdict":"refused","reason":"rule: refused: names no entity"}`, ""},
		"Temporal is away":   {&fake{err: errors.New("dial 10.0.0.1")}, 503, `{"verdict":"unavailable","reason":"Temporal did not take the event: send it again"}`, "5"},
		"Temporal was slow":  {&fake{err: context.DeadlineExceeded}, 503, `{"verdict":"unavailable","reason":"Temporal did not take the event: send it again"}`, "5"},
		"the engine is mute": {&fake{}, 200, `{"verdict":"ignored"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			rec := post(newReceiver(t, Config{Engine: tc.engine}), nil, string(whole))
			if rec.Code != tc.code || rec.Body.String() != tc.body+"\n" || rec.Header().Get("Retry-After") != tc.retry {
				t.Errorf("got %d %q %s", rec.Code, rec.Header().Get("Retry-After"), rec.Body)
			}
		})
	}
}

// Knative's brokers take a body that is no CloudEvent for a failed delivery and bring the event again.
func TestABrokerGetsNoBodyWithASuccess(t *testing.T) {
	whole, _ := documented(t)
	for name, h := range map[string]http.Header{
		"what a broker sends":     {"Prefer": {"reply"}},
		"a sender that is silent": {},
		"behind a proxy":          {"Prefer": {"reply"}, "Accept": {"*/*"}},
	} {
		t.Run(name, func(t *testing.T) {
			req := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(whole))
			maps.Copy(req.Header, h)
			rec := httptest.NewRecorder()
			newReceiver(t, Config{}).ServeHTTP(rec, req)
			if rec.Code != 202 || rec.Body.Len() != 0 || rec.Header().Get("Content-Type") != "" {
				t.Errorf("got %d %v %q", rec.Code, rec.Header(), rec.Body)
			}
		})
	}
}

func TestTheEventReachesTheEngineAsAStructuredCloudEventThatReadsTheSame(t *testing.T) {
	whole, part := documented(t)
	want, err := alarm.FromCloudEvent(whole)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		header http.Header
		body   string
	}{
		"structured":                 {http.Header{"Content-Type": {structuredType}}, string(whole)},
		"structured 0.3":             {http.Header{"Content-Type": {structuredType}}, strings.Replace(string(whole), `"1.0"`, `"0.3"`, 1)},
		"binary":                     {binaryHeader(), string(part)},
		"binary without a type":      {binaryHeader("Content-Type", "-"), string(part)},
		"binary, behind a mark":      {binaryHeader(), "\uFEFF" + string(part)},
		"XML":                        {binaryHeader("Content-Type", "application/xml"), xmlData},
		"XML as text":                {binaryHeader("Content-Type", "text/plain; charset=utf-8"), xmlData},
		"XML that is called JSON":    {binaryHeader("Content-Type", "application/json; charset=utf-8"), xmlData},
		"XML that is called nothing": {binaryHeader("Content-Type", "-"), xmlData},
		"XML of 0.3 as base64": {http.Header{"Content-Type": {structuredType}}, fmt.Sprintf(
			`{"specversion":"0.3","id":"1","source":"s","type":"AlarmStatusChangedEvent","datacontenttype":"application/xml","datacontentencoding":"base64","data":%s}`, must(json.Marshal([]byte(xmlData))))},
	} {
		t.Run(name, func(t *testing.T) {
			engine := acting()
			if rec := post(newReceiver(t, Config{Engine: engine}), tc.header, tc.body); rec.Code != 202 {
				t.Fatal(rec.Code, rec.Body)
			}
			raw := engine.calls()[0].CloudEvent
			got, err := alarm.FromCloudEvent(raw)
			if err != nil {
				t.Fatalf("%v: %s", err, raw)
			}
			if got.Name != want.Name || got.Entity.Ref() != want.Entity.Ref() || got.Scope().Ref() != want.Scope().Ref() || got.To != "red" || got.EventKey != want.EventKey {
				t.Errorf("reads as %+v", got)
			}
			e, err := preemption.ParseEvent(raw)
			if err != nil || e.SpecVersion() != event.CloudEventsVersionV1 {
				t.Errorf("as a request's event: %v, %s", err, raw)
			}
		})
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func TestAttributesThatNobodyKnowsAreKept(t *testing.T) {
	_, part := documented(t)
	engine := acting()
	post(newReceiver(t, Config{Engine: engine}), binaryHeader("Ce-Traceparent", "00-ab", "Ce-Time", "2026-01-02T03:04:05Z"), string(part))
	var got map[string]any
	if err := json.Unmarshal(engine.calls()[0].CloudEvent, &got); err != nil {
		t.Fatal(err)
	}
	if got["traceparent"] != "00-ab" || got["time"] != "2026-01-02T03:04:05Z" || got["source"] != "https://vc/sdk" {
		t.Errorf("%v", got)
	}
}

func TestOnlyEventsOfClassesWithARuleAreDecoded(t *testing.T) {
	r := newReceiver(t, Config{})
	if rec := post(r, binaryHeader("Ce-Subject", string(alarm.ClassPoweredOff)), "rubbish"); rec.Code != 200 {
		t.Errorf("no rule is on it, yet it is decoded: %d %s", rec.Code, rec.Body)
	}
	r.classes[string(alarm.ClassPoweredOff)] = true
	if rec := post(r, binaryHeader("Ce-Subject", string(alarm.ClassPoweredOff)), "rubbish"); rec.Code != 400 {
		t.Errorf("a rule is on it, yet it is not decoded: %d %s", rec.Code, rec.Body)
	}
}

func TestAPowerOffPassesThroughWhereARuleIsOnIt(t *testing.T) {
	data, err := os.ReadFile("../alarm/testdata/vm-powered-off.pascal.json")
	if err != nil {
		t.Fatal(err)
	}
	rules := []trigger.Rule{{Class: alarm.ClassPoweredOff, Action: trigger.Reconfigure{}}}
	engine := acting()
	r, err := New(Config{Engine: engine, Classes: trigger.Classes(rules)})
	if err != nil {
		t.Fatal(err)
	}
	if rec := post(r, binaryHeader("Ce-Subject", string(alarm.ClassPoweredOff)), string(data)); rec.Code != 202 || len(engine.calls()) != 1 {
		t.Fatalf("got %d %s, %d calls", rec.Code, rec.Body, len(engine.calls()))
	}
	in := engine.calls()[0]
	if !rules[0].Matches(in.Event) || in.Event.Power.VM.Zero() {
		t.Errorf("%+v", in.Event)
	}
	if rec := post(r, binaryHeader(), "rubbish"); rec.Code != 200 {
		t.Errorf("no rule is on alarms: %d %s", rec.Code, rec.Body)
	}
}

func TestOtherMethodsAndPages(t *testing.T) {
	pages := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	token, err := bearer.Read(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := newReceiver(t, Config{Pages: pages, Token: token})
	for name, tc := range map[string]struct {
		method, path string
		code         int
		allow, words string
	}{
		"health":                 {"GET", "/healthz", 200, "", "ok"},
		"readiness":              {"HEAD", "/readyz", 200, "", ""},
		"metrics":                {"GET", "/metrics", 200, "", "ok"},
		"a look":                 {"GET", "/", 405, "POST", "by POST"},
		"a put":                  {"PUT", "/any", 405, "POST", "by POST"},
		"a page deleted":         {"DELETE", "/metrics", 405, "GET, HEAD, POST", "by POST"},
		"an event without token": {"POST", "/healthz", 401, "", "Bearer"},
	} {
		t.Run(name, func(t *testing.T) {
			rec := httptest.NewRecorder()
			r.ServeHTTP(rec, httptest.NewRequest(tc.method, tc.path, nil))
			if rec.Code != tc.code || rec.Header().Get("Allow") != tc.allow || !strings.Contains(rec.Body.String(), tc.words) {
				t.Errorf("got %d %v %s", rec.Code, rec.Header(), rec.Body)
			}
		})
	}
	bare := httptest.NewRecorder()
	newReceiver(t, Config{}).ServeHTTP(bare, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if bare.Code != 405 {
		t.Errorf("no health is served, yet: %d", bare.Code)
	}
}

func TestAReceiverNeedsAnEngine(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("one was made without")
	}
}

// engineOf answers at once and keeps nothing.
type engineOf struct{}

func (engineOf) Handle(context.Context, trigger.Incoming) (trigger.Result, error) {
	return trigger.Result{Verdict: trigger.Sent}, nil
}
