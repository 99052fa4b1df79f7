package standalone

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/spf13/pflag"
)

// The speeds that the simulated day can have, and the one that it has.
const (
	slowest     = 0.1
	fastest     = 60.0
	usualSpeed  = 1.0
	highestPort = 65535
)

// demoOptions say how fast the simulated day passes, and on which ports everything is served.
type demoOptions struct {
	speed                             float64
	temporalPort, uiPort, controlPort port
}

// port is a flag's value: a port that was asked for, or none.
type port struct {
	number int
	asked  bool
}

// String writes the port that was asked for.
func (p *port) String() string {
	if !p.asked {
		return ""
	}
	return strconv.Itoa(p.number)
}

// Set reads a port; 0 is any free one.
func (p *port) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > highestPort {
		return fmt.Errorf("%q is no port: give 1 to %d, or 0 for any free one", text, highestPort)
	}
	p.number, p.asked = n, true
	return nil
}

// Type names the value in the help.
func (*port) Type() string { return "port" }

// or is the port that was asked for, or another.
func (p port) or(other int) int {
	if p.asked {
		return p.number
	}
	return other
}

// fixed reports whether this port alone will do.
func (p port) fixed() bool { return p.asked && p.number != 0 }

func (d *demoOptions) flags(f *pflag.FlagSet) {
	f.Float64Var(&d.speed, "speed", usualSpeed, "with --simulate: how fast the load of the simulated clusters rises and falls, 0.1 to 60; timeouts, notices and Temporal stay as they are")
	f.Var(&d.temporalPort, "temporal-port", "port of Temporal (default 7233, or a free one if that is taken)")
	f.Var(&d.uiPort, "ui-port", "port of Temporal's web UI (default 8233, or a free one)")
	f.Var(&d.controlPort, "control-port", "with --simulate: port for preemptctl demo (default 8235, or a free one)")
}

// validate says what is wrong with the flags; set reports whether a flag was given.
func (d demoOptions) validate(o options, set func(flag string) bool) error {
	var wrong []error
	add := func(is bool, format string, args ...any) {
		if is {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	add(!(d.speed >= slowest && d.speed <= fastest), "--speed %v is not within %v to %v: 1 is a day in %s, 10 is ten times as fast", d.speed, slowest, fastest, dayLasts)
	for _, flag := range []string{"speed", "control-port"} {
		add(set(flag) && !o.lives(), "--%s is for the demo that goes on: give --simulate, without --once and --inventory", flag)
	}
	add(d.uiPort.asked && o.headless, "--ui-port is of the web UI, which --headless leaves out")
	taken := map[int]string{}
	for _, p := range d.named() {
		if other := taken[p.port.number]; p.port.fixed() && other != "" {
			add(true, "--%s and --%s are both %d: each needs a port of its own", other, p.flag, p.port.number)
		}
		if p.port.fixed() {
			taken[p.port.number] = p.flag
		}
	}
	return errors.Join(wrong...)
}

// namedPort is a port with its flag.
type namedPort struct {
	flag string
	port port
}

func (d demoOptions) named() []namedPort {
	return []namedPort{{"temporal-port", d.temporalPort}, {"ui-port", d.uiPort}, {"control-port", d.controlPort}}
}

// ports are those to try first.
func (d demoOptions) ports(usual Ports) Ports {
	usual.Temporal, usual.UI, usual.Control = d.temporalPort.or(usual.Temporal), d.uiPort.or(usual.UI), d.controlPort.or(usual.Control)
	return usual
}

// checkPorts returns an error for each port that was asked for and that something else uses.
func (d demoOptions) checkPorts() error {
	var wrong []error
	for _, p := range d.named() {
		if !p.port.fixed() {
			continue
		}
		l, err := net.Listen("tcp", loopback(p.port.number))
		if err != nil {
			wrong = append(wrong, takenPort(p.flag, err))
			continue
		}
		wrong = append(wrong, l.Close())
	}
	return errors.Join(wrong...)
}

// askedPorts returns an error where Temporal or its web UI got another port than the one that was asked for.
func (d demoOptions) askedPorts(temporal, ui string) error {
	var wrong []error
	if want := loopback(d.temporalPort.number); d.temporalPort.fixed() && temporal != want {
		wrong = append(wrong, takenPort("temporal-port", fmt.Errorf("%s was taken a moment ago", want)))
	}
	if want := loopback(d.uiPort.number); d.uiPort.fixed() && ui != "http://"+want {
		wrong = append(wrong, takenPort("ui-port", fmt.Errorf("%s was taken a moment ago", want)))
	}
	return errors.Join(wrong...)
}

func takenPort(flag string, err error) error {
	return fmt.Errorf("--%s: %w; end what uses it, name another port, or leave the flag out", flag, err)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// lives reports whether this is the demo that goes on after its scenario.
func (o options) lives() bool { return o.simulate && !o.once && o.inventory == "" }
