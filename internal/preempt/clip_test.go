package preempt

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

func TestWhatGoesToTemporalIsValidText(t *testing.T) {
	for _, text := range []string{"short\xff", strings.Repeat("ü", 500), "x" + strings.Repeat("ü", 500), strings.Repeat("\xff", 500)} {
		for _, got := range []string{Clip(text), shown.Clip(text, 100), shown.Clip(text, 5000)} {
			if !utf8.ValidString(got) {
				t.Errorf("%q became %q", text, got)
			}
		}
	}
}
