package simulation

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// rate refuses REST calls that come too fast.
type rate struct {
	mu     sync.Mutex // a leaf
	calls  int        // that are served within each window; 0: any number
	window time.Duration
	began  time.Time
	count  int
}

// rateKey counts the calls that were refused for their rate.
const rateKey = "HTTP 429"

// LimitTagging lets the tagging service serve that many calls within each window of that length, and refuse the others
// with 429 as too many. 0 serves all.
func (v *VCenter) LimitTagging(calls int, window time.Duration) {
	v.rate.mu.Lock()
	defer v.rate.mu.Unlock()
	v.rate.calls, v.rate.window, v.rate.count, v.rate.began = calls, window, 0, time.Now()
}

// refuses tells whether a call that comes now is one too many.
func (r *rate) refuses(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls == 0 {
		return false
	}
	if now.Sub(r.began) >= r.window {
		r.began, r.count = now, 0
	}
	r.count++
	return r.count > r.calls
}

// refuseRate answers a tagging call that is one too many.
func (v *VCenter) refuseRate(w http.ResponseWriter, r *http.Request) bool {
	if !strings.Contains(r.URL.Path, "/tagging/") || !v.rate.refuses(time.Now()) {
		return false
	}
	v.calls.count(rateKey)
	w.WriteHeader(http.StatusTooManyRequests)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": "too many requests"}) // the client may be gone
	return true
}

// refuseVersion refuses a SOAP call in a version newer than Options.APIVersion, as a vCenter of that version does.
func (v *VCenter) refuseVersion(w http.ResponseWriter, r *http.Request) bool {
	_, asked, _ := strings.Cut(strings.Trim(r.Header.Get("SOAPAction"), `"`), "/")
	if v.options.APIVersion == "" || !newer(asked, v.options.APIVersion) {
		return false
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.WriteHeader(http.StatusInternalServerError)
	_, _ = fmt.Fprintf(w, xml.Header+`<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" `+
		`xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><soapenv:Fault><faultcode>ServerFaultCode</faultcode>`+
		`<faultstring>Unsupported version URI &quot;urn:vim25/%s&quot;</faultstring><detail><InvalidRequestFault xmlns="urn:vim25" `+
		`xsi:type="InvalidRequest"></InvalidRequestFault></detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>`, xmlText(asked))
	return true
}

func xmlText(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}

// newer compares versions such as 8.0.2.0 number by number.
func newer(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(x), len(y)) {
		m, n := 0, 0
		if i < len(x) {
			m, _ = strconv.Atoi(x[i])
		}
		if i < len(y) {
			n, _ = strconv.Atoi(y[i])
		}
		if m != n {
			return m > n
		}
	}
	return false
}
