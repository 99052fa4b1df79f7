package standalone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"

	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
	"github.com/vsphere-preemption/vsphere-preemption/internal/program"
)

// docsForeign are the programs that cannot run here, and why.
var docsForeign = map[string]string{
	"kubectl": "needs a cluster", "helm": "needs a cluster", "temporal": "needs Temporal's own program", "govc": "needs a real vCenter",
	"vmware-rpctool": "runs in a guest", "systemctl": "changes the machine", "journalctl": "reads the machine's log",
	"apt-get": "changes the machine", "sudo": "changes the machine", "install": "changes the machine",
	"cosign": "needs a release", "sha256sum": "needs a release", "docker": "needs a daemon", "bash": "runs scripts that have checks of their own",
	"openssl": "need not be installed", "sleep": "only waits", "umask": "is no part of the interpreter", "mktemp": "only makes a folder",
}

// docsReal are the programs of the system that do run.
var docsReal = []string{"awk", "cat", "cp", "date"}

// docsOurs are our programs.
var docsOurs = []string{"preemptctl", "standalone", "worker", "kn-go-preemption"}

// readPage runs the commands of a page in their order, and checks those within its text.
func (d *docsSite) readPage(t *testing.T, page string) {
	raw, err := os.ReadFile(filepath.Join(docsRoot, page))
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	scripts, err := docsScripts(page, text)
	if err != nil {
		t.Error(err)
	}
	run := d.interpreter(t)
	for _, s := range scripts {
		run(fmt.Sprintf("%s:%d", page, s.line), s.text)
	}
	d.endAlarm(t)
	for _, span := range docsSpans(text) {
		if err := d.parse(span); err != nil {
			t.Errorf("%s: `%s`: %v", page, span, err)
		}
	}
}

// endAlarm ends the alarm that a page may have raised: its repetitions would stop the restores of the pages that follow.
func (d *docsSite) endAlarm(t *testing.T) {
	t.Helper()
	id := alarmName + "@" + d.site.vcenter.Cluster(other).Ref.Value
	cli.Run(t.Context(), cli.Options{
		Args:   []string{"workflow", "cancel", "-w", id, "--wait"},
		Env:    config.Env{"TEMPORAL_URL": d.site.temporal.HostPort()},
		Stdout: io.Discard, Stderr: io.Discard, // most pages raise none, so that there is nothing to cancel
	})
}

var docsExitCode = regexp.MustCompile(`exit code (\d+)`)

// interpreter returns a shell that runs scripts. It keeps variables from one script to the next, as a reader's shell does.
func (d *docsSite) interpreter(t *testing.T) func(at, script string) {
	t.Helper()
	var out bytes.Buffer
	runner, err := interp.New(interp.Dir(d.dir), interp.StdIO(nil, &out, &out), interp.OpenHandler(docsOpen), interp.CallHandler(docsBuiltin),
		interp.Env(expand.ListEnviron("PATH="+os.Getenv("PATH"), "HOME="+d.dir)),
		interp.ExecHandlers(func(next interp.ExecHandlerFunc) interp.ExecHandlerFunc {
			return func(ctx context.Context, args []string) error { return d.exec(ctx, args, next) }
		}))
	if err != nil {
		t.Fatal(err)
	}
	return func(at, script string) {
		file, err := syntax.NewParser(syntax.KeepComments(true)).Parse(strings.NewReader(d.words.Replace(script)), at)
		if err != nil {
			t.Errorf("%s: this is no shell script: %v", at, err)
			return
		}
		for _, stmt := range file.Stmts {
			out.Reset()
			want, start := "0", time.Now()
			for _, c := range stmt.Comments {
				if m := docsExitCode.FindStringSubmatch(c.Text); m != nil {
					want = m[1]
				}
			}
			var status interp.ExitStatus
			if err := runner.Run(t.Context(), stmt); err != nil && !errors.As(err, &status) {
				t.Fatalf("%s: %v", at, err)
			}
			got := fmt.Sprint(uint8(status))
			if hidden := d.hidden.Swap(0); status == 0 && hidden != 0 { // within $(...) or at the head of a pipe
				got = fmt.Sprint(hidden)
			}
			if got != want {
				t.Errorf("%s: %s\nexit code %s, want %s\n%s", at, docsSource(stmt), got, want, out.String())
			}
			if err := d.askerOff(); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took > time.Second {
				t.Logf("%s: %s took %s", at, docsSource(stmt), took.Round(100*time.Millisecond))
			}
		}
	}
}

func docsSource(node syntax.Node) string {
	var b bytes.Buffer
	_ = syntax.NewPrinter().Print(&b, node)
	return b.String()
}

// docsOpen opens files, and discards what is written outside of the folder or into folders that only a real run makes.
func docsOpen(ctx context.Context, path string, flag int, perm os.FileMode) (io.ReadWriteCloser, error) {
	f, err := interp.DefaultOpenHandler()(ctx, path, flag, perm)
	if flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		return f, err
	}
	inside := !filepath.IsAbs(path) || strings.HasPrefix(path, os.TempDir())
	if err == nil && inside {
		return f, nil
	}
	return os.OpenFile(os.DevNull, os.O_RDWR, 0)
}

// docsBuiltin replaces builtins: completion scripts are for other shells, and are only read.
func docsBuiltin(_ context.Context, args []string) ([]string, error) {
	if args[0] == "source" {
		args = append([]string{"cat"}, args[1:]...)
	}
	return args, nil
}

// exec runs one command of a script: ours in this process, some of the system, and of the others none.
func (d *docsSite) exec(ctx context.Context, args []string, next interp.ExecHandlerFunc) error {
	hc := interp.HandlerCtx(ctx)
	refuse := func(err error) error {
		fmt.Fprintln(hc.Stderr, err)
		return d.ended(program.Usage)
	}
	if len(args) > 2 && args[0] == "go" && args[1] == "run" {
		if err := docsFolder(args[2]); err != nil {
			return refuse(err)
		}
		args = args[2:]
	}
	name := filepath.Base(args[0])
	switch {
	case name == "preemptctl":
		return d.ended(d.preemptctl(ctx, d.located(args[1:])))
	case slices.Contains(docsOurs, name) || name == "go":
		if err := d.check(append([]string{name}, d.located(args[1:])...), docsEnv(hc.Env)); err != nil {
			return refuse(err)
		}
		return nil
	case name == "curl":
		return d.curl(ctx, args)
	case slices.Contains(docsReal, name):
		return next(ctx, args)
	case docsForeign[name] != "":
		return nil
	case strings.Contains(args[0], "/"): // a script of the repository has checks of its own
		if _, err := os.Stat(filepath.Join(docsRoot, args[0])); err != nil {
			return refuse(err)
		}
		return nil
	}
	return refuse(fmt.Errorf("%s is neither ours nor in the list of programs that cannot run here", name))
}

// ended returns how a command has ended, and remembers a failure that the shell may hide.
func (d *docsSite) ended(code int) error {
	if code == program.Done {
		return nil
	}
	d.hidden.Store(int32(code))
	return interp.ExitStatus(code)
}

// curl posts its standard input to the demo's receiver. Other addresses cannot be reached here.
func (d *docsSite) curl(ctx context.Context, args []string) error {
	hc := interp.HandlerCtx(ctx)
	path, header := "", http.Header{}
	for i, arg := range args {
		if rest, ok := strings.CutPrefix(arg, "http://127.0.0.1:"+demoPort); ok {
			path = rest
		}
		if name, value, ok := strings.Cut(arg, ": "); ok && args[i-1] == "-H" {
			header.Set(name, value)
		}
	}
	if path == "" {
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.site.events+path, hc.Stdin)
	if err != nil {
		return err
	}
	req.Header = header
	resp, err := asker.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		fmt.Fprintln(hc.Stderr, resp.Status)
		return interp.ExitStatus(program.Failed)
	}
	return nil
}

func docsEnv(env expand.Environ) config.Env {
	out := config.Env{}
	env.Each(func(name string, v expand.Variable) bool {
		if v.Exported {
			out[name] = v.String()
		}
		return true
	})
	return out
}

// located replaces names of the documents by those of the site, and file names by paths.
func (d *docsSite) located(args []string) []string {
	out := slices.Clone(args)
	for i, arg := range out {
		if exact, ok := d.exact[arg]; ok {
			arg = exact
		}
		at, path := "", arg
		if strings.HasPrefix(arg, "@") {
			at, path = "@", arg[1:]
		}
		if file := filepath.Join(d.dir, path); path != "" && !filepath.IsAbs(path) {
			if info, err := os.Stat(file); err == nil && !info.IsDir() {
				arg = at + file
			}
		}
		out[i] = arg
	}
	return out
}

// preemptctl runs preemptctl against the site. What is refused because an earlier command is not over is asked again.
func (d *docsSite) preemptctl(ctx context.Context, args []string) (code int) {
	hc := interp.HandlerCtx(ctx)
	env := docsEnv(hc.Env)
	env["TEMPORAL_URL"], env["PREEMPT_DEMO_ADDR"] = d.site.temporal.HostPort(), d.site.knobs.addr
	if len(args) > 0 && args[0] == "demo" {
		defer func() {
			if err := d.calm(ctx); err != nil {
				fmt.Fprintln(hc.Stderr, err)
				code = program.Failed
			}
		}()
	}
	for i, arg := range args {
		if (arg == "--server" || arg == "-s") && i+1 < len(args) {
			args[i+1] = d.site.temporal.HostPort()
		}
	}
	if err := d.ready(ctx, env, args); err != nil {
		fmt.Fprintln(hc.Stderr, err)
		return program.Failed
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		var out, errs bytes.Buffer
		code = cli.Run(ctx, cli.Options{Args: args, Env: env, Stdin: hc.Stdin, Stdout: &out, Stderr: &errs})
		busy := code == program.Refused && docsBusy.MatchString(errs.String())
		if busy && time.Now().Before(deadline) {
			continue
		}
		_, _ = out.WriteTo(hc.Stdout)
		_, _ = errs.WriteTo(hc.Stderr)
		return code
	}
}

var docsBusy = regexp.MustCompile(`under way|cooldown`)

// ready prepares the site for a command: it powers its VMs on, and deletes a schedule of the name that is created.
func (d *docsSite) ready(ctx context.Context, env config.Env, args []string) error {
	switch {
	case len(args) > 2 && args[0] == "schedule" && args[1] == "create":
		cli.Run(ctx, cli.Options{Args: []string{"schedule", "delete", args[2]}, Env: env, Stdout: io.Discard, Stderr: io.Discard})
	case len(args) > 0 && (args[0] == "evict" || args[0] == "remediation"):
		for _, vm := range d.vms {
			if err := d.site.vcenter.SetPowerState(vm.Ref, types.VirtualMachinePowerStatePoweredOn); err != nil {
				return err
			}
		}
	}
	return nil
}
