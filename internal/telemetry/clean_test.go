package telemetry

import (
	"bytes"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"testing"
)

func TestTheLogTellsNoSecretOfAnAddressAndHidesNothing(t *testing.T) {
	const address = "https://user:canary-1@host/p?token=canary-2"
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{JSON, Text} {
		var out bytes.Buffer
		l := New(&out, format, true)
		l = l.With("target", address)
		l.Debug("sending to "+address, "url", u, "error", &url.Error{Op: "Post", URL: address, Err: errors.New("EOF")},
			slog.Group("more", "target", address), "vm", "a\u202eb\u009bc\u200bd")
		got := out.String()
		if strings.Contains(got, "canary") || strings.Count(got, "xxxxx@host") < 5 {
			t.Errorf("%s: %s", format, got)
		}
		if strings.ContainsAny(got, "\u202e\u009b\u200b") || !strings.Contains(got, `\u202e`) {
			t.Errorf("%s: %q", format, got)
		}
	}
}
