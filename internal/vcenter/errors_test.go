package vcenter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

func soapFault(f types.BaseMethodFault, text string) error {
	s := &soap.Fault{Code: "ServerFaultCode", String: text}
	s.Detail.Fault = f
	return soap.WrapSoapFault(s)
}

func TestErrorsAreClassifiedByType(t *testing.T) {
	taskError := func(f types.BaseMethodFault) error {
		return task.Error{LocalizedMethodFault: &types.LocalizedMethodFault{Fault: f, LocalizedMessage: "no"}}
	}
	cases := map[string]struct {
		err  error
		want Kind
	}{
		"no error":                            {nil, ""},
		"an error of nobody":                  {errors.New("x"), Unknown},
		"an error with a kind, wrapped":       {fmt.Errorf("x: %w", &Error{Kind: TagAmbiguous}), TagAmbiguous},
		"a failed login":                      {soapFault(&types.InvalidLogin{}, "Login failure"), InvalidLogin},
		"a lost session":                      {soapFault(&types.NotAuthenticated{}, ""), Unavailable},
		"a lost session as a value":           {soap.WrapVimFault(&types.NotAuthenticated{}), Unavailable},
		"a missing privilege":                 {soapFault(&types.NoPermission{}, ""), NoPermission},
		"a destroyed object":                  {soapFault(&types.ManagedObjectNotFound{}, ""), NotFound},
		"a missing thing":                     {soapFault(&types.NotFound{}, ""), NotFound},
		"a VM that is off already":            {taskError(&types.InvalidPowerState{}), InvalidState},
		"a guest without tools":               {soapFault(&types.ToolsUnavailable{}, ""), ToolsUnavailable},
		"another task on the VM":              {taskError(&types.TaskInProgress{}), Busy},
		"a method disabled by a backup":       {soapFault(&types.MethodDisabled{}, ""), Busy},
		"a name taken":                        {soapFault(&types.DuplicateName{}, ""), Conflict},
		"a fault unknown to us":               {soapFault(&types.FileFault{}, ""), Unknown},
		"503":                                 {&url.Error{Err: &statusError{code: 503}}, Unavailable},
		"REST 401":                            {&statusError{code: 401}, Unavailable},
		"REST 403":                            {&statusError{code: 403}, NoPermission},
		"REST 404":                            {&statusError{code: 404}, NotFound},
		"REST 400":                            {&statusError{code: 400}, Unknown},
		"a refused connection":                {&url.Error{Err: &net.OpError{Op: "dial", Err: errors.New("refused")}}, Unavailable},
		"a connection cut in the answer":      {fmt.Errorf("x: %w", io.ErrUnexpectedEOF), Unavailable},
		"a page of HTML in the place of JSON": {badJSON(), Unavailable},
		"a caller who gave up":                {fmt.Errorf("x: %w", context.Canceled), Interrupted},
		"a call that was cut off":             {&url.Error{Err: context.Canceled}, Unavailable},
		"a time limit":                        {context.DeadlineExceeded, Unavailable},
		"a certificate of somebody else":      {&url.Error{Err: &pinError{}}, Certificate},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := KindOf(c.err); got != c.want {
				t.Errorf("%v is %q, want %q", c.err, got, c.want)
			}
		})
	}
}

func badJSON() error {
	var v any
	return json.Unmarshal([]byte("<html>"), &v)
}

func TestKindsSayWhatToDo(t *testing.T) {
	outage := []Kind{Unavailable, Credentials, InvalidLogin, Certificate}
	retryable := []Kind{Busy, TaskFailed, Conflict, Unknown}
	final := []Kind{TagNotFound, TagAmbiguous, ScopeNotFound, NoPermission, NotFound, InvalidState, ToolsUnavailable, Interrupted}
	for _, k := range outage {
		if !k.Outage() || !k.Retryable() {
			t.Errorf("%s must be an outage and retryable", k)
		}
	}
	for _, k := range retryable {
		if k.Outage() || !k.Retryable() {
			t.Errorf("%s must be retryable and no outage", k)
		}
	}
	for _, k := range final {
		if k.Outage() || k.Retryable() {
			t.Errorf("%s must be final", k)
		}
	}
}

func TestErrorTextNamesObjectReasonAndRemedy(t *testing.T) {
	g := &Gateway{url: &url.URL{Host: "vc"}}
	err := g.failure(call{op: "power off", object: "vm-12 (web-1)"},
		soapFault(&types.NoPermission{PrivilegeId: "VirtualMachine.Interact.PowerOff"}, "Permission to perform this operation was denied."))
	for _, want := range []string{"power off vm-12 (web-1): ", "NoPermission", "was denied", "; give ", "VirtualMachine.Interact.PowerOff"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "ServerFaultCode") {
		t.Errorf("%q shows SOAP's own words", err)
	}
}

func FuzzVapiMessage(f *testing.F) {
	f.Add([]byte(`{"type":"com.vmware.vapi.std.errors.not_found","value":{"messages":[{"default_message":"gone"}]}}`))
	f.Add([]byte(`{"value":null}`))
	f.Add([]byte(`<html>`))
	f.Fuzz(func(_ *testing.T, body []byte) { _ = vapiMessage(body) })
}
