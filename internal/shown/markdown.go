package shown

import "strings"

// Markdown takes out of a text what Markdown or HTML would make something of, for the pages that Temporal's UI shows.
func Markdown(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || strings.ContainsRune("|*_`<>[]#\\", r) {
			return ' '
		}
		return r
	}, s)
}
