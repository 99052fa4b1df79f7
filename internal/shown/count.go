package shown

import (
	"strconv"
	"strings"
)

// Count is a number of things: "1 VM", "2 VMs", "3 entries". The plural of the noun ends in s, or in ies for a y behind a consonant.
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	stem, y := strings.CutSuffix(noun, "y")
	if y && stem != "" && !strings.ContainsRune("aeiou", rune(stem[len(stem)-1])) {
		return strconv.Itoa(n) + " " + stem + "ies"
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
