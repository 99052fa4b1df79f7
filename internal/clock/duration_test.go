package clock_test

import (
	"encoding/json"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
)

// FuzzDuration reads durations of any content, as files and requests hold them: what is taken is written as it is read.
func FuzzDuration(f *testing.F) {
	for _, seed := range []string{`"5m"`, `"-1h"`, `90`, `"90"`, `null`, `"9223372036854775807ns"`, `"1e3s"`, `{}`, `"\u0000"`, `"2562048h"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var d clock.Duration
		if json.Unmarshal(text, &d) != nil {
			return
		}
		written, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var again clock.Duration
		if err := json.Unmarshal(written, &again); err != nil || again != d {
			t.Errorf("%s is written %s and read %v, %v", text, written, again, err)
		}
	})
}
