package shown

import "strconv"

// Count is a number of things: "1 VM", "2 VMs". The plural of the noun ends in s.
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
