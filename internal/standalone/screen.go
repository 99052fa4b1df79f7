package standalone

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
	"github.com/vsphere-preemption/vsphere-preemption/internal/shown"
)

// screen writes what a person reads: a line for each thing that happens, with the time and what kind of thing it is,
// and blocks such as tables. Its methods may be called from any goroutine.
type screen struct {
	mu     sync.Mutex
	w      io.Writer
	colour bool
	gap    bool // an empty line is due before the next line
}

// kindWidth is the width of the longest kind of line.
const kindWidth = len("annotated")

func newScreen(w io.Writer, env config.Env) *screen {
	_, no := env.LookupEnv("NO_COLOR")
	return &screen{w: w, colour: !no && env.Get("TERM") != "dumb" && isTerminal(w)}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// say writes one line.
func (s *screen) say(kind, format string, args ...any) {
	label := fmt.Sprintf("%-*s", kindWidth, kind)
	if s.colour {
		label = shade(kind) + label + "\x1b[0m"
	}
	text := shown.Plain(fmt.Sprintf(format, args...)) // names come from elsewhere in a rehearsal
	s.write(time.Now().Format("15:04:05.000")+"  "+label+"  "+text+"\n", false)
}

// line writes a line as it is, without the time.
func (s *screen) line(text string) { s.write(shown.Plain(text)+"\n", false) }

// block writes a heading and the text below it, set off by empty lines.
func (s *screen) block(heading, text string) {
	if s.colour {
		heading = "\x1b[1m" + heading + "\x1b[0m"
	}
	s.write(heading+"\n\n"+strings.TrimRight(text, "\n")+"\n", true)
}

func (s *screen) write(text string, block bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if block || s.gap {
		text = "\n" + text
	}
	s.gap = block
	_, _ = io.WriteString(s.w, text) // a reader that went away ends nothing here
}

// shade is the colour of a kind of line.
func shade(kind string) string {
	switch kind {
	case "alarm", "mismatch", "failed":
		return "\x1b[31m"
	case "off", "chosen":
		return "\x1b[33m"
	case "annotated", "checked", "done", "on":
		return "\x1b[32m"
	}
	return "\x1b[36m"
}
