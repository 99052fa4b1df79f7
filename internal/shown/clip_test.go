package shown

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestATextIsCutBetweenCharacters(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		most int
		want string
	}{
		"a short one stays":                       {"Grüße", 10, "Grüße"},
		"one that just fits":                      {"Grüße", 7, "Grüße"},
		"before a character that does not fit":    {"Grüße", 3, "Gr…"},
		"after one that does":                     {"Grüße", 4, "Grü…"},
		"within four bytes":                       {"ab😀cd", 5, "ab…"},
		"what is no UTF-8, however short":         {"a\xffb", 80, "a\uFFFDb"},
		"what is no UTF-8 and grows by that":      {"\xff\xff", 2, "…"},
		"half a character at the end of the text": {"abc\xe2\x82", 80, "abc\uFFFD"},
		"to nothing":                              {"abc", 0, "…"},
		"nothing":                                 {"", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Clip(c.text, c.most); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func FuzzClip(f *testing.F) {
	f.Add("Grüße 😀\xff", 4)
	f.Fuzz(func(t *testing.T, s string, most int) {
		most = min(max(most, 0), 1000)
		got := Clip(s, most)
		if !utf8.ValidString(got) || len(got) > most+len("…") {
			t.Errorf("Clip(%q, %d) = %q", s, most, got)
		}
		if utf8.ValidString(s) && !strings.HasPrefix(s, strings.TrimSuffix(got, "…")) {
			t.Errorf("Clip(%q, %d) = %q is no beginning of it", s, most, got)
		}
	})
}
