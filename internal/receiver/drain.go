package receiver

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/alarm"
)

// drain reads what is left of a body that was refused or passed over unread. The server cuts off a sender that has more
// than 256 KiB to send when it is answered, and who is cut off while it sends does not see the answer: a broker would send
// again what was passed over for good. It holds no place, and waits for the sender as long as for a body that is taken.
func drain(w http.ResponseWriter, req *http.Request) {
	if req.ContentLength > alarm.MaxBytes || w.Header().Get("Connection") == "close" || req.Header.Get("Expect") != "" {
		return // too large, too slow already, or to be sent only when we ask for it
	}
	control := http.NewResponseController(w)
	deadline := func(t time.Time) { _ = control.SetReadDeadline(t) } // a recorder in a test has none
	rest := &paced{from: req.Body, start: time.Now(), held: &place{stop: deadline}}
	if _, err := io.CopyN(io.Discard, rest, alarm.MaxBytes); err != nil && !errors.Is(err, io.EOF) {
		w.Header().Set("Connection", "close")
		return
	}
	deadline(time.Time{})
}
