// Package standalone runs everything in one process: an embedded Temporal server with its web UI, a worker, and on
// request a simulated vCenter on which one preemption is shown from the alarm to the record and then checked. It puts
// the other packages together and decides nothing about VMs.
//
// Only the program standalone imports it: with the Temporal server and the simulator it adds more than 100 MB.
package standalone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/vsphere-preemption/vsphere-preemption/internal/api/demoapi"
	"github.com/vsphere-preemption/vsphere-preemption/internal/program"
	"github.com/vsphere-preemption/vsphere-preemption/internal/telemetry"
)

// Program is one run of standalone, with all that it needs of the operating system.
type Program struct {
	Args    []string
	Env     []string // as os.Environ lists it
	Stdout  io.Writer
	Stderr  io.Writer
	Build   telemetry.Build
	Ports   Ports
	Signals <-chan os.Signal // the first ends the program in good order, the second at once
	Exit    func(code int)   // ends the process at once

	beforeCheck func(*stack) // of tests: meddles after the scenario and before the check
	noScenario  bool         // of tests: after beforeCheck the demo goes on, without having shown anything
}

// Ports are those that are tried first; where one is taken a free one is chosen.
type Ports struct{ Temporal, UI, Console, Control int }

// DefaultPorts are the ports that Temporal and its web UI are known by, and those of the console and the demo's knobs.
func DefaultPorts() Ports {
	return Ports{Temporal: 7233, UI: 8233, Console: 8234, Control: demoapi.DefaultPort}
}

var (
	errInterrupted = errors.New("interrupted")
	errUsage       = errors.New("wrong usage")
)

// wrongUsage marks an error as wrong usage.
func wrongUsage(err error) error { return fmt.Errorf("%w%w", silent{errUsage}, err) }

// silent is an error that is matched but adds nothing to the text.
type silent struct{ error }

func (silent) Error() string { return "" }

func (s silent) Unwrap() error { return s.error }

// Run runs the program and returns its exit code.
func (p Program) Run(ctx context.Context) int {
	o, done, err := p.options()
	if done {
		return program.Done
	}
	if err != nil {
		return p.fail(err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	over := make(chan struct{})
	defer close(over)
	go p.heed(cancel, over)
	return p.serve(ctx, cancel, o)
}

// heed turns the first signal into the end of the context, and the second into the end of the process.
func (p Program) heed(cancel context.CancelCauseFunc, over <-chan struct{}) {
	for n := 1; ; n++ {
		select {
		case <-over:
			return
		case <-p.Signals:
		}
		if n > 1 {
			p.Exit(program.Interrupted)
			return
		}
		cancel(errInterrupted)
	}
}

// serve starts everything, shows the scenario where one is asked for, and serves until the context ends.
func (p Program) serve(ctx context.Context, cancel context.CancelCauseFunc, o options) int {
	p.Ports = o.ports(p.Ports)
	out := newScreen(p.Stdout, o.env)
	out.say("start", "%s", p.greeting(o))
	if o.simulate && o.env.Get("VCENTER_URL") != "" {
		out.say("start", "VCENTER_URL is set and not used: nothing but the simulated vCenter is touched")
	}
	if o.once {
		return p.check(ctx, cancel, o, out)
	}
	s, err := start(ctx, cancel, o, out, p)
	if err != nil {
		return p.ended(ctx, o, err)
	}
	defer s.stop()
	defer sayStopping(ctx, out)
	code := p.ended(ctx, o, p.run(ctx, s))
	if ctx.Err() != nil {
		return code
	}
	if err := s.rest(ctx); err != nil {
		return p.ended(ctx, o, err)
	}
	if cause := context.Cause(ctx); !errors.Is(cause, errInterrupted) && !errors.Is(cause, context.Canceled) {
		return p.fail(cause)
	}
	return code
}

// check shows the scenario, stops everything, and ends with a verdict.
func (p Program) check(ctx context.Context, cancel context.CancelCauseFunc, o options, out *screen) int {
	var shown score
	s, err := start(ctx, cancel, o, out, p)
	if err == nil {
		err = p.run(ctx, s)
		shown = s.score
		sayStopping(ctx, out)
		s.stop()
	}
	code := p.ended(ctx, o, err)
	out.line(verdict(shown, err, code == program.Interrupted))
	return code
}

func sayStopping(ctx context.Context, out *screen) {
	if errors.Is(context.Cause(ctx), errInterrupted) {
		out.say("stopping", "steps under way may finish; a second Ctrl-C ends at once")
	}
}

// ended says what err was, and returns the exit code for it. An interruption is no error and needs no words.
func (p Program) ended(ctx context.Context, o options, err error) int {
	switch {
	case err == nil:
		return program.Done
	case errors.Is(context.Cause(ctx), errInterrupted) && o.simulate:
		return program.Interrupted
	case errors.Is(context.Cause(ctx), errInterrupted):
		return program.Done
	}
	return p.fail(err)
}

// run shows the scenario, or says that the worker is ready.
func (p Program) run(ctx context.Context, s *stack) error {
	if s.vcenter == nil {
		s.out.say("ready", "requests are accepted; Ctrl-C ends")
		return nil
	}
	if p.noScenario {
		p.beforeCheck(s)
		return nil
	}
	if s.inventory != "" {
		return newRehearsal(s, p.beforeCheck).play(ctx)
	}
	return newScenario(s, p.beforeCheck).play(ctx)
}

func (p Program) greeting(o options) string {
	what := "Temporal and a worker in this process, for the vCenter of VCENTER_URL"
	if o.simulate {
		what = "Temporal, a worker and a simulated vCenter in this process; no network is needed"
	}
	if o.inventory != "" {
		what = "Temporal, a worker and a twin of the vCenter saved in " + o.inventory + "; the real one is not touched"
	}
	return "vsphere-preemption standalone " + p.Build.Version + ": " + what
}

// fail says what went wrong, a line for each problem, and returns the exit code.
func (p Program) fail(err error) int {
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintln(p.Stderr, "standalone:", strings.TrimRight(line, "\n"))
	}
	if errors.Is(err, errUsage) {
		return program.Usage
	}
	return program.Failed
}
