package standalone

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
)

func TestTheScreenAlignsLinesAndSetsBlocksOff(t *testing.T) {
	var b strings.Builder
	s := newScreen(&b, config.Env{})
	s.say("off", "one")
	s.block("Result", "a\nb\n")
	s.block("More", "c")
	s.say("annotated", "two")
	got := regexp.MustCompile(`\d\d:\d\d:\d\d\.\d{3}`).ReplaceAllString(b.String(), "TIME")
	want := "TIME  off        one\n\nResult\n\na\nb\n\nMore\n\nc\n\nTIME  annotated  two\n"
	if got != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

func TestColoursAreForTerminalsThatWantThem(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0) // a character device, as a terminal is
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	tests := map[string]struct {
		env  config.Env
		want bool
	}{
		"a terminal":      {config.Env{"TERM": "xterm"}, true},
		"NO_COLOR":        {config.Env{"TERM": "xterm", "NO_COLOR": "1"}, false},
		"a dumb terminal": {config.Env{"TERM": "dumb"}, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := newScreen(null, tc.env).colour; got != tc.want {
				t.Errorf("colour %v, want %v", got, tc.want)
			}
		})
	}
	if newScreen(&strings.Builder{}, config.Env{"TERM": "xterm"}).colour {
		t.Error("colours where there is no terminal")
	}
}
