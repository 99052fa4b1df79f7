package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"golang.org/x/term"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
)

// watchEvery is how often a status that is watched is shown again.
const watchEvery = time.Second

// home clears a terminal.
const home = "\x1b[H\x1b[2J"

// followStatus shows the status of a workflow each second until it has ended. What is no terminal gets it again only where it has
// changed.
func (a *app) followStatus(ctx context.Context, s *session, f idFlags) error {
	out, terminal := a.Stdout, onTerminal(a.Stdout)
	last := ""
	for {
		var page bytes.Buffer
		a.Stdout = &page
		err := a.status(ctx, s, f)
		a.Stdout = out
		if err != nil {
			return err
		}
		if text := page.String(); terminal {
			fmt.Fprint(out, home+text+"\n"+timestamp(a.Now())+", Ctrl+C ends it\n")
		} else if text != last {
			fmt.Fprint(out, text+"\n")
			last = text
		}
		info, err := s.describe(ctx, f)
		if err != nil {
			return err
		}
		if info.GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			return nil
		}
		if !clock.Sleep(ctx, watchEvery) {
			return context.Cause(ctx)
		}
	}
}

// widthOf returns how to find out how wide the terminal is, which may change.
func widthOf(o Options) func() int {
	f, ok := o.Stdout.(*os.File)
	if o.Width > 0 || !ok {
		return func() int { return o.Width }
	}
	return func() int {
		width, _, err := term.GetSize(int(f.Fd()))
		if err != nil {
			return 0 // no terminal: whoever reads it gets all
		}
		return width
	}
}

// onTerminal reports whether somebody looks at what is written.
func onTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
