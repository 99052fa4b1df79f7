package payload

import (
	"slices"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

const Max = 1 << 20 // of estimated JSON; beyond it, what explains is left out, and never a VM

const MaxInFull = 1000 // targets of a round of which its intake is told one by one

const ShortText = 80

func ShortSpared(all []policy.Spared) []policy.Spared {
	all = slices.Clone(all)
	for i := range all {
		all[i].Name, all[i].Detail = Cut(all[i].Name, ShortText), Cut(all[i].Detail, ShortText)
	}
	return all
}

// JSONLen is how long a text is in JSON.
func JSONLen(s string) (n int) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '<' || c == '>' || c == '&' || c == '"' || c == '\\' {
			n += 5
		}
	}
	return n + len(s)
}

// Cut cuts a text so that it takes at most n bytes of JSON, and the sign that it was cut.
func Cut(s string, n int) string {
	if JSONLen(s) <= n {
		return s
	}
	for i, c := range s {
		if n -= JSONLen(string(c)); n < 0 {
			return s[:i] + "…"
		}
	}
	return s
}

// TextRoom is how long each of four texts of n VMs may be, beside what is always there of each.
func TextRoom(n int) int {
	return min(max((3*Max/2/n-220)/4, 8), ShortText)
}
