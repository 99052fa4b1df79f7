package standalone

import (
	"cmp"
	"context"
	"fmt"
	"net"

	"github.com/vsphere-preemption/vsphere-preemption/internal/worker"
)

// noConsole is the address that asks for no console.
const noConsole = "off"

// startConsole serves the console, and says where before anything happens.
func (s *stack) startConsole(ctx context.Context, p Program) error {
	if s.console == noConsole {
		return nil
	}
	set := s.set
	wanted := fmt.Sprintf("127.0.0.1:%d", p.Ports.Console)
	set.UI.Addr = cmp.Or(s.console, wanted)
	set.File.Policies = s.policies() // of a simulation, with its own times
	set.Temporal.Options.HostPort = s.temporal.HostPort()
	c, err := worker.Console(set, s.client, p.Build.Version, s.log)
	if err != nil {
		return fmt.Errorf("--console %s: %w", set.UI.Addr, err)
	}
	listener, err := net.Listen("tcp", set.UI.Addr)
	if err != nil && s.console == "" {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return fmt.Errorf("serve the console on %s: %w; name another address with --console", set.UI.Addr, err)
	}
	s.background(ctx, func(ctx context.Context) {
		if err := c.Serve(ctx, listener); err != nil {
			s.log.Error("the console is no longer served", "reason", err)
		}
	})
	s.consoled = "http://" + reachable(listener.Addr().String())
	s.out.say("console", "%s shows what follows in a browser", s.consoled)
	if s.console == "" && p.Ports.Console != 0 && listener.Addr().String() != wanted {
		s.out.say("console", "port %d is taken, so a free one was chosen", p.Ports.Console)
	}
	return nil
}
