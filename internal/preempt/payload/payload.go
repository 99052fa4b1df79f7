// Package payload keeps what workflows and activities hand over below the size that Temporal takes: 2 MB. Temporal ends a
// workflow that hands over more.
package payload

import (
	"slices"

	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// Bounds of one payload.
const (
	Max       = 1 << 20 // bytes of estimated JSON; beyond it, explanations are left out, and never a VM
	MaxInFull = 1000    // VMs that are handed over one by one where the whole result can be read elsewhere
	ShortText = 80      // bytes of a text in a payload that is too large
)

// ShortSpared cuts the texts of spared candidates.
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
