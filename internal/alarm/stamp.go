package alarm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// stamp is the time of an event.
type stamp struct{ at time.Time }

// UnmarshalText reads a time of XML.
func (s *stamp) UnmarshalText(b []byte) (err error) {
	s.at, err = parseTime("createdTime", string(b))
	return err
}

// UnmarshalJSON reads a time of JSON: a text, a number since 1970, or the object that Windows PowerShell makes of a date.
func (s *stamp) UnmarshalJSON(b []byte) error {
	text := strings.TrimSpace(string(b))
	switch {
	case text == "null":
		return nil
	case strings.HasPrefix(text, `"`):
		if err := json.Unmarshal(b, &text); err != nil {
			return err
		}
	case strings.HasPrefix(text, "{"):
		var date struct {
			Value string `json:"value"`
		}
		if json.Unmarshal(b, &date) != nil || date.Value == "" {
			return fmt.Errorf("field createdTime is a JSON object: %s", wantTime)
		}
		text = date.Value
	}
	return s.UnmarshalText([]byte(text))
}

const wantTime = "want an RFC 3339 time"

// layouts are the ways to write a time that mean one moment only; without a zone it is UTC, as vCenter means it. Day and
// month are never guessed.
var layouts = [...]string{
	time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05Z07",
	"2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 Z07:00", "2006-01-02 15:04:05Z0700", "2006-01-02 15:04:05 Z0700", "2006-01-02 15:04:05",
	"Mon, 02 Jan 2006 15:04:05 GMT", time.RFC1123Z,
}

// parseTime reads an RFC 3339 time, or another that means one moment only: an offset without its colon, a space for the T,
// what .NET and PowerShell write, and a number of seconds, milliseconds, microseconds or nanoseconds since 1970. Empty
// is no time.
func parseTime(field, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	text := strings.TrimSpace(s)
	for _, layout := range layouts {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	if inner, ok := strings.CutPrefix(strings.Trim(text, `\/`), "Date("); ok {
		inner = strings.TrimSuffix(inner, ")")
		if at := strings.LastIndexAny(inner, "+-"); at > 0 { // the zone of whoever wrote it, which changes nothing
			inner = inner[:at]
		}
		if ms, err := strconv.ParseInt(inner, 10, 64); err == nil {
			return time.UnixMilli(ms).UTC(), nil
		}
	}
	if t, ok := epoch(text); ok {
		return t, nil
	}
	return time.Time{}, fmt.Errorf("field %s is %q: %s", field, clip(s), wantTime)
}

// epoch reads a number since 1970, whose size tells its unit for the years from 2001 to 2286.
func epoch(text string) (time.Time, bool) {
	whole, fraction, _ := strings.Cut(text, ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || strings.Trim(fraction, "0123456789") != "" {
		return time.Time{}, false
	}
	switch len(whole) {
	case 10: // the fraction is of a second
		parts, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
		return time.Unix(n, parts).UTC(), err == nil && n > 0
	case 13:
		return time.UnixMilli(n).UTC(), n > 0
	case 16:
		return time.UnixMicro(n).UTC(), n > 0
	case 19:
		return time.Unix(0, n).UTC(), n > 0
	}
	return time.Time{}, false
}

// WithTime returns a structured CloudEvent whose time is written as CloudEvents asks for, where it was not and can be
// read all the same. All else stays as it is.
func WithTime(raw []byte) []byte {
	var all map[string]json.RawMessage
	if json.Unmarshal(raw, &all) != nil || len(all["time"]) == 0 {
		return raw
	}
	var text string
	if json.Unmarshal(all["time"], &text) != nil {
		text = string(bytes.TrimSpace(all["time"]))
	}
	written, ok := RFC3339(text)
	if !ok {
		return raw
	}
	all["time"] = json.RawMessage(strconv.Quote(written))
	out, err := json.Marshal(all)
	if err != nil {
		return raw
	}
	return out
}

// RFC3339 writes a time as CloudEvents asks for; false where it is written so, or cannot be read.
func RFC3339(text string) (string, bool) {
	if _, err := time.Parse(time.RFC3339, text); err == nil {
		return "", false
	}
	at, err := parseTime("time", text)
	if err != nil || at.IsZero() {
		return "", false
	}
	return at.Format(time.RFC3339Nano), true
}
