package simulation

import (
	"net/http"
	"regexp"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// SetClock lets vCenter's clock be that far from the true time, ahead or behind, from now on: events, alarm states and
// CurrentTime tell it. What was stamped before stays as it is, as when a time service is repaired.
func (v *VCenter) SetClock(offset time.Duration) { v.clock.Store(int64(offset)) }

// stamp puts vCenter's time on an event that was posted this moment.
func (v *VCenter) stamp(event *types.Event) {
	event.CreatedTime = event.CreatedTime.Add(time.Duration(v.clock.Load()))
}

var returned = regexp.MustCompile(`(<returnval[^>]*>)[^<]*(</returnval>)`)

// serveTime answers CurrentTime by a clock that is wrong; false where it is right.
func (v *VCenter) serveTime(w http.ResponseWriter, r *http.Request, method string) bool {
	if method != "CurrentTime" || v.clock.Load() == 0 {
		return false
	}
	answer := &recorder{header: w.Header(), status: http.StatusOK}
	v.service.ServeMux.ServeHTTP(answer, r)
	w.Header().Del("Content-Length")
	w.WriteHeader(answer.status)
	_, _ = w.Write(returned.ReplaceAll(answer.body.Bytes(), []byte("${1}"+v.now().UTC().Format(time.RFC3339Nano)+"${2}")))
	return true
}
