package flagwords

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func TestWhatIsWrongWithAFlagIsSaidInPlainWords(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no whole number":         {[]string{"--limit", "many"}, `--limit "many" is not a whole number, such as 20`},
		"no number":               {[]string{"--speed", "abc"}, `--speed "abc" is not a number, such as 1.5`},
		"no duration":             {[]string{"--for", "soon"}, `--for "soon" is not a duration, such as 30s, 5m or 2h`},
		"a duration without unit": {[]string{"--for=5"}, `--for "5" is not a duration, such as 30s, 5m or 2h`},
		"neither true nor false":  {[]string{"--wait=perhaps"}, `--wait "perhaps" is not true or false`},
		"by its letter":           {[]string{"-n", "x"}, `--limit "x" is not a whole number, such as 20`},
		"too large":               {[]string{"--limit", "99999999999999999999"}, `--limit "99999999999999999999" is too large or too small`},
		"no value":                {[]string{"--for"}, "--for needs a value: a duration, such as 30s, 5m or 2h"},
		"no value of a text":      {[]string{"--tag"}, "--tag needs a value"},
		"no value, by its letter": {[]string{"-n"}, "--limit needs a value: a whole number, such as 20"},
		"an unknown letter":       {[]string{"-5"}, "unknown flag: -5; an argument that begins with - is given behind --"},
		"too many dashes":         {[]string{"---tag"}, `"---tag" is no flag: flags are written as --name, --name=value or --name value`},
		"an unknown name":         {[]string{"--nosuch"}, "unknown flag: --nosuch"},
	} {
		f := pflag.NewFlagSet("x", pflag.ContinueOnError)
		f.SetOutput(io.Discard)
		f.IntP("limit", "n", 20, "")
		f.Float64("speed", 1, "")
		f.Duration("for", time.Second, "")
		f.Bool("wait", false, "")
		f.String("tag", "", "")
		if err := Plain(f.Parse(c.args)); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	other := errors.New("something else")
	if Plain(other) != other || Plain(nil) != nil {
		t.Error("an error of no flag is changed")
	}
}
