package vcenter

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

// Kind says what went wrong, so that a caller can act on it. The values are stable: they serve as error
// types in histories and metrics.
type Kind string

// The kinds of errors.
const (
	TagNotFound      Kind = "TagNotFound"
	TagAmbiguous     Kind = "TagAmbiguous" // the name exists in several categories
	ScopeNotFound    Kind = "ScopeNotFound"
	CategoriesUnseen Kind = "CategoriesUnseen" // the owners' tag categories cannot be seen
	Credentials      Kind = "Credentials"      // secret files missing or unreadable
	InvalidLogin     Kind = "InvalidLogin"     // vCenter rejects user name or password
	Certificate      Kind = "Certificate"
	Unavailable      Kind = "Unavailable" // connection, 5xx, time-out, session
	NoPermission     Kind = "NoPermission"
	NotFound         Kind = "NotFound" // the object is gone
	InvalidState     Kind = "InvalidState"
	ToolsUnavailable Kind = "ToolsUnavailable"
	TaskFailed       Kind = "TaskFailed"
	Conflict         Kind = "Conflict"
	Busy             Kind = "Busy"        // another operation is under way on the object
	NoRoom           Kind = "NoRoom"      // no host or datastore has the resources, or admission control keeps them
	Ambiguous        Kind = "Ambiguous"   // several objects have the name
	Invalid          Kind = "Invalid"     // the request can never be granted as it is
	Interrupted      Kind = "Interrupted" // the caller's context was cancelled before or after a call
	Unknown          Kind = "Unknown"
)

// Outage reports whether vCenter as a whole cannot be used now. Wait until it is over: it says nothing about the object.
func (k Kind) Outage() bool {
	switch k {
	case Unavailable, Credentials, InvalidLogin, Certificate:
		return true
	}
	return false
}

// Retryable reports whether the same call may succeed later.
func (k Kind) Retryable() bool {
	switch k {
	case Busy, TaskFailed, Conflict, NoRoom, Unknown:
		return true
	}
	return k.Outage()
}

// Error is what every method of Gateway returns when vCenter, not the caller's context, is the cause.
type Error struct {
	Op     string // verb phrase: "power off"
	Object string // what it was done to: "vm-12 (web-1)"
	Kind   Kind
	Err    error
	Remedy string // what an operator can do, may be empty
}

// Error writes "power off vm-12 (web-1): reason; remedy".
func (e *Error) Error() string {
	s := e.Op
	if e.Object != "" {
		s += " " + e.Object
	}
	if e.Err != nil {
		s += ": " + reason(e.Err)
	}
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf classifies any error: "" for none, Unknown for errors that are not vCenter's. Check the context first:
// a caller's own deadline looks like an unavailable vCenter.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	return classify(err)
}

// failure gives an error its kind, operation, object and remedy. An Error with a kind of its own, such
// as a failed login, keeps them and gets no prefix, because it explains the problem better.
func (g *Gateway) failure(c call, err error) error {
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	e := &Error{Op: c.op, Object: c.object, Kind: classify(err), Err: err, Remedy: c.remedy}
	switch e.Kind {
	case Certificate:
		presented, _ := untrusted(err)
		e.Op, e.Object, e.Remedy = "trust the certificate of", g.url.Host, certificateRemedy(presented)
	case NoPermission:
		e.Remedy = permissionRemedy(err, g.User(), c.needs)
	case ToolsUnavailable:
		e.Remedy = "VMware Tools must run in the guest for a guest shutdown"
	}
	return e
}

// permissionRemedy names the privilege that the fault names, else those that the call is known to need.
func permissionRemedy(err error, user, needs string) string {
	var f *types.NoPermission
	switch _, ok := fault.As(err, &f); {
	case ok && f.PrivilegeId != "":
		return "give " + user + " the privilege " + f.PrivilegeId
	case needs != "":
		return "give " + user + " the privileges " + needs
	}
	return "give " + user + " the privileges listed in the documentation"
}

// classify is the one place that maps errors to kinds, by type and never by text.
func classify(err error) Kind {
	var known *Error
	if errors.As(err, &known) {
		return known.Kind
	}
	if _, ok := untrusted(err); ok {
		return Certificate
	}
	var status *statusError
	if errors.As(err, &status) {
		if k := vapiKind(status.kind); k != "" {
			return k
		}
		return statusKind(status.code)
	}
	if k := faultKind(err); k != "" {
		return k
	}
	switch {
	case broken(err):
		return Unavailable // also a call that was cut off: nobody knows what it did
	case errors.Is(err, context.Canceled):
		return Interrupted
	}
	return Unknown
}

func statusKind(code int) Kind {
	switch {
	case code == http.StatusForbidden:
		return NoPermission
	case code == http.StatusNotFound:
		return NotFound
	case code == http.StatusConflict:
		return Conflict
	case code == http.StatusUnauthorized, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code >= 500:
		return Unavailable
	}
	return Unknown
}

// vapiKind maps the errors that the REST API names, most of them with status 400; "" if the status
// is enough.
func vapiKind(name string) Kind {
	switch strings.TrimPrefix(name, "com.vmware.vapi.std.errors.") {
	case "already_exists", "concurrent_change":
		return Conflict
	case "resource_busy", "resource_in_use":
		return Busy
	case "not_found":
		return NotFound
	case "invalid_argument", "invalid_element_type":
		return Invalid
	}
	return ""
}

// faultKind maps vSphere's faults; "" when err holds none.
func faultKind(err error) Kind {
	if !holds[types.BaseMethodFault](err) {
		return ""
	}
	switch {
	case holds[*types.InvalidLogin](err):
		return InvalidLogin
	case holds[*types.NotAuthenticated](err):
		return Unavailable
	case holds[*types.NoPermission](err), holds[*types.RestrictedVersion](err):
		return NoPermission
	case holds[*types.ManagedObjectNotFound](err), holds[*types.NotFound](err):
		return NotFound
	case holds[*types.ToolsUnavailable](err):
		return ToolsUnavailable
	case holds[*types.TaskInProgress](err), holds[*types.VAppTaskInProgress](err), holds[*types.MethodDisabled](err):
		return Busy
	case holds[*types.InvalidPowerState](err), holds[*types.InvalidState](err),
		holds[*types.CpuHotPlugNotSupported](err), holds[*types.MemoryHotPlugNotSupported](err):
		return InvalidState
	case holds[*types.ConcurrentAccess](err), holds[*types.DuplicateName](err):
		return Conflict
	case noRoom(err):
		return NoRoom
	case invalid(err):
		return Invalid
	}
	return Unknown
}

// noRoom reports whether the resources do not suffice (many faults derived from one), or the datastore
// has no space or cannot be used.
func noRoom(err error) bool {
	return holds[types.BaseInsufficientResourcesFault](err) ||
		holds[*types.NoCompatibleHost](err) || holds[*types.NoCompatibleHostWithAccessToDevice](err) ||
		holds[*types.NoDiskSpace](err) || holds[*types.InsufficientStorageIops](err) ||
		holds[*types.DatastoreNotWritableOnHost](err) || holds[*types.InaccessibleDatastore](err)
}

// invalid reports whether the VM or its host can never have the requested hardware, whatever its state.
func invalid(err error) bool {
	return holds[*types.InvalidArgument](err) || holds[*types.InvalidVmConfig](err) ||
		holds[*types.NumVirtualCpusIncompatible](err) || holds[types.BaseVirtualHardwareCompatibilityIssue](err)
}

// holds reports whether err is, or was caused by, a fault of this type; for an interface, of a type derived from it.
func holds[F any](err error) bool {
	var f F
	_, ok := fault.As(err, &f)
	return ok
}

// broken reports whether no complete answer came.
func broken(err error) bool {
	var (
		network net.Error
		request *url.Error
		badXML  *xml.SyntaxError
		badJSON *json.SyntaxError
	)
	return errors.As(err, &network) || errors.As(err, &request) || errors.As(err, &badXML) || errors.As(err, &badJSON) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errCallTimeout) ||
		errors.Is(err, context.DeadlineExceeded)
}

// sessionLost reports whether vCenter no longer knows our session. A failed login is something else.
func sessionLost(err error) bool {
	if err == nil {
		return false
	}
	var status *statusError
	if errors.As(err, &status) {
		return status.code == http.StatusUnauthorized
	}
	return holds[*types.NotAuthenticated](err)
}

// loginRejected reports whether vCenter answered a login with a no.
func loginRejected(err error) bool {
	if err == nil {
		return false
	}
	var status *statusError
	if errors.As(err, &status) {
		return status.code == http.StatusUnauthorized
	}
	return holds[*types.InvalidLogin](err)
}

// reason is the text of a cause: a fault's type and message, or the error behind the URL of a request.
func reason(err error) string {
	var f types.BaseMethodFault
	if _, ok := fault.As(err, &f); ok {
		name := reflect.TypeOf(f).Elem().Name()
		if text := faultText(err); text != "" && text != name {
			return name + " (" + text + ")"
		}
		return name
	}
	var request *url.Error
	if errors.As(err, &request) && request == err {
		err = request.Err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return cutShort
	}
	return err.Error()
}

// cutShort is the text of a connection that was closed, as by a proxy or a vCenter that restarts.
const cutShort = "the connection was closed before the whole answer came"

// faultText is vCenter's own message of a fault, "" when it gave none.
func faultText(err error) string {
	if soap.IsSoapFault(err) {
		return soap.ToSoapFault(err).String
	}
	return err.Error()
}
