// Package bench measures the released programs: it runs them as processes against a simulated vCenter and a real
// Temporal server, alternates what it compares within one run, and prints tables. It is the work of cmd/bench.
package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/program"
)

// benchmark is one thing that can be measured.
type benchmark struct {
	name, about string
	flags       []string // the sizes that it reads, beside runs
	measure     func(ctx context.Context, r *run) error
}

// benchmarks lists them in the order in which they run.
func benchmarks() []benchmark {
	return []benchmark{
		{"idle", "a worker that does nothing: memory, size, start", []string{"runs"}, idle},
		{"reclaim", "from a request, and from an alarm, to the last VM off and annotated", []string{"runs", "targets", "delays"}, reclaim},
		{"workers", "the same with several workers on one task queue", []string{"runs", "workers"}, workers},
		{"inventory", "a plan and a round in large inventories: calls, time, memory, histories", []string{"runs", "vms", "candidates", "tags"}, inventory},
		{"alarms", "many alarms at once: rounds a second, the ledger", []string{"workers", "clusters"}, alarms},
		{"events", "events a second through the receiver, and what each costs Temporal", []string{"events"}, events},
	}
}

// Program is one run of the benchmarks, with its inputs and outputs: tables on Stdout, progress on Stderr.
type Program struct {
	Args           []string
	Stdout, Stderr io.Writer
}

// Run returns the exit code.
func (p Program) Run(ctx context.Context) int {
	o, err := parse(p.Args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		p.help()
		return program.Done
	case err != nil:
		fmt.Fprintf(p.Stderr, "bench: %v; see bench --help\n", err)
		return program.Usage
	}
	err = p.measure(ctx, o)
	switch {
	case err != nil && ctx.Err() != nil:
		fmt.Fprintln(p.Stderr, "bench: interrupted")
		return program.Interrupted
	case err != nil:
		fmt.Fprintf(p.Stderr, "bench: %v\n", err)
		return program.Failed
	}
	return program.Done
}

func (p Program) help() {
	w := p.Stdout
	fmt.Fprint(w, "bench measures the released programs against a simulated vCenter and a real Temporal server.\n\n"+
		"Usage: bench [flags] [benchmark ...]\n\nRun it in the module's folder. Without a benchmark it runs all:\n\n")
	for _, b := range benchmarks() {
		fmt.Fprintf(w, "  %-10s  %s\n              reads %s\n", b.name, b.about, "--"+strings.Join(b.flags, ", --"))
	}
	fmt.Fprint(w, "\n      --quick       small sizes, for a run of a minute or two\n"+
		"  -o FORMAT         markdown or json (default markdown)\n"+
		"      --calls N     limits.vcenterCalls of each worker (default 5)\n"+
		"      --logs DIR    write what the workers log into this folder\n")
	for _, name := range slices.Sorted(maps.Keys(sized)) {
		fmt.Fprintf(w, "      --%-10s  %s (default %s; with --quick %s)\n", name, sized[name].about, sized[name].usual, sized[name].quick)
	}
	fmt.Fprint(w, "\nTables go to stdout, progress to stderr. A bar that is not met is in the table; it is no failure.\n\n"+
		"Exit codes: 0 measured; 1 failed; 2 wrong usage; 130 interrupted.\n")
}

// measure runs the chosen benchmarks. Each table is printed as soon as it is there; JSON is printed at the end.
func (p Program) measure(ctx context.Context, o options) (err error) {
	r := &run{options: o, began: time.Now(), stderr: p.Stderr}
	all := report{Command: strings.Join(append([]string{"go run ./cmd/bench"}, p.Args...), " "), Machine: thisMachine()}
	if o.output == formatMarkdown {
		all.Machine.markdown(p.Stdout, all.Command)
	}
	r.done = func(t *table) {
		all.Tables = append(all.Tables, t)
		if o.output == formatMarkdown {
			t.markdown(p.Stdout)
		}
	}
	defer r.close()
	if err := r.start(ctx); err != nil {
		return err
	}
	for _, b := range benchmarks() {
		if !slices.Contains(o.names, b.name) {
			continue
		}
		if err = b.measure(ctx, r); err != nil {
			err = fmt.Errorf("%s: %w", b.name, err)
			break
		}
	}
	if o.output == formatJSON {
		return errors.Join(err, all.write(p.Stdout))
	}
	return err
}

// say writes a line of progress.
func (r *run) say(format string, args ...any) {
	fmt.Fprintf(r.stderr, "%6.1fs  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

// table begins a table; the func it returns ends and prints it, with what was measured until then.
func (r *run) table(name, title string, columns ...string) (*table, func()) {
	t := &table{Name: name, Title: title, Columns: columns}
	before, began, short := load(), time.Now(), waited()
	return t, func() {
		share := ratio(waited()-short, time.Since(began))
		t.Load = fmt.Sprintf("%s at its begin, %s at its end; for %.0f %% of the time some process waited for a core", before, load(), 100*share)
		r.done(t)
	}
}

// close stops Temporal and removes what was written.
func (r *run) close() {
	if r.client != nil {
		r.client.Close()
	}
	if r.server != nil {
		r.server.Stop()
	}
	if r.dir != "" {
		_ = os.RemoveAll(r.dir)
	}
}
