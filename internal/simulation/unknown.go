package simulation

import (
	"bytes"
	"net/http"
	"regexp"

	"github.com/vmware/govmomi/vim25/types"
)

// unknownMark begins the message of an event that clients get as one of another class.
const unknownMark = "unknown-class="

var unknownClass = regexp.MustCompile(unknownMark + `(\w+)`)

// PostUnknownEvent posts an event of a class that clients do not know, as a newer vCenter or an extension does. Filters
// take it for a GeneralEvent.
func (v *VCenter) PostUnknownEvent(class string) {
	v.post(v.context(""), &types.GeneralEvent{Message: unknownMark + class})
	v.unknown.Store(true)
}

// serveDisguised serves a SOAP call, and gives events of unknown classes their class.
func (v *VCenter) serveDisguised(w http.ResponseWriter, r *http.Request) {
	if !v.unknown.Load() {
		v.serveSOAP(w, r)
		return
	}
	answer := &disguised{recorder: recorder{header: w.Header(), status: http.StatusOK}, client: w}
	v.serveSOAP(answer, r)
	parts := bytes.Split(answer.body.Bytes(), []byte("<returnval"))
	for i, part := range parts {
		if class := unknownClass.FindSubmatch(part); class != nil {
			parts[i] = bytes.Replace(part, []byte(`:type="GeneralEvent"`), []byte(`:type="`+string(class[1])+`"`), 1)
		}
	}
	w.WriteHeader(answer.status)
	_, _ = w.Write(bytes.Join(parts, []byte("<returnval"))) // the client may be gone
}

// disguised keeps an answer until its classes are changed.
type disguised struct {
	recorder
	client http.ResponseWriter
}

// Unwrap lets the connection be closed in place of an answer.
func (d *disguised) Unwrap() http.ResponseWriter { return d.client }
