package preemption_test

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	preemption "github.com/vsphere-preemption/vsphere-preemption"
)

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestADocumentedRequestDecodes(t *testing.T) {
	for _, name := range []string{"workflow-request-1.json", "workflow-request-2.json"} {
		var r preemption.WorkflowRequest
		if err := json.Unmarshal(read(t, name), &r); err != nil {
			t.Fatal(err)
		}
		if r.Tag != "preemptible" || r.Criticality != preemption.CriticalityHigh || r.Event.Subject() != "AlarmStatusChangedEvent" {
			t.Errorf("%s reads as %+v", name, r)
		}
		if r.ReplyTo != "http://default-broker-ingress.vmware-functions.svc.cluster.local" {
			t.Errorf("replyTo %q", r.ReplyTo)
		}
	}
}

func TestARequestSurvivesTheWireWithUnknownAttributes(t *testing.T) {
	var r preemption.WorkflowRequest
	if err := json.Unmarshal(read(t, "workflow-request-1.json"), &r); err != nil {
		t.Fatal(err)
	}
	r.Event.SetExtension("somethingnew", "kept")
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var got preemption.WorkflowRequest
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if got.Event.Extensions()["somethingnew"] != "kept" || got.Event.Extensions()["vsphereapiversion"] != "6.7.3" {
		t.Errorf("extensions were lost: %v", got.Event.Extensions())
	}
	var want, have any
	if json.Unmarshal(r.Event.Data(), &want) != nil || json.Unmarshal(got.Event.Data(), &have) != nil || !reflect.DeepEqual(want, have) {
		t.Errorf("the data changed:\n%s\n%s", r.Event.Data(), got.Event.Data())
	}
}

func TestARequestWithoutEventCanBeSent(t *testing.T) {
	b, err := json.Marshal(preemption.WorkflowRequest{Tag: "preemptible", Criticality: preemption.CriticalityLow})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"tag":"preemptible","criticality":"LOW","replyTo":""}`; string(b) != want {
		t.Errorf("got %s, want %s", b, want)
	}
}

func TestTheResponseHasTheDocumentedFields(t *testing.T) {
	golden := read(t, "response.golden.json")
	var r preemption.WorkflowResponse
	if err := json.Unmarshal(golden, &r); err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if string(b)+"\n" != string(golden) {
		t.Errorf("the response changed on the wire:\n%s", b)
	}
	var lower preemption.Reference
	if err := json.Unmarshal([]byte(`{"type":"VirtualMachine","value":"vm-1"}`), &lower); err != nil || lower.Value != "vm-1" {
		t.Errorf("govmomi's lower case is not read: %+v, %v", lower, err)
	}
}

func TestParseCriticality(t *testing.T) {
	for text, want := range map[string]preemption.Criticality{"low": "LOW", " Medium ": "MEDIUM", "HIGH": "HIGH"} {
		if got, err := preemption.ParseCriticality(text); err != nil || got != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
	if _, err := preemption.ParseCriticality("urgent"); err == nil || !strings.Contains(err.Error(), "LOW, MEDIUM or HIGH") {
		t.Errorf("an unknown criticality must name the allowed ones, got %v", err)
	}
}

func TestParseEventNamesWhatIsWrong(t *testing.T) {
	cases := map[string]struct{ in, want string }{
		"nothing":                {"", "empty"},
		"no JSON":                {"{", "no structured CloudEvent"},
		"an event without an id": {`{"specversion":"1.0","type":"t","source":"s"}`, "id"},
		"too much":               {strings.Repeat(" ", preemption.MaxRequestBytes+1), "at most"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := preemption.ParseEvent([]byte(tc.in)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("want an error with %q, got %v", tc.want, err)
			}
		})
	}
}

func FuzzParseEvent(f *testing.F) {
	f.Add([]byte(`{"specversion":"1.0","type":"t","source":"s","id":"1"}`))
	f.Add([]byte(`{"specversion":"0.3","type":"t","source":"s","id":"1","extensions":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := preemption.ParseEvent(b)
		if err == nil && e.Validate() != nil {
			t.Errorf("an invalid event was taken: %s", b)
		}
	})
}
