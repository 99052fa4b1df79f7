package shown

import "testing"

func TestANumberOfThingsReadsAsPeopleWriteIt(t *testing.T) {
	for noun, want := range map[string]string{"VM": "2 VMs", "entry": "2 entries", "day": "2 days", "policy": "2 policies"} {
		if got := Count(2, noun); got != want {
			t.Errorf("%q", got)
		}
		if got := Count(1, noun); got != "1 "+noun {
			t.Errorf("%q", got)
		}
	}
}
