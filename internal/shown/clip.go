package shown

import (
	"strings"
	"unicode/utf8"
)

// Clip shortens a text to at most that many bytes, and the sign that it was cut. It cuts between characters, and what
// is no UTF-8 is replaced: Temporal refuses details, summaries and failures that are not valid.
func Clip(s string, most int) string {
	cut := len(s) > most
	if cut {
		s = s[:min(len(s), most+utf8.UTFMax)]
	}
	s = strings.ToValidUTF8(s, string(utf8.RuneError))
	if len(s) <= most {
		if cut {
			s += "…"
		}
		return s
	}
	end := most
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}
