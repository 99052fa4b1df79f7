package cli

import (
	"strconv"
	"strings"
	"time"
)

// longestSince bounds how far back a command looks: Temporal keeps less.
const longestSince = 10 * 366 * 24 * time.Hour

// since reads how far back to look: a duration such as 12h or 30d, a day such as 2026-11-01, or a time such as
// 2026-11-01T22:00:00Z. Days are counted by the clock of this machine.
func since(flag, text string, now time.Time) (time.Time, error) {
	text = strings.TrimSpace(text)
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return at, nil
		}
	}
	d, err := time.ParseDuration(text)
	if days, cut := strings.CutSuffix(text, "d"); cut {
		var n int
		n, err = strconv.Atoi(days)
		d = time.Duration(min(max(n, -1), 100_000)) * 24 * time.Hour
	}
	if err != nil || d <= 0 || d > longestSince {
		return time.Time{}, usagef("--%s %q is neither a duration such as 12h or 30d, nor a day such as 2026-11-01, nor a time such as 2026-11-01T22:00:00Z", flag, text)
	}
	return now.Add(-d), nil
}
