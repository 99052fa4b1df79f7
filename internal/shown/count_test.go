package shown

import "testing"

func TestOneIsSingular(t *testing.T) {
	for n, want := range map[int]string{0: "0 VMs", 1: "1 VM", 2: "2 VMs"} {
		if got := Count(n, "VM"); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}
