package bench

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// delay is how slow vCenter is made: so long for each call, and so long for each task beyond its call.
type delay struct{ call, task time.Duration }

func (d delay) String() string {
	if d == (delay{}) {
		return "none"
	}
	return fmt.Sprintf("%s a call, tasks of %s", d.call, d.task)
}

// options are what the command line asks for.
type options struct {
	names      []string // of benchmarks, in the order of the table
	quick      bool
	output     string
	runs       int
	calls      int // limits.vcenterCalls of each worker
	targets    []int
	delays     []delay
	workers    []int
	vms        []int
	candidates []int
	clusters   int
	tags       int
	events     int
	logs       string // folder for the logs of the workers; "": none
}

// The formats of the output.
const (
	formatMarkdown = "markdown"
	formatJSON     = "json"
)

// sized are the flags that say how much is measured: with their usual value, and that of --quick.
var sized = map[string]struct{ usual, quick, about string }{
	"runs":       {"3", "1", "how often each figure is measured; cases of more than 1,000 targets are measured once"},
	"targets":    {"1,10,100,1000,5000", "1,10,100", "VMs to power off; above 1,000 they are in several clusters, for a round takes no more"},
	"delays":     {"0s/0s,10ms/1s,50ms/5s", "0s/0s,10ms/1s", "pairs of a call's latency and a task's duration"},
	"workers":    {"1,2,4", "1,2", "numbers of workers, which alternate"},
	"vms":        {"1000,10000,50000", "1000", "sizes of the inventory"},
	"candidates": {"10,100,2000,10000", "10,100", "VMs with the tag; those above the inventory's size are left out"},
	"clusters":   {"100", "10", "clusters in alarm"},
	"tags":       {"20000", "500", "tags that have nothing to do with preemption"},
	"events":     {"2000", "200", "events that the receiver is sent"},
}

// errUsage is a command line that cannot be used; its text says why.
var errUsage = errors.New("wrong usage")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errUsage, fmt.Errorf(format, args...))
}

// parse reads the command line. flag.ErrHelp: it asks for help.
func parse(args []string) (options, error) {
	o := options{}
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.BoolVar(&o.quick, "quick", false, "")
	set.StringVar(&o.output, "o", formatMarkdown, "")
	set.IntVar(&o.calls, "calls", 5, "")
	set.StringVar(&o.logs, "logs", "", "")
	texts := map[string]*string{}
	for name := range sized {
		texts[name] = set.String(name, "", "")
	}
	if err := set.Parse(args); errors.Is(err, flag.ErrHelp) {
		return o, flag.ErrHelp
	} else if err != nil {
		return o, refuse("%w", err)
	}
	if o.output != formatMarkdown && o.output != formatJSON {
		return o, refuse("-o %s: use markdown or json", o.output)
	}
	if o.calls < 1 || o.calls > 50 {
		return o, refuse("--calls %d: a worker makes 1 to 50 calls at once", o.calls)
	}
	if info, err := os.Stat(o.logs); o.logs != "" && (err != nil || !info.IsDir()) {
		return o, refuse("--logs %s: it is no folder; make it first", o.logs)
	}
	var err error
	if o.names, err = chosen(set.Args()); err != nil {
		return o, err
	}
	given := map[string]bool{}
	set.Visit(func(f *flag.Flag) { given[f.Name] = true })
	return o, o.sizes(texts, given)
}

// chosen returns the named benchmarks, all where none is named.
func chosen(names []string) ([]string, error) {
	var all []string
	for _, b := range benchmarks() {
		all = append(all, b.name)
	}
	if len(names) == 0 {
		return all, nil
	}
	for _, name := range names {
		if strings.HasPrefix(name, "-") {
			return nil, refuse("%s comes after a benchmark: put flags first", name)
		}
		if !slices.Contains(all, name) {
			return nil, refuse("there is no benchmark %q: use %s", name, strings.Join(all, ", "))
		}
	}
	return slices.DeleteFunc(all, func(name string) bool { return !slices.Contains(names, name) }), nil
}

// sizes reads the flags that say how much is measured.
func (o *options) sizes(texts map[string]*string, given map[string]bool) error {
	read := map[string]func(string) error{
		"runs": one(&o.runs), "clusters": one(&o.clusters), "tags": one(&o.tags), "events": one(&o.events),
		"targets": several(&o.targets, strconv.Atoi), "workers": several(&o.workers, strconv.Atoi),
		"vms": several(&o.vms, strconv.Atoi), "candidates": several(&o.candidates, strconv.Atoi),
		"delays": several(&o.delays, parseDelay),
	}
	for name, size := range sized {
		text := *texts[name]
		switch {
		case given[name] && !o.anyReads(name):
			return refuse("--%s says nothing to %s: see bench --help", name, strings.Join(o.names, ", "))
		case given[name]:
		case o.quick:
			text = size.quick
		default:
			text = size.usual
		}
		if err := read[name](text); err != nil {
			return refuse("--%s %q: %w", name, text, err)
		}
	}
	return o.limits()
}

// limits refuses sizes that cannot be measured.
func (o *options) limits() error {
	for name, most := range map[string]int{"runs": 100, "clusters": 1000, "events": 100_000} {
		n := map[string]int{"runs": o.runs, "clusters": o.clusters, "events": o.events}[name]
		if n < 1 || n > most {
			return refuse("--%s %d: use 1 to %d", name, n, most)
		}
	}
	if o.tags < 0 || o.tags > 100_000 {
		return refuse("--tags %d: use 0 to 100000", o.tags)
	}
	for name, list := range map[string][]int{"targets": o.targets, "workers": o.workers, "vms": o.vms, "candidates": o.candidates} {
		most := map[string]int{"targets": 50_000, "workers": 16, "vms": 100_000, "candidates": 100_000}[name]
		for _, n := range list {
			if n < 1 || n > most {
				return refuse("--%s %d: use 1 to %d", name, n, most)
			}
			if name == "targets" && n > perRound && n%perRound != 0 {
				return refuse("--targets %d: above %d use a multiple of it, for a round takes no more", n, perRound)
			}
		}
	}
	return nil
}

// anyReads reports whether a chosen benchmark reads the flag.
func (o *options) anyReads(name string) bool {
	for _, b := range benchmarks() {
		if slices.Contains(o.names, b.name) && slices.Contains(b.flags, name) {
			return true
		}
	}
	return false
}

func one(to *int) func(string) error {
	return func(text string) (err error) {
		if *to, err = strconv.Atoi(text); err != nil {
			return errors.New("it is no number")
		}
		return nil
	}
}

func several[T any](to *[]T, read func(string) (T, error)) func(string) error {
	return func(text string) error {
		for part := range strings.SplitSeq(text, ",") {
			v, err := read(strings.TrimSpace(part))
			if err != nil {
				return fmt.Errorf("%q: use a list such as 1,10; of delays such as 10ms/1s", part)
			}
			*to = append(*to, v)
		}
		return nil
	}
}

func parseDelay(text string) (d delay, err error) {
	call, task, found := strings.Cut(text, "/")
	if !found {
		task = "0s"
	}
	if d.call, err = time.ParseDuration(call); err != nil {
		return d, err
	}
	if d.task, err = time.ParseDuration(task); err != nil {
		return d, err
	}
	if d.call < 0 || d.task < 0 {
		return d, errors.New("a delay is negative")
	}
	return d, nil
}
