package cli

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/vsphere-preemption/vsphere-preemption/internal/bearer"
	"github.com/vsphere-preemption/vsphere-preemption/internal/console"
	"github.com/vsphere-preemption/vsphere-preemption/internal/record"
)

// uiFlags are the flags of ui.
type uiFlags struct {
	addr, tokenFile, header string
	open                    bool
}

// served is what ui prints when it serves.
type served struct {
	URL string `json:"url"`
}

func (a *app) uiCommand() *cobra.Command {
	var f uiFlags
	cmd := &cobra.Command{
		Use: "ui", Args: noArgs,
		Short: "Serve the console: what stands, what is under way and what happened, in a browser",
		Long: "Serve the console on this machine until Ctrl+C, and print its address: which rounds are under way with each VM and the time\n" +
			"left, who is off because of us, what happened and why, and the command for whatever can be done. It reads Temporal alone\n" +
			"and changes nothing. The same data is at /api/v1/ as JSON.\n\n" +
			"On an address that other machines reach, readers must show a token, or come through a reverse proxy that lets only your\n" +
			"people in and says so in a header.\n\n" +
			exitStatus("", ""),
		Example: "  preemptctl ui --open\n  preemptctl ui --addr 127.0.0.1:8090\n  preemptctl ui --addr :8090 --token-file /run/secrets/console",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withSession(cmd, 0, func(ctx context.Context, s *session) error { return a.ui(ctx, cmd.Context(), s, f) })
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.addr, "addr", "127.0.0.1:0", "address to listen on; port 0 is a free one")
	flags.BoolVar(&f.open, "open", false, "open it in the browser of this machine")
	flags.StringVar(&f.tokenFile, "token-file", "", "file with the token that readers must show, as a bearer token or as a password")
	flags.StringVar(&f.header, "trusted-header", "", "header that a reverse proxy sets for those it has let in, such as X-Forwarded-User")
	return cmd
}

// ui serves the console until the command is interrupted.
func (a *app) ui(ctx, parent context.Context, s *session, f uiFlags) error {
	if _, _, err := net.SplitHostPort(f.addr); err != nil {
		return usagef("--addr %q is not of the form host:port", f.addr)
	}
	guard := console.Guard{Addr: f.addr, Header: f.header}
	if f.tokenFile != "" {
		token, err := bearer.Read(f.tokenFile, a.log)
		if err != nil {
			return usagef("--token-file: %w", err)
		}
		guard.Token = token
	}
	c, err := console.New(console.Config{
		Record: &record.Reader{Client: s.Client, Namespace: a.target.namespace, TaskQueue: a.target.queue},
		Server: a.target.address, Guard: guard, Version: a.Build.Version, Log: a.log,
	})
	if err != nil {
		return usagef("%w (--token-file, --trusted-header)", err)
	}
	if _, err := s.polled(ctx); err != nil { // a wrong address is said now, and not on a page
		return err
	}
	l, err := net.Listen("tcp", f.addr)
	if err != nil {
		return failedf("serve the console: %w; name another address with --addr", err)
	}
	out := served{URL: "http://" + l.Addr().String()}
	err = a.show(view{value: out, msg: "console", attrs: []any{"url", out.URL}, table: func(t *table) { t.row("console", out.URL) }})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	a.notice("Ctrl+C ends it")
	if f.open {
		a.openBrowser(ctx, out.URL)
	}
	if err := c.Serve(parent, l); err != nil {
		return failedf("serve the console: %w", err)
	}
	return nil
}

// openBrowser opens an address in the browser of this machine.
func (a *app) openBrowser(ctx context.Context, url string) {
	name, args := "xdg-open", []string{url}
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", url}
	}
	if err := exec.CommandContext(ctx, name, args...).Start(); err != nil {
		a.notice("no browser can be opened (%s): open the address yourself", err)
	}
}
