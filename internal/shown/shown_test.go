package shown

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
)

func TestSecretsOfURLsAreHiddenAndNothingElse(t *testing.T) {
	for in, want := range map[string]string{
		"":                                   "",
		"no address: a@b":                    "no address: a@b",
		"https://host/path":                  "https://host/path",
		"https://host:8443/a/@me?b=c&d=e#f":  "https://host:8443/a/@me?b=c&d=e#f",
		"http://[::1]:80/x":                  "http://[::1]:80/x",
		"see https://host: it is away":       "see https://host: it is away",
		"https://user:pw@host/p":             "https://xxxxx@host/p",
		"https://token-alone@host":           "https://xxxxx@host",
		"https://u:p@w@host":                 "https://xxxxx@host",
		"https://u:p/w@host/x":               "https://xxxxx@host/x",
		"https://u:p?w@host/x":               "https://xxxxx@host/x",
		"https://u:cut sho":                  "https://xxxxx sho",
		"https://u:canary…":                  "https://xxxxx",
		"HTTPS://u:p@h?Token=x":              "HTTPS://xxxxx@h?Token=xxxxx",
		"http://h/?a=1&access_token=s&b=2":   "http://h/?a=1&access_token=xxxxx&b=2",
		"http://h/?api%4bey=s":               "http://h/?api%4bey=xxxxx",
		"http://h/?%zz=s":                    "http://h/?%zz=xxxxx",
		"http://h/?sig=a;code=b#token=c":     "http://h/?sig=xxxxx;code=xxxxx#token=xxxxx",
		"http://h/?x=0123456789abcdef012345": "http://h/?x=xxxxx",
		"http://h/?0123456789abcdef012345":   "http://h/?xxxxx",
		`Post "http://u:p@h/?k=v&key=s": EOF, and "http://h?sas=x"`: `Post "http://xxxxx@h/?k=v&key=xxxxx": EOF, and "http://h?sas=xxxxx"`,
	} {
		got := Redact(in)
		if got != want {
			t.Errorf("%s\n got %s\nwant %s", in, got, want)
		}
		if again := Redact(got); again != got {
			t.Errorf("%s: redacted twice it is %s", got, again)
		}
	}
}

func FuzzNoUserInfoIsShown(f *testing.F) {
	for _, s := range []string{"user:pw", "a", "u:p/w", "u:p?w=1", "u:p#w", "@", "[::1", "1:2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsFunc(s, unicode.IsSpace) || strings.ContainsAny(s, "\"<>`/?#") || s == "" {
			return
		}
		if got := Redact("https://" + s + "@host/path"); got != "https://xxxxx@host/path" {
			t.Errorf("%q: %s", s, got)
		}
	})
}

func TestNothingHiddenOrTurnedAroundIsShown(t *testing.T) {
	for _, r := range []rune{0, 7, 0x1b, 0x7f, 0x80, 0x85, 0x9b, 0x9f, 0x200b, 0x200e, 0x202a, 0x202e, 0x2028, 0x2066, 0x2069, 0xfeff, 0xe0001, 0xfffd} {
		in := "vm" + string(r) + "1"
		if out := Plain(in); strings.ContainsFunc(out, hidden) || !strings.HasPrefix(out, "vm\\") || !strings.HasSuffix(out, "1") {
			t.Errorf("%U became %q", r, out)
		}
		doc, err := json.Marshal(map[string]string{in: in})
		if err != nil {
			t.Fatal(err)
		}
		out := JSON(doc)
		var back map[string]string
		if err := json.Unmarshal(out, &back); err != nil || back[in] != in || strings.ContainsFunc(string(out), hidden) {
			t.Errorf("%U: %q says %q, %v", r, out, back, err)
		}
	}
	for _, plain := range []string{"", "web-1", "Zürich 東京 ⚙", `back\slash`} {
		if Plain(plain) != plain || string(JSON([]byte(plain))) != plain {
			t.Errorf("%q was changed: %q", plain, Plain(plain))
		}
	}
	if got := Plain("a\xffb"); got != `a\xffb` {
		t.Errorf("a byte that is no UTF-8: %q", got)
	}
}

func TestWhatIsDecodedAgainShowsTheEscapes(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":"x\u202ey"}`:       `{"a":"x\\u202ey"}`,
		`{"a":"\u009b\u200b"}`:   `{"a":"\\u009b\\u200b"}`,
		`{"a":"back\\u202e"}`:    `{"a":"back\\u202e"}`,
		`{"a":"\\\u202e\ud83c"}`: `{"a":"\\\\u202e\\ud83c"}`,
		`{"a":"line\n\u003c ü"}`: `{"a":"line\n\u003c ü"}`,
	} {
		if got := string(Literal([]byte(in))); got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
}
